"""Greedy non-maximum suppression with fixed shapes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dcrl_jax.ops import boxes as box_ops

# Boxes decided together.
TILE = 256


def _float32_below(threshold: float) -> np.float32:
    """The largest float32 not above the threshold: a float32 exceeds it exactly if it exceeds the threshold."""
    rounded = np.float32(threshold)
    return np.nextafter(rounded, np.float32(-np.inf)) if float(rounded) > threshold else rounded


def nms(
    boxes: jax.Array, scores: jax.Array, mask: jax.Array, iou_threshold: float, max_kept: int
) -> tuple[jax.Array, jax.Array]:
    """Keeps the best box, drops those that overlap it too much, goes on with the best that is left.

    Gives what ``torchvision.ops.nms`` gives on the CPU, cut after ``max_kept`` boxes. No gradient flows through it.

    Sorted boxes are decided a tile at a time. A box of the tile dies if a box kept before overlaps it; within the tile,
    the rule "alive if no living box before it overlaps it" is applied until nothing changes, which settles at least
    one more box each time, and in practice the whole tile after a few. The loop ends with the boxes or when enough are
    kept. Tiles keep the number of sequential steps low, which is what costs time on a GPU and in a batch.

    Args:
        boxes: float32 [N, 4].
        scores: float32 [N].
        mask: bool [N], False for padding, which may hold anything, NaN too.
        iou_threshold: a box dies when its IoU with a kept one is above it.
        max_kept: length of the result.

    Returns:
        index: int32 [max_kept], the kept boxes by falling score, of equal scores the lower index first; 0 in empty
            places.
        kept: bool [max_kept], False for empty places.
    """
    boxes, scores = jax.lax.stop_gradient((jnp.asarray(boxes), jnp.asarray(scores)))
    return greedy_nms(boxes, scores, jnp.asarray(mask), _float32_below(iou_threshold), max_kept)


# Jitted to be one step by this name in a traced program, which an exporter can replace by its format's own operator.
@functools.partial(jax.jit, static_argnames="max_kept")
def greedy_nms(
    boxes: jax.Array, scores: jax.Array, mask: jax.Array, threshold: np.float32, max_kept: int
) -> tuple[jax.Array, jax.Array]:
    """``nms`` after its preparations: a box dies when its float32 IoU with a kept one is above ``threshold``."""
    count = boxes.shape[0]
    tile = min(TILE, count)
    tiles = -(-count // tile)
    order = jnp.argsort(jnp.where(mask, -scores, jnp.inf), stable=True)
    order = jnp.pad(order, (0, tiles * tile - count))
    is_candidate = mask[order] & (jnp.arange(tiles * tile) < count)
    # Empty boxes overlap nothing: padding cannot suppress.
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
        # The living come first, in order; what follows them is overwritten by the next tile.
        compact = jnp.argsort(~alive, stable=True)
        kept_boxes = jax.lax.dynamic_update_slice_in_dim(
            kept_boxes, jnp.where(alive[compact, None], tile_boxes[compact], 0), kept_count, 0
        )
        kept_index = jax.lax.dynamic_update_slice_in_dim(kept_index, tile_index[compact], kept_count, 0)
        return step + 1, kept_count + jnp.sum(alive, dtype=jnp.int32), kept_boxes, kept_index

    # One tile of room behind the last place: an update that does not fit would be moved to the front.
    room = max_kept + tile
    start = (jnp.int32(0), jnp.int32(0), jnp.zeros((room, 4), boxes.dtype), jnp.zeros(room, order.dtype))
    _, kept_count, _, kept_index = jax.lax.while_loop(is_open, decide_tile, start)
    kept = jnp.arange(max_kept) < kept_count
    return jnp.where(kept, kept_index[:max_kept], 0).astype(jnp.int32), kept
