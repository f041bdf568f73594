"""Everything but data and parameters that a loss depends on, from a config."""

from typing import NamedTuple

from ml_collections import ConfigDict

from dcrl_jax.losses.distillation import NOTHING, STAGES, Distillation, loss_weights
from dcrl_jax.models.build import ProposalRules, proposal_rules
from dcrl_jax.training.targets import RdrRules, RpgRules


class TrainingRules(NamedTuple):
    """How targets are made, what the teacher adds, and the weight of every term."""

    proposals: ProposalRules
    rpg: RpgRules
    rdr: RdrRules
    stride: int
    distillation: Distillation
    weights: dict[str, float]


def training_rules(config: ConfigDict) -> TrainingRules:
    """The rules that a config asks for."""
    rpn, roi, loss = config.rpn, config.roi, config.loss
    std = tuple(rpn.offset_std)
    distillation = NOTHING
    if config.role == "student":
        distillation = Distillation(**config.distillation)
        distillation = distillation._replace(seg=distillation.seg and bool(config.segmentation.stages))
    weights = loss_weights(distillation, loss.box_weight, loss.segmentation_weight)
    weights |= {f"{stage}_branches": loss.per_branch_weight for stage in STAGES}
    return TrainingRules(
        proposals=proposal_rules(config, rpn.kept_training),
        rpg=RpgRules(
            rpn.positive_iou,
            rpn.negative_iou,
            rpn.ignore_ioa,
            rpn.match_best_anchor,
            rpn.sampled,
            rpn.max_positive,
            std,
        ),
        rdr=RdrRules(roi.positive_iou, roi.ignore_ioa, roi.sampled, roi.max_positive, std),
        stride=config.backbone.stride,
        distillation=distillation,
        weights=weights,
    )
