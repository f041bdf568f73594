"""The region proposal network of one modality, and the proposals from its (fused) outputs (RPG stage)."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from dcrl_jax.models.layers import conv3x3_layer
from dcrl_jax.ops import boxes, nms
from dcrl_jax.structures import Proposals

HEAD_INIT = nn.initializers.normal(0.01)


class RegionProposalNetwork(nn.Module):
    """A 3x3 convolution with ReLU, then class logits and box offsets of every anchor from one 1x1 convolution each.

    Attributes:
        channels: outputs of the 3x3 convolution.
        anchors_per_cell: A.
        dtype: of the activations; the outputs are float32.
    """

    channels: int
    anchors_per_cell: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, features: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Map [B, h, w, C] to logits [B, N, 2] and normalised offsets [B, N, 4], float32, N = h * w * A."""
        hidden = nn.relu(conv3x3_layer(self.channels, self.dtype, "conv")(features)).astype(jnp.float32)
        logits = nn.Conv(2 * self.anchors_per_cell, (1, 1), kernel_init=HEAD_INIT, name="logits")(hidden)
        offsets = nn.Conv(4 * self.anchors_per_cell, (1, 1), kernel_init=HEAD_INIT, name="offsets")(hidden)
        batch = features.shape[0]
        return logits.reshape(batch, -1, 2), offsets.reshape(batch, -1, 4)


@functools.partial(jax.jit, static_argnames=("image_size", "offset_std", "min_size_px", "before_nms", "kept", "iou"))
def propose(
    logits: jax.Array,
    offsets: jax.Array,
    anchors: jax.Array,
    *,
    image_size: tuple[int, int],
    offset_std: tuple[float, float, float, float],
    min_size_px: float,
    before_nms: int,
    kept: int,
    iou: float,
) -> Proposals:
    """Return the proposals of each image from the outputs of the RPG stage, without gradient.

    Decode the boxes, clip them to the image, drop those with a side below ``min_size_px``, keep the ``before_nms``
    best, apply greedy NMS, keep the ``kept`` best (the order of Faster R-CNN).

    Args:
        logits: float32 [B, N, 2].
        offsets: float32 [B, N, 4], normalised by ``offset_std``.
        anchors: float32 [N, 4].
        image_size: (height, width) of the network input in pixels.
        offset_std: the divisors that normalised the four offsets.
        min_size_px: smallest side of a proposal in pixels.
        before_nms: largest number of boxes that enter NMS.
        kept: P, largest number of boxes kept by NMS.
        iou: NMS suppresses a box whose IoU with a kept box is above this.

    Returns:
        Proposals, P positions per image.
    """
    before = min(before_nms, anchors.shape[0])

    def one_image(image_logits, image_offsets):
        scores = image_logits[:, 1] - image_logits[:, 0]
        decoded = boxes.decode_offsets(image_offsets, anchors, offset_std)
        decoded = boxes.clip_to_image(decoded, *image_size)
        sides = jnp.minimum(decoded[:, 2] - decoded[:, 0], decoded[:, 3] - decoded[:, 1])
        # top_k sorts equal scores by ascending index, as greedy NMS expects.
        best_scores, best = jax.lax.top_k(jnp.where(sides >= min_size_px, scores, -jnp.inf), before)
        best_boxes = decoded[best]
        index, mask = nms.nms(best_boxes, best_scores, best_scores > -jnp.inf, iou, kept)
        return Proposals(best_boxes[index], best_scores[index], mask)

    return jax.vmap(one_image)(jax.lax.stop_gradient(logits), jax.lax.stop_gradient(offsets))
