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


def _targets(sampled_boxes, box_index, sampled, boxes, offset_std):
    """Return the targets of one image: sampled boxes [R, 4], whose positives match ``boxes[box_index]``."""
    # Negatives match themselves, so that their offsets are finite.
    matched = jnp.where(sampled.is_positive[:, None], boxes[box_index], sampled_boxes)
    offsets = box_ops.encode_offsets(matched, sampled_boxes, offset_std)
    return Targets(sampled.is_positive, sampled.is_sampled, jax.lax.stop_gradient(offsets))


def rpg_targets(keys: Array, anchors: Array, batch: Batch, rules: RpgRules) -> tuple[jax.Array, Targets]:
    """Sample anchors of each image and compute their targets.

    Args:
        keys: one random key per image, [B].
        anchors: float32 [N, 4].
        batch: a batch, whose boxes and flags are used.
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
        sampled = sample(key, matches.label, rules.sampled, rules.max_positive)
        box_index = matches.box_index[sampled.index]
        return sampled.index, _targets(anchors[sampled.index], box_index, sampled, boxes, rules.offset_std)

    return jax.vmap(one_image)(keys, batch.boxes, batch.is_person, batch.is_ignore)


def sample_rois(keys: Array, proposals: Proposals, batch: Batch, rules: RdrRules) -> tuple[jax.Array, Targets]:
    """Sample RoIs of each image from its proposals and its annotated pedestrians.

    Args:
        keys: one random key per image, [B].
        proposals: the proposals of the RPG stage.
        batch: a batch, whose boxes and flags are used.
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
            positive_iou=rules.positive_iou,
            negative_iou=rules.positive_iou,
            ignore_ioa=rules.ignore_ioa,
            match_best_anchor=False,
            mask=mask,
        )
        sampled = sample(key, matches.label, rules.sampled, rules.max_positive)
        rois = candidates[sampled.index]
        return rois, _targets(rois, matches.box_index[sampled.index], sampled, boxes, rules.offset_std)

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
