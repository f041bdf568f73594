"""One training step of the teacher: Eq. 1 on a batch, as pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dcrl_jax.losses import detection as losses
from dcrl_jax.models.build import ProposalRules, proposal_rules
from dcrl_jax.models.rpn import propose
from dcrl_jax.models.teacher import Teacher
from dcrl_jax.parallel import AXIS
from dcrl_jax.structures import Array, Batch
from dcrl_jax.training.targets import RdrRules, RpgRules, rpg_targets, sample_rois, take_anchors


class TrainState(NamedTuple):
    """What changes from step to step."""

    step: Array  # int32 []
    params: Any
    opt_state: optax.OptState


class TrainingRules(NamedTuple):
    """Everything but the parameters that the loss depends on."""

    proposals: ProposalRules
    rpg: RpgRules
    rdr: RdrRules
    stride: int
    weights: dict[str, float]


def training_rules(config: ConfigDict) -> TrainingRules:
    """The rules that a config asks for."""
    rpn, roi, loss = config.rpn, config.roi, config.loss
    std = tuple(rpn.offset_std)
    weights = {}
    for stage in ("rpg", "rdr"):
        weights |= {
            f"{stage}_cls": 1.0,
            f"{stage}_reg": loss.box_weight,
            f"{stage}_seg": loss.segmentation_weight,
            f"{stage}_branches": loss.per_branch_weight,
        }
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
        weights=weights,
    )


def teacher_terms(
    model: Teacher, params: Any, anchors: Array, batch: Batch, keys: Array, rules: TrainingRules
) -> dict[str, jax.Array]:
    """The unweighted terms of Eq. 1.

    Args:
      model: with parameters ``params``.
      params: its parameter tree.
      anchors: float32 [N, 4].
      batch: of B images.
      keys: one random key per image, [B].
      rules: see TrainingRules.

    Returns:
      ``rpg_cls, rpg_reg, rpg_seg, rdr_cls, rdr_reg, rdr_seg`` (those of stages with segmentation), and
      ``rpg_branches, rdr_branches`` (see ``losses.detection.stage_terms``).
    """
    variables = {"params": params}
    rpg_keys, rdr_keys = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    features, weights, rpg = model.apply(variables, batch.visible, batch.lwir, method="propose_regions")

    index, targets = rpg_targets(rpg_keys, anchors, batch, rules.rpg)
    terms = losses.stage_terms(take_anchors(rpg, index), targets, "rpg")
    people = (batch.boxes, batch.is_person, batch.is_ignore)
    if rpg.segmentation_logits is not None:
        height, width = rpg.segmentation_logits.shape[1:3]
        masks = losses.rpg_masks(height, width, rules.stride, *people)
        terms["rpg_seg"] = losses.segmentation(rpg.segmentation_logits, *masks)

    proposals = propose(rpg.logits, rpg.offsets, anchors, **rules.proposals._asdict())
    rois, targets = sample_rois(rdr_keys, proposals, batch, rules.rdr)
    rdr = model.apply(variables, features, weights, rois, method="refine")
    terms |= losses.stage_terms(rdr, targets, "rdr")
    if rdr.segmentation_logits is not None:
        size = rdr.segmentation_logits.shape[2]
        masks = losses.rdr_masks(rois, size, targets.is_sampled, *people)
        terms["rdr_seg"] = losses.segmentation(rdr.segmentation_logits, *masks)
    return terms


def image_keys(seed: int, step: Array, images: int) -> jax.Array:
    """One key per image of this device's batch, the same however many devices share the global batch.

    Must run inside the pmapped step: the images' places in the global batch follow from the device's.
    """
    slots = jax.lax.axis_index(AXIS) * images + jnp.arange(images)
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, slots)


def make_teacher_step(
    model: Teacher,
    optimizer: optax.GradientTransformation,
    anchors: Array,
    rules: TrainingRules,
    seed: int,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """Build the step for ``parallel.parallel_step``: gradients and metrics are means over the devices.

    The metrics are the terms, their weighted sum ``loss`` and ``gradient_norm``, each float32 [].
    """

    def step(state, batch):
        keys = image_keys(seed, state.step, batch.boxes.shape[0])

        def loss_of(params):
            terms = teacher_terms(model, params, anchors, batch, keys, rules)
            return losses.weighted_sum(terms, rules.weights), terms

        (loss, terms), gradients = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        gradients, metrics = jax.lax.pmean((gradients, {"loss": loss, **terms}), AXIS)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), metrics

    return step
