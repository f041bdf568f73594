"""Geometry and coding of boxes.

Boxes are ``[x1, y1, x2, y2]`` in continuous pixel coordinates (a box that covers one pixel is 1 wide) unless the
function's name says otherwise. Functions of a single set of boxes accept any leading axes and return the kind of array
that they are given, NumPy or JAX; functions of two sets return JAX arrays.
"""

import math
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from dcrl_jax.structures import Array

ArrayKind = TypeVar("ArrayKind", bound=Array)

# Largest log scale in decoding: a side of a box is at most 62.5 times its anchor's, as in torchvision.
MAX_LOG_SCALE = math.log(1000.0 / 16.0)


def _array_module(array: Array) -> Any:
    """Return ``numpy`` for a NumPy array, ``jax.numpy`` for a JAX array."""
    return np if isinstance(array, np.ndarray) else jnp


def xywh_to_xyxy(boxes: ArrayKind) -> ArrayKind:
    """Convert boxes ``[..., 4]`` from left, top, width and height to corners."""
    xp = _array_module(boxes)
    return xp.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def xyxy_to_xywh(boxes: ArrayKind) -> ArrayKind:
    """Convert boxes ``[..., 4]`` from corners to left, top, width and height."""
    xp = _array_module(boxes)
    return xp.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def area(boxes: Array) -> Array:
    """Return areas in square pixels, ``[...]``, of boxes ``[..., 4]``; negative if x1 > x2 or y1 > y2, but not both."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def clip_to_image(boxes: ArrayKind, height: float, width: float) -> ArrayKind:
    """Return boxes ``[..., 4]`` clipped to an image of ``height`` x ``width`` pixels."""
    xp = _array_module(boxes)
    x = xp.clip(boxes[..., 0::2], 0, width)
    y = xp.clip(boxes[..., 1::2], 0, height)
    return xp.stack([x[..., 0], y[..., 0], x[..., 1], y[..., 1]], axis=-1)


def _intersections(boxes_a: Array, boxes_b: Array) -> jax.Array:
    lower = jnp.maximum(boxes_a[:, None, :2], boxes_b[None, :, :2])
    upper = jnp.minimum(boxes_a[:, None, 2:], boxes_b[None, :, 2:])
    size = jnp.maximum(upper - lower, 0)
    return size[..., 0] * size[..., 1]


def _ratio(numerator: Array, denominator: Array) -> jax.Array:
    """Return the quotient, or 0 where the denominator is not positive; neither value nor gradient is NaN there."""
    usable = denominator > 0
    return jnp.where(usable, numerator / jnp.where(usable, denominator, 1), 0)


def iou_matrix(boxes_a: Array, boxes_b: Array) -> jax.Array:
    """Return the intersection over union of every pair of boxes.

    Args:
        boxes_a: float32 [N, 4].
        boxes_b: float32 [M, 4].

    Returns:
        float32 [N, M]; 0 for a pair whose union is empty.
    """
    intersection = _intersections(boxes_a, boxes_b)
    return _ratio(intersection, area(boxes_a)[:, None] + area(boxes_b)[None, :] - intersection)


def ioa_matrix(boxes: Array, regions: Array) -> jax.Array:
    """Return the fraction of each box's area inside each region: the overlap in KAIST's and Caltech's ignore rule.

    Args:
        boxes: float32 [N, 4].
        regions: float32 [M, 4].

    Returns:
        float32 [N, M]; 0 for a box without area.
    """
    intersection = _intersections(boxes, regions)
    return _ratio(intersection, jnp.broadcast_to(area(boxes)[:, None], intersection.shape))


def _centre_and_size(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    size = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * size, size


def encode_offsets(boxes: Array, anchors: Array, std: tuple[float, float, float, float] = (1, 1, 1, 1)) -> jax.Array:
    """Return the offsets from each anchor to its box: Faster R-CNN's t_x, t_y, t_w, t_h, each divided by its ``std``.

    Args:
        boxes: float32 [..., 4].
        anchors: float32 [..., 4].
        std: divisors that normalise the four offsets.

    Returns:
        float32 [..., 4], normalised; 0 where the box or the anchor is padding (NaN) or has no area.
    """
    boxes, anchors = jnp.asarray(boxes), jnp.asarray(anchors)
    has_area = jnp.all((boxes[..., 2:] > boxes[..., :2]) & (anchors[..., 2:] > anchors[..., :2]), -1, keepdims=True)
    unit_box = jnp.array([0, 0, 1, 1], anchors.dtype)
    centre, size = _centre_and_size(jnp.where(has_area, boxes, unit_box))
    anchor_centre, anchor_size = _centre_and_size(jnp.where(has_area, anchors, unit_box))
    offsets = jnp.concatenate([(centre - anchor_centre) / anchor_size, jnp.log(size / anchor_size)], axis=-1)
    return offsets / jnp.asarray(std, offsets.dtype)


def decode_offsets(offsets: Array, anchors: Array, std: tuple[float, float, float, float] = (1, 1, 1, 1)) -> jax.Array:
    """Return the boxes at the given offsets from their anchors: the inverse of ``encode_offsets``.

    Log scales are limited to ``MAX_LOG_SCALE``, so that an extreme prediction cannot overflow.

    Args:
        offsets: float32 [..., 4], normalised t_x, t_y, t_w, t_h.
        anchors: float32 [..., 4].
        std: the divisors of ``encode_offsets``.

    Returns:
        float32 [..., 4], not clipped to the image; a padded (NaN) anchor counts as an empty box at the origin.
    """
    offsets, anchors = jnp.asarray(offsets), jnp.asarray(anchors)
    # A NaN anchor would turn the zero gradient of a masked box into NaN, and with it every parameter's gradient.
    anchors = jnp.where(jnp.all(jnp.isfinite(anchors), -1, keepdims=True), anchors, 0)
    anchor_centre, anchor_size = _centre_and_size(anchors)
    offsets = offsets * jnp.asarray(std, offsets.dtype)
    centre = offsets[..., :2] * anchor_size + anchor_centre
    size = jnp.exp(jnp.minimum(offsets[..., 2:], MAX_LOG_SCALE)) * anchor_size
    return jnp.concatenate([centre - 0.5 * size, centre + 0.5 * size], axis=-1)
