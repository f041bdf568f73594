"""DCRD-PDN, the student, and the RGB-only baseline: a VGG-16 backbone, Faster R-CNN heads, segmentation."""

from collections.abc import Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dcrl_jax.models.roi_head import RoiHead
from dcrl_jax.models.rpn import HEAD_INIT, RegionProposalNetwork
from dcrl_jax.models.vgg16 import BLOCKS, Vgg16, block_channels, normalise, pools_after, run_block
from dcrl_jax.ops.pooling import max_pool
from dcrl_jax.ops.roi_align import roi_align
from dcrl_jax.structures import RegionOutputs

# Name of the parameters of A, Eq. 15, which a baseline lacks.
ADAPTION_LAYER = "adaption_layer"


class Student(nn.Module):
    """The RGB-only detector of Fig. 2 in two stages, ``propose_regions`` (RPG) and ``refine`` (RDR).

    Attributes:
        adapted_channels: of the result of A, Eq. 15: the channels of E^t. A baseline and a student without the feature
            distillation have no A (0).

    The other attributes are those of ``Teacher``.
    """

    width: float = 1.0
    norm: str = "none"
    stride: int = 8
    adapted_channels: int = 1024
    segmentation_stages: Sequence[str] = ("rpg", "rdr")
    anchors_per_cell: int = 9
    roi_hidden: int = 4096
    roi_size: int = 7
    roi_samples_per_bin: int = 2
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    modalities: ClassVar[tuple[str, ...]] = ("visible",)

    def setup(self):
        """Create the layers."""
        self.backbone = Vgg16(self.width, self.norm, self.dtype)
        channels = block_channels(5, self.width)
        if self.adapted_channels:
            init = nn.initializers.he_normal()
            self.adaption_layer = nn.Conv(self.adapted_channels, (1, 1), kernel_init=init, dtype=self.dtype)
        self.rpn = RegionProposalNetwork(channels, self.anchors_per_cell, self.dtype)
        self.roi_head = RoiHead(self.roi_hidden, self.dtype)
        if "rpg" in self.segmentation_stages:
            self.segmentation_rpg = nn.Conv(2, (1, 1), kernel_init=HEAD_INIT)
        if "rdr" in self.segmentation_stages:
            self.segmentation_rdr = nn.Conv(2, (1, 1), kernel_init=HEAD_INIT)

    def extract(self, visible: jax.Array) -> jax.Array:
        """Map uint8 images [B, H, W, 3] to the conv5 map E^s, [B, H/stride, W/stride, C]."""
        features = normalise(visible, self.dtype)
        for block in range(1, len(BLOCKS) + 1):
            features = run_block(self, block, features)
        return features

    def block(self, block: int, features: jax.Array) -> jax.Array:
        """Apply block 1..5 of the backbone and its pool."""
        features = self.backbone.block(block, features)
        return max_pool(features) if block in pools_after(self.stride) else features

    def adapt(self, features: jax.Array) -> jax.Array:
        """Map the conv5 map [B, h, w, C] to A(E^s) of Eq. 15, float32 [B, h, w, adapted_channels]."""
        return self.adaption_layer(features).astype(jnp.float32)

    def propose_regions(self, visible: jax.Array) -> tuple[jax.Array, RegionOutputs]:
        """Run the RPG stage.

        Args:
            visible: uint8 [B, H, W, 3].

        Returns:
            The conv5 map, and the outputs for all N anchors in the order of ``anchors.grid_anchors``.
        """
        features = self.extract(visible)
        segmentation = self.segmentation_rpg(features) if "rpg" in self.segmentation_stages else None
        return features, RegionOutputs(*self.rpn(features), segmentation)

    def refine(self, features: jax.Array, rois: jax.Array) -> RegionOutputs:
        """Run the RDR stage.

        Args:
            features: from ``propose_regions``.
            rois: float32 [B, R, 4]; padded rows may hold any finite values.

        Returns:
            The outputs for the R RoIs.
        """
        align = jax.vmap(lambda x, r: roi_align(x, r, self.stride, self.roi_size, self.roi_samples_per_bin))
        pooled = align(features, rois)
        segmentation = self.segmentation_rdr(pooled) if "rdr" in self.segmentation_stages else None
        return RegionOutputs(*self.roi_head(pooled), segmentation)

    def __call__(self, visible: jax.Array, rois: jax.Array) -> RegionOutputs:
        """Run both stages on the given RoIs, and the adaption layer; used to initialise all parameters."""
        features, _ = self.propose_regions(visible)
        if self.adapted_channels:
            self.adapt(features)
        return self.refine(features, rois)
