"""The targets of the sampled anchors (RPG) and RoIs (RDR): Faster R-CNN's rules with ignore regions."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from dcrl_jax.ops import boxes as box_ops
from dcrl_jax.ops.matching import match
from dcrl_jax.ops.sampling import sample
from dcrl_jax.structures import Array, Batch, Proposals, RegionOutputs, Targets


class RpgRules(NamedTuple):
    """The rules that label and sample anchors; the config's ``rpn`` keys."""

    positive_iou: float
    negative_iou: float
    ignore_ioa: float
    match_best_anchor: bool
    sampled: int
    max_positive: int
    offset_std: tuple[float, float, float, float]


class RdrRules(NamedTuple):
    """The rules that label and sample RoIs; the config's ``roi`` keys."""

    positive_iou: float
    ignore_ioa: float
    sampled: int
    max_positive: int
    offset_std: tuple[float, float, float, float]


def _targets(chosen_boxes, chosen_index, is_positive, is_sampled, boxes, offset_std):
    matched = jnp.where(is_positive[:, None], boxes[chosen_index], chosen_boxes)
    offsets = box_ops.encode_offsets(matched, chosen_boxes, offset_std)
    return Targets(is_positive, is_sampled, jax.lax.stop_gradient(offsets))


def rpg_targets(keys: Array, anchors: Array, batch: Batch, rules: RpgRules) -> tuple[jax.Array, Targets]:
    """Sample anchors of each image and compute their targets.

    Args:
        keys: one random key per image, [B].
        anchors: float32 [N, 4].
        batch: its boxes and flags are used.
        rules: see RpgRules.

    Returns:
        Indices of the sampled anchors, int32 [B, R], and their targets.
    """
    anchors = jnp.asarray(anchors)

    def one_image(key, boxes, is_person, is_ignore):
        matches = match(
            anchors,
            boxes,
            is_person,
            is_ignore,
            rules.positive_iou,
            rules.negative_iou,
            rules.ignore_ioa,
            rules.match_best_anchor,
        )
        chosen = sample(key, matches.label, rules.sampled, rules.max_positive)
        targets = _targets(
            anchors[chosen.index],
            matches.box_index[chosen.index],
            chosen.is_positive,
            chosen.is_sampled,
            boxes,
            rules.offset_std,
        )
        return chosen.index, targets

    return jax.vmap(one_image)(keys, batch.boxes, batch.is_person, batch.is_ignore)


def sample_rois(keys: Array, proposals: Proposals, batch: Batch, rules: RdrRules) -> tuple[jax.Array, Targets]:
    """Sample RoIs of each image from its proposals and its annotated pedestrians.

    Args:
        keys: one random key per image, [B].
        proposals: of the RPG stage.
        batch: its boxes and flags are used.
        rules: see RdrRules.

    Returns:
        RoIs, float32 [B, R, 4], pixels, without gradient, finite where padded; and their targets.
    """

    def one_image(key, proposals, boxes, is_person, is_ignore):
        candidates = jnp.concatenate([proposals.boxes, boxes])
        mask = jnp.concatenate([proposals.mask, is_person])
        candidates = jnp.where(mask[:, None], candidates, 0.0)
        matches = match(
            candidates,
            boxes,
            is_person,
            is_ignore,
            rules.positive_iou,
            rules.positive_iou,
            rules.ignore_ioa,
            False,
            mask=mask,
        )
        chosen = sample(key, matches.label, rules.sampled, rules.max_positive)
        rois = candidates[chosen.index]
        box_index = matches.box_index[chosen.index]
        return rois, _targets(rois, box_index, chosen.is_positive, chosen.is_sampled, boxes, rules.offset_std)

    rois, targets = jax.vmap(one_image)(keys, proposals, batch.boxes, batch.is_person, batch.is_ignore)
    return jax.lax.stop_gradient(rois), targets


@functools.partial(jax.vmap, in_axes=(0, 0))
def _take(values, index):
    return values[index]


def take_anchors(outputs: RegionOutputs, index: Array) -> RegionOutputs:
    """Return the outputs of the sampled anchors; ``index`` is int32 [B, R] into N."""
    taken = outputs._replace(logits=_take(outputs.logits, index), offsets=_take(outputs.offsets, index))
    if outputs.branch_logits is None:
        return taken
    branches = jax.vmap(_take, in_axes=(0, None))
    return taken._replace(
        branch_logits=branches(outputs.branch_logits, index), branch_offsets=branches(outputs.branch_offsets, index)
    )
