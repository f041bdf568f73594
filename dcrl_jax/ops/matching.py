"""Which anchors or proposals stand for which person."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dcrl_jax.ops import boxes as box_ops

POSITIVE, NEGATIVE, NEITHER = 1, 0, -1


class Matches(NamedTuple):
    """One image's anchors (or proposals) beside its annotations."""

    label: jax.Array  # int32 [N], POSITIVE, NEGATIVE or NEITHER
    box_index: jax.Array  # int32 [N], the person that overlaps most; means something where iou > 0
    iou: jax.Array  # float32 [N], overlap with that person


def match(
    anchors: jax.Array,
    boxes: jax.Array,
    is_person: jax.Array,
    is_ignore: jax.Array,
    positive_iou: float,
    negative_iou: float,
    ignore_ioa: float,
    match_best_anchor: bool,
    mask: jax.Array | None = None,
) -> Matches:
    """Labels the anchors (or proposals) of one image by their overlap with its annotations.

    Positive: IoU with a person above ``positive_iou`` (Sec. V-B). Negative: IoU with every person below
    ``negative_iou``, and no more than ``ignore_ioa`` of the own area inside any ignore region. The others are neither.

    Args:
        anchors: float32 [N, 4].
        boxes: float32 [G, 4], G >= 1; a box with neither flag is padding and may hold anything, NaN too.
        is_person: bool [G].
        is_ignore: bool [G].
        positive_iou, negative_iou: limits of the IoU with a person.
        ignore_ioa: limit of the share of an anchor's own area inside one ignore region.
        match_best_anchor: also makes positive whatever overlaps a person most, all of them if several do equally, as
            long as it overlaps at all (Faster R-CNN's second rule). Such an anchor still stands for the person that it
            overlaps most itself.
        mask: bool [N], False for padded proposals, which become neither and may hold anything; all True if None.

    Returns:
        Matches; no gradient flows through it.
    """
    anchors, boxes = jax.lax.stop_gradient((jnp.asarray(anchors), jnp.asarray(boxes)))
    if mask is not None:
        anchors = jnp.where(mask[:, None], anchors, 0)
    persons = jnp.where(is_person[:, None], boxes, 0)
    regions = jnp.where(is_ignore[:, None], boxes, 0)
    # The barrier keeps the compiler from computing the overlaps twice with different rounding, which would break the
    # comparison of an overlap with the largest one below.
    iou = jax.lax.optimization_barrier(jnp.where(is_person[None, :], box_ops.iou_matrix(anchors, persons), 0))
    largest_iou = jnp.max(iou, axis=1)
    is_positive = largest_iou > positive_iou
    if match_best_anchor:
        best_of_person = jnp.max(iou, axis=0)
        is_positive |= jnp.any((iou == best_of_person[None, :]) & (iou > 0), axis=1)
    is_ignored = jnp.any(box_ops.ioa_matrix(anchors, regions) > ignore_ioa, axis=1)
    is_negative = (largest_iou < negative_iou) & ~is_ignored
    label = jnp.where(is_positive, POSITIVE, jnp.where(is_negative, NEGATIVE, NEITHER))
    if mask is not None:
        label = jnp.where(mask, label, NEITHER)
    return Matches(label.astype(jnp.int32), jnp.argmax(iou, axis=1).astype(jnp.int32), largest_iou)
