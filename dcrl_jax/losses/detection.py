"""Terms of the detection and segmentation losses, Eq. 1, 8 and 9.

Every term is a float32 scalar: a mean per image, then a mean over the images of the batch, so that the gradient of a
large batch is the mean of the gradients of its equal parts. Terms are unweighted; ``weighted_sum`` applies the config's
weights.

Notation: B images, R sampled anchors or RoIs, h x w cells of the conv5 map.
"""

from collections.abc import Mapping
from typing import cast

import jax
import jax.numpy as jnp
import optax

from dcrl_jax.structures import Array, RegionOutputs, Targets


def masked_mean(values: Array, mask: Array) -> jax.Array:
    """Return the mean of ``values`` over the true entries of ``mask``, both [B, ...], per image, then over images.

    An image without true entries counts as 0.
    """
    axes = tuple(range(1, values.ndim))
    total = jnp.sum(jnp.where(mask, values, 0.0), axis=axes)
    return jnp.mean(total / jnp.maximum(jnp.sum(mask, axis=axes), 1))


def _masked_cross_entropy(logits, is_pedestrian, mask):
    # Masked before the softmax too, so that padding cannot reach the gradient.
    logits = jnp.where(mask[..., None], logits, 0.0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, is_pedestrian.astype(jnp.int32))
    return masked_mean(losses, mask)


def classification(logits: Array, targets: Targets) -> jax.Array:
    """Return L_cls of Eq. 1: two-class cross entropy, mean over the sampled anchors or RoIs.

    Args:
        logits: float32 [B, R, 2].
        targets: of the same anchors or RoIs.
    """
    return _masked_cross_entropy(logits, targets.is_positive, targets.is_sampled)


def smooth_l1(errors: Array) -> jax.Array:
    """Return 0.5 e^2 where |e| < 1, else |e| - 0.5, per element (Fast R-CNN, Eq. 3)."""
    magnitude = jnp.abs(errors)
    return jnp.where(magnitude < 1.0, 0.5 * errors**2, magnitude - 0.5)


def box_regression(offsets: Array, targets: Targets) -> jax.Array:
    """Return L_reg of Eq. 1: smooth L1 summed over the four offsets of positives, divided by the number of samples.

    Args:
        offsets: float32 [B, R, 4], normalised.
        targets: of the same anchors or RoIs.
    """
    positive = (targets.is_positive & targets.is_sampled)[..., None]
    errors = jnp.where(positive, offsets - jnp.where(positive, targets.offsets, 0.0), 0.0)
    return masked_mean(jnp.sum(smooth_l1(errors), axis=-1), targets.is_sampled)


def box_mask(points_x: Array, points_y: Array, boxes: Array, chosen: Array) -> jax.Array:
    """Return whether each point is inside one of the chosen boxes: the box-shaped masks of Sec. III-C.

    Args:
        points_x: float32 [...], pixels of the network input.
        points_y: the same shape and unit.
        boxes: float32 [G, 4].
        chosen: bool [G].

    Returns:
        bool [...]; a box includes its left and top edge only.
    """
    boxes = jnp.where(chosen[:, None], boxes, 0.0)
    x, y = points_x[..., None], points_y[..., None]
    inside = (x >= boxes[:, 0]) & (x < boxes[:, 2]) & (y >= boxes[:, 1]) & (y < boxes[:, 3])
    return jnp.any(inside & chosen, axis=-1)


def cell_centres(height: int, width: int, stride: int) -> tuple[jax.Array, jax.Array]:
    """Return x and y of the centres of a map's cells, each float32 [height, width], pixels of the network input."""
    y, x = jnp.meshgrid(jnp.arange(height) + 0.5, jnp.arange(width) + 0.5, indexing="ij")
    return x * stride, y * stride


