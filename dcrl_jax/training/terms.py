"""The unweighted loss terms of a batch: those of Eq. 1, and those that a frozen teacher adds (Eq. 14-18)."""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dcrl_jax.losses import detection, distillation
from dcrl_jax.losses.distillation import NO_DISTILLATION, STAGES, Distillation, loss_weights
from dcrl_jax.models.detect import ProposalRules, propose_regions, refine
from dcrl_jax.models.network import Network, proposal_rules
from dcrl_jax.models.rpn import propose
from dcrl_jax.structures import Array, Batch, RegionOutputs, Targets
from dcrl_jax.training.targets import RdrRules, RpgRules, rpg_targets, sample_rois, take_anchors


class TrainingRules(NamedTuple):
    """The constants of a loss: the rules of its targets, the terms that a teacher adds, the weights of all terms."""

    proposals: ProposalRules
    rpg: RpgRules
    rdr: RdrRules
    stride: int
    distillation: Distillation
    weights: dict[str, float]
    frozen_blocks: int  # of the backbones


def training_rules(config: ConfigDict) -> TrainingRules:
    """Return the rules of training that a config asks for."""
    rpn, roi, loss = config.rpn, config.roi, config.loss
    offset_std = tuple(rpn.offset_std)
    terms = NO_DISTILLATION
    if config.role == "student":
        terms = Distillation(**config.distillation)
        terms = terms._replace(seg=terms.seg and bool(config.segmentation.stages))
    weights = loss_weights(terms, loss.box_weight, loss.segmentation_weight)
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
            offset_std,
        ),
        rdr=RdrRules(roi.positive_iou, roi.ignore_ioa, roi.sampled, roi.max_positive, offset_std),
        stride=config.backbone.stride,
        distillation=terms,
        weights=weights,
        frozen_blocks=config.backbone.frozen_blocks,
    )


class Stage(NamedTuple):
    """The outputs of a stage for its sample, and their targets."""

    outputs: RegionOutputs  # of the sampled anchors (RPG) or RoIs (RDR); segmentation of the complete map or the RoIs
    targets: Targets
    is_pedestrian: jax.Array | None  # q* of Eq. 8 or 9, bool [B, h, w] or [B, R, 7, 7]; None without segmentation
    counted: jax.Array | None  # bool, the same shape; the pixels in the loss


class Forward(NamedTuple):
    """A forward pass on a batch, with its sampled anchors and RoIs."""

    features: Any  # the features of ``propose_regions``, for ``refine``
    anchors: jax.Array  # int32 [B, R], indices of the sampled anchors
    rois: jax.Array  # float32 [B, R, 4]
    rpg: Stage
    rdr: Stage


def forward(network: Network, params: Any, batch: Batch, keys: Array, rules: TrainingRules) -> Forward:
    """Run both stages on a batch, sample anchors and RoIs, and compute their targets.

    Args:
        network: the network to train.
        params: its parameter tree.
        batch: a batch of B images.
        keys: one random key per image, [B].
        rules: see TrainingRules.
    """
    model, anchors = network.model, network.anchors
    annotations = (batch.boxes, batch.is_person, batch.is_ignore)
    rpg_keys, rdr_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)

    images = [getattr(batch, name) for name in model.modalities]
    features, outputs = propose_regions(model, params, *images)
    index, targets = rpg_targets(rpg_keys, anchors, batch, rules.rpg)
    is_pedestrian = counted = None
    if outputs.segmentation_logits is not None:
        _, height, width, _ = outputs.segmentation_logits.shape
        is_pedestrian, counted = detection.rpg_masks(height, width, rules.stride, *annotations)
    rpg = Stage(take_anchors(outputs, index), targets, is_pedestrian, counted)

    proposals = propose(outputs.logits, outputs.offsets, anchors, **rules.proposals._asdict())
    rois, targets = sample_rois(rdr_keys, proposals, batch, rules.rdr)
    outputs = refine(model, params, features, rois)
    is_pedestrian = counted = None
    if outputs.segmentation_logits is not None:
        size = outputs.segmentation_logits.shape[2]
        is_pedestrian, counted = detection.rdr_masks(rois, size, targets.is_sampled, *annotations)
    return Forward(features, index, rois, rpg, Stage(outputs, targets, is_pedestrian, counted))


def detection_terms(run: Forward) -> dict[str, jax.Array]:
    """Return the terms of Eq. 1 for a teacher, a student or a baseline.

    Returns:
        ``{stage}_cls`` and ``{stage}_reg`` for the stages rpg and rdr, ``{stage}_seg`` for those with segmentation, and
        of a teacher ``{stage}_branches`` (see ``losses.detection.stage_terms``); each float32 [].
    """
    terms = {}
    for name in STAGES:
        stage = getattr(run, name)
        terms |= detection.stage_terms(stage.outputs, stage.targets, name)
        if stage.counted is not None:
            logits = stage.outputs.segmentation_logits
            terms[f"{name}_seg"] = detection.segmentation(logits, stage.is_pedestrian, stage.counted)
    return terms


def distillation_terms(
    run: Forward,
    network: Network,
    params: Any,
    teacher: Network,
    teacher_params: Any,
    batch: Batch,
    rules: TrainingRules,
) -> dict[str, jax.Array]:
    """Return the terms that a frozen teacher adds to those of its student.

    The teacher runs on the student's own sample: the same anchors, and the student's RoIs on the teacher's features. It
    makes no proposals. The compiler removes what no active term uses.

    Args:
        run: the student's forward pass.
        network: the student.
        params: the student's parameters.
        teacher: the teacher.
        teacher_params: the teacher's parameters, frozen.
        batch: a batch with both modalities.
        rules: the rules that say which terms are on, and their constants.

    Returns:
        ``fea``, ``{stage}_cls_soft``, ``{stage}_reg_bound`` and ``{stage}_seg_soft``, if on; each float32 [].
    """
    on = rules.distillation
    assert batch.lwir is not None
    features, rpg = propose_regions(teacher.model, teacher_params, batch.visible, batch.lwir)
    rdr = refine(teacher.model, teacher_params, features, run.rois)
    terms = {}
    if on.fea:
        adapted = cast(jax.Array, network.model.apply({"params": params}, run.features, method="adapt"))
        terms["fea"] = distillation.features(adapted, features.concatenated(), on.relative)
    for name, soft in (("rpg", take_anchors(rpg, run.anchors)), ("rdr", rdr)):
        stage = getattr(run, name)
        own = stage.outputs
        if on.cls:
            terms[f"{name}_cls_soft"] = distillation.classification(
                own.logits, soft.logits, stage.targets, on.temperature
            )
        if on.bbr:
            terms[f"{name}_reg_bound"] = distillation.box_regression(own.offsets, soft.offsets, stage.targets, on.delta)
        if on.seg and stage.counted is not None:
            # ``distill.check_fits`` refuses a teacher without the student's stages.
            assert soft.segmentation_logits is not None
            terms[f"{name}_seg_soft"] = distillation.segmentation(
                own.segmentation_logits, soft.segmentation_logits, stage.counted
            )
    return terms
