"""Greedy non-maximum suppression with fixed shapes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dcrl_jax.ops import boxes as box_ops
from dcrl_jax.structures import Array

# Number of boxes that are decided together.
TILE = 256


def _float32_below(threshold: float) -> np.float32:
    """Return the largest float32 not above the threshold: a float32 exceeds both or neither."""
    rounded = np.float32(threshold)
    return np.nextafter(rounded, np.float32(-np.inf)) if float(rounded) > threshold else rounded


def nms(boxes: Array, scores: Array, mask: Array, iou_threshold: float, max_kept: int) -> tuple[jax.Array, jax.Array]:
    """Return the boxes that greedy non-maximum suppression keeps, at most ``max_kept``.

    Keep the box with the highest score, drop the boxes that overlap it too much, and repeat with the others. Equals
    ``torchvision.ops.nms`` on the CPU, cut after ``max_kept`` boxes. The gradient through it is zero.

    Sorted boxes are decided a tile at a time. A box is suppressed if a box kept from an earlier tile overlaps it. In
    the tile, the rule "kept if no kept box before it overlaps it" is applied until nothing changes; each pass settles
    at least one more box, and a few passes usually settle the tile. The loop ends after the last box or when
    ``max_kept`` boxes are kept. Tiles keep the number of sequential steps low; these steps dominate the time on a GPU
    and in a batch.

    Args:
        boxes: float32 [N, 4], N >= 1.
        scores: float32 [N].
        mask: bool [N], False for padding, which may hold any value, including NaN.
        iou_threshold: a box is suppressed if its IoU with a kept box is above this.
        max_kept: length of the result.

    Returns:
        index: int32 [max_kept], the kept boxes by descending score, equal scores by ascending index; 0 at empty
            positions.
        kept: bool [max_kept], False at empty positions.
    """
    boxes, scores = jax.lax.stop_gradient((jnp.asarray(boxes), jnp.asarray(scores)))
    return greedy_nms(boxes, scores, jnp.asarray(mask), _float32_below(iou_threshold), max_kept)


# Jitted so that a traced program holds one call of this name, which an exporter can replace by its own operator.
@functools.partial(jax.jit, static_argnames="max_kept")
def greedy_nms(
    boxes: jax.Array, scores: jax.Array, mask: jax.Array, threshold: np.float32, max_kept: int
) -> tuple[jax.Array, jax.Array]:
    """Run ``nms`` with a float32 threshold: a box is suppressed if its float32 IoU with a kept box is above it."""
    count = boxes.shape[0]
    tile = min(TILE, count)
    tiles = -(-count // tile)
    order = jnp.argsort(jnp.where(mask, -scores, jnp.inf), stable=True)
    order = jnp.pad(order, (0, tiles * tile - count))
    is_candidate = mask[order] & (jnp.arange(tiles * tile) < count)
    # Padding becomes empty boxes, which overlap nothing and cannot suppress.
    candidates = jnp.where(is_candidate[:, None], boxes[order], 0)
    is_before = jnp.arange(tile)[:, None] < jnp.arange(tile)[None, :]

    def is_open(state):
        step, kept_count, _, _ = state
        return (step < tiles) & (kept_count < max_kept)

    def decide_tile(state):
        step, kept_count, kept_boxes, kept_index = state
        start = step * tile
        tile_boxes = jax.lax.dynamic_slice_in_dim(candidates, start, tile)
        tile_index = jax.lax.dynamic_slice_in_dim(order, start, tile)
        is_suppressed = jnp.any(box_ops.iou_matrix(kept_boxes, tile_boxes) > threshold, axis=0)
        survives = jax.lax.dynamic_slice_in_dim(is_candidate, start, tile) & ~is_suppressed
        suppresses = (box_ops.iou_matrix(tile_boxes, tile_boxes) > threshold) & is_before

        def settle(pair):
            alive, _ = pair
            return survives & ~jnp.any(suppresses & alive[:, None], axis=0), alive

        alive, _ = jax.lax.while_loop(lambda pair: jnp.any(pair[0] != pair[1]), settle, settle((survives, survives)))
        # Kept boxes move to the front, in order; the next tile overwrites the others.
        compact = jnp.argsort(~alive, stable=True)
        kept_boxes = jax.lax.dynamic_update_slice_in_dim(
            kept_boxes, jnp.where(alive[compact, None], tile_boxes[compact], 0), kept_count, 0
        )
        kept_index = jax.lax.dynamic_update_slice_in_dim(kept_index, tile_index[compact], kept_count, 0)
        return step + 1, kept_count + jnp.sum(alive, dtype=jnp.int32), kept_boxes, kept_index

    # One spare tile at the end: dynamic_update_slice would shift an update that does not fit.
    length = max_kept + tile
    initial = (jnp.int32(0), jnp.int32(0), jnp.zeros((length, 4), boxes.dtype), jnp.zeros(length, order.dtype))
    _, kept_count, _, kept_index = jax.lax.while_loop(is_open, decide_tile, initial)
    kept = jnp.arange(max_kept) < kept_count
    return jnp.where(kept, kept_index[:max_kept], 0).astype(jnp.int32), kept