def bin_centres(rois: Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Return x and y of the centres of each RoI's bins, each float32 [R, size, size], for ``rois`` float32 [R, 4]."""
    steps = (jnp.arange(size) + 0.5) / size
    x = rois[:, 0, None] + (rois[:, 2] - rois[:, 0])[:, None] * steps
    y = rois[:, 1, None] + (rois[:, 3] - rois[:, 1])[:, None] * steps
    shape = (rois.shape[0], size, size)
    return jnp.broadcast_to(x[:, None, :], shape), jnp.broadcast_to(y[:, :, None], shape)


def segmentation(logits: Array, is_pedestrian: Array, counted: Array) -> jax.Array:
    """Return Eq. 8 or 9: two-class cross entropy, mean over the counted pixels of an image (and its RoIs).

    Args:
        logits: float32 [B, h, w, 2] (Eq. 8) or [B, R, s, s, 2] (Eq. 9); their softmax is q.
        is_pedestrian: q*, bool, the shape of ``logits`` without the last axis.
        counted: bool, the same shape; False in ignore regions and padded RoIs.
    """
    return _masked_cross_entropy(logits, is_pedestrian, counted)


def rpg_masks(
    height: int, width: int, stride: int, boxes: Array, is_person: Array, is_ignore: Array
) -> tuple[jax.Array, jax.Array]:
    """Return q* of Eq. 8 and the counted cells, each bool [B, height, width], on the grid of the conv5 map.

    A cell belongs to a pedestrian if its centre is inside a pedestrian's box. Other cells in ignore regions do not
    count.

    Args:
        height: rows of the conv5 map.
        width: columns of the conv5 map.
        stride: pixels per cell.
        boxes: float32 [B, G, 4].
        is_person: bool [B, G].
        is_ignore: bool [B, G].
    """
    x, y = cell_centres(height, width, stride)
    mask_of = jax.vmap(box_mask, in_axes=(None, None, 0, 0))
    pedestrian = mask_of(x, y, boxes, is_person)
    return pedestrian, pedestrian | ~mask_of(x, y, boxes, is_ignore)


def rdr_masks(
    rois: Array, size: int, is_sampled: Array, boxes: Array, is_person: Array, is_ignore: Array
) -> tuple[jax.Array, jax.Array]:
    """Return q* of Eq. 9 and the counted bins, each bool [B, R, size, size].

    Args:
        rois: float32 [B, R, 4].
        size: bins along each side of a RoI.
        is_sampled: bool [B, R], False for padded RoIs.
        boxes: float32 [B, G, 4].
        is_person: bool [B, G].
        is_ignore: bool [B, G].
    """

    def one_image(rois, boxes, is_person, is_ignore):
        x, y = bin_centres(rois, size)
        pedestrian = box_mask(x, y, boxes, is_person)
        return pedestrian, pedestrian | ~box_mask(x, y, boxes, is_ignore)

    pedestrian, counted = jax.vmap(one_image)(rois, boxes, is_person, is_ignore)
    return pedestrian, counted & is_sampled[..., None, None]


def stage_terms(outputs: RegionOutputs, targets: Targets, stage: str) -> dict[str, jax.Array]:
    """Return the classification and regression terms of one stage of Eq. 1, of the fused outputs and of the branches.

    Args:
        outputs: of the sampled anchors or RoIs.
        targets: of the same anchors or RoIs.
        stage: 'rpg' or 'rdr', the prefix of the terms.

    Returns:
        ``{stage}_cls``, ``{stage}_reg`` and, with branches, ``{stage}_branches``: the sum of both terms of a branch,
            mean over the modalities.
    """
    terms = {
        f"{stage}_cls": classification(outputs.logits, targets),
        f"{stage}_reg": box_regression(outputs.offsets, targets),
    }
    if outputs.branch_logits is None or outputs.branch_offsets is None:
        return terms
    branches = [
        classification(logits, targets) + box_regression(offsets, targets)
        for logits, offsets in zip(outputs.branch_logits, outputs.branch_offsets, strict=True)
    ]
    return terms | {f"{stage}_branches": cast(jax.Array, sum(branches)) / len(branches)}


def weighted_sum(terms: Mapping[str, jax.Array], weights: Mapping[str, float]) -> jax.Array:
    """Return the total of Eq. 1 or 14: the sum of the terms, each times its weight.

    A term with weight 0 is left out, so that its gradient is not computed.

    Raises:
        KeyError: a term has no weight.
    """
    return cast(jax.Array, sum(weights[name] * term for name, term in terms.items() if weights[name]))
