"""Assignment of anchors or proposals to annotated people."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dcrl_jax.ops import boxes as box_ops

POSITIVE, NEGATIVE, NEITHER = 1, 0, -1


class Matches(NamedTuple):
    """Labels of the anchors (or proposals) of one image."""

    label: jax.Array  # int32 [N], POSITIVE, NEGATIVE or NEITHER
    box_index: jax.Array  # int32 [N], the person with the highest IoU; defined where iou > 0
    iou: jax.Array  # float32 [N], IoU with this person


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
    """Label the anchors (or proposals) of one image by their overlap with its annotations.

    Positive: IoU with a person above ``positive_iou`` (Sec. V-B). Negative: IoU with every person below
    ``negative_iou``, and at most ``ignore_ioa`` of the anchor's area inside any ignore region. All others are neither.

    Args:
        anchors: float32 [N, 4].
        boxes: float32 [G, 4], G >= 1; a box with neither flag is padding and may hold any value, including NaN.
        is_person: bool [G].
        is_ignore: bool [G].
        positive_iou: lower limit of the IoU with a person, for positives.
        negative_iou: upper limit of the IoU with every person, for negatives.
        ignore_ioa: limit of the fraction of an anchor's area inside one ignore region.
        match_best_anchor: whether all anchors that share a person's highest IoU, if it is above 0, are positive too
            (rule (i) of Faster R-CNN, Sec. 3.1.2). ``box_index`` is still the person with the anchor's own highest IoU.
        mask: bool [N], False for padded proposals, which may hold any value and become neither; None means all True.

    Returns:
        Matches, without gradient.
    """
    anchors, boxes = jax.lax.stop_gradient((jnp.asarray(anchors), jnp.asarray(boxes)))
    if mask is not None:
        anchors = jnp.where(mask[:, None], anchors, 0)
    persons = jnp.where(is_person[:, None], boxes, 0)
    regions = jnp.where(is_ignore[:, None], boxes, 0)
    # Without the barrier the compiler may compute the IoU twice with different rounding, and the comparison with the
    # maximum below would fail.
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
