"""DCRL-PDN, the teacher: two VGG-16 branches coupled by CFL, Faster R-CNN heads, segmentation, modality fusion."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dcrl_jax.models.cfl import CrossModalFeatureLearning
from dcrl_jax.models.fusion import ModalityFusion, fuse
from dcrl_jax.models.roi_head import RoiHead
from dcrl_jax.models.rpn import HEAD_INIT, RegionProposalNetwork
from dcrl_jax.models.vgg16 import BLOCKS, Vgg16, block_channels, normalise, pools_after, run_block
from dcrl_jax.ops.pooling import max_pool
from dcrl_jax.ops.roi_align import roi_align
from dcrl_jax.structures import MODALITIES, RegionOutputs


class TeacherFeatures(NamedTuple):
    """Results of the RPG stage that the RDR stage and the distillation use."""

    maps: tuple[jax.Array, jax.Array]  # o^1, o^2 after conv5, [B, h, w, C] of the teacher's dtype
    weights: jax.Array  # mu, float32 [B, 2], Eq. 11

    def concatenated(self) -> jax.Array:
        """Return E^t of Eq. 15, both maps, [B, h, w, 2 C]."""
        return jnp.concatenate(self.maps, axis=-1)


class Teacher(nn.Module):
    """The multimodal detector of Fig. 1 in two stages, ``propose_regions`` (RPG) and ``refine`` (RDR).

    Attributes:
        width: multiplier of VGG's channel counts and of the RPN's 512.
        norm: see Vgg16.
        stride: pixels of the network input per cell of the conv5 map, 8 or 16.
        cfl: whether there are CFL modules. Without them, both branches' heads read the concatenated conv5 features
            (Fig. 6).
        cfl_shared_fraction: alpha of CrossModalFeatureLearning.
        cfl_groups: G of CrossModalFeatureLearning.
        cfl_aggregation: 'attention' or 'average', see CrossModalFeatureLearning.
        cfl_init: 'gaussian' or 'identity', see CrossModalFeatureLearning.
        cfl_specific_gain: see CrossModalFeatureLearning.
        fusion: 'maf', 'linear' or 'average', see ModalityFusion.
        fusion_grid: see ModalityFusion.
        fusion_hidden: see ModalityFusion.
        segmentation_stages: the stages with the segmentation task, from 'rpg' and 'rdr' (Table VI).
        anchors_per_cell: A.
        roi_hidden: units of fc6 and of fc7.
        roi_size: bins along each side of a RoI.
        roi_samples_per_bin: samples along each side of a bin.
        dtype: of the activations of backbones, CFL and hidden layers, float32 or bfloat16. Parameters, RoIAlign's sums,
            fusion and the outputs of the heads are float32.
        remat: whether the backward pass recomputes each block of the backbones instead of storing its activations.
    """

    width: float = 1.0
    norm: str = "none"
    stride: int = 8
    cfl: bool = True
    cfl_shared_fraction: float = 0.5
    cfl_groups: int = 2
    cfl_aggregation: str = "attention"
    cfl_init: str = "gaussian"
    cfl_specific_gain: float = 1.0
    fusion: str = "maf"
    fusion_grid: tuple[int, int] | None = (4, 5)
    fusion_hidden: int = 256
    segmentation_stages: Sequence[str] = ("rpg", "rdr")
    anchors_per_cell: int = 9
    roi_hidden: int = 4096
    roi_size: int = 7
    roi_samples_per_bin: int = 2
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    modalities: ClassVar[tuple[str, ...]] = MODALITIES

    def setup(self):
        """Create the layers."""
        self.backbones = {name: Vgg16(self.width, self.norm, self.dtype) for name in MODALITIES}
        if self.cfl:
            self.cfl_blocks = [self.cfl_module(self.dtype) for _ in BLOCKS]
        channels = block_channels(5, self.width)
        self.rpns = {name: RegionProposalNetwork(channels, self.anchors_per_cell, self.dtype) for name in MODALITIES}
        self.roi_heads = {name: RoiHead(self.roi_hidden, self.dtype) for name in MODALITIES}
        self.modality_fusion = ModalityFusion(self.fusion, self.fusion_grid, self.fusion_hidden)
        if "rpg" in self.segmentation_stages:
            self.segmentation_rpg = nn.Conv(2, (1, 1), kernel_init=HEAD_INIT)
        if "rdr" in self.segmentation_stages:
            self.segmentation_rdr = nn.Conv(2, (1, 1), kernel_init=HEAD_INIT)

    @nn.nowrap
    def cfl_module(self, dtype: jnp.dtype) -> CrossModalFeatureLearning:
        """Return a CFL module with this teacher's attributes, for activations of ``dtype``."""
        return CrossModalFeatureLearning(
            self.cfl_shared_fraction,
            self.cfl_groups,
            self.cfl_aggregation,
            self.cfl_init,
            self.cfl_specific_gain,
            dtype,
        )

    def extract(self, visible: jax.Array, lwir: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Map uint8 images [B, H, W, 3] and [B, H, W, 1] to conv5 maps o^1, o^2, each [B, H/stride, W/stride, C]."""
        features = (normalise(visible, self.dtype), normalise(lwir, self.dtype))
        for block in range(1, len(BLOCKS) + 1):
            features = run_block(self, block, features)
        return features

    def block(self, block: int, features: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        """Apply block 1..5 of both backbones, its CFL module and its pool."""
        visible, lwir = (self.backbones[name].block(block, x) for name, x in zip(MODALITIES, features, strict=True))
        if self.cfl:
            visible, lwir = self.cfl_blocks[block - 1]((visible, lwir))
        return (max_pool(visible), max_pool(lwir)) if block in pools_after(self.stride) else (visible, lwir)

    def _head_inputs(self, features):
        if self.cfl:
            return features
        return (jnp.concatenate(features, axis=-1),) * len(features)

    def propose_regions(self, visible: jax.Array, lwir: jax.Array) -> tuple[TeacherFeatures, RegionOutputs]:
        """Run the RPG stage.

        Args:
            visible: uint8 [B, H, W, 3].
            lwir: uint8 [B, H, W, 1].

        Returns:
            The features, and the outputs for all N anchors in the order of ``anchors.grid_anchors``.
        """
        maps = self.extract(visible, lwir)
        features = TeacherFeatures(maps, self.modality_fusion(maps))
        heads = [self.rpns[name](x) for name, x in zip(MODALITIES, self._head_inputs(maps), strict=True)]
        segmentation = self.segmentation_rpg(features.concatenated()) if "rpg" in self.segmentation_stages else None
        return features, _fuse_heads(features.weights, heads, segmentation)

    def refine(self, features: TeacherFeatures, rois: jax.Array) -> RegionOutputs:
        """Run the RDR stage: RoIAlign and a head in each branch, fused by the weights of the RPG stage.

        Args:
            features: from ``propose_regions``.
            rois: float32 [B, R, 4]; padded rows may hold any finite values.

        Returns:
            The outputs for the R RoIs.
        """
        align = jax.vmap(lambda x, r: roi_align(x, r, self.stride, self.roi_size, self.roi_samples_per_bin))
        pooled = tuple(align(x, rois) for x in features.maps)
        heads = [self.roi_heads[name](x) for name, x in zip(MODALITIES, self._head_inputs(pooled), strict=True)]
        segmentation = None
        if "rdr" in self.segmentation_stages:
            segmentation = self.segmentation_rdr(jnp.concatenate(pooled, axis=-1))
        return _fuse_heads(features.weights, heads, segmentation)

    def __call__(self, visible: jax.Array, lwir: jax.Array, rois: jax.Array) -> RegionOutputs:
        """Run both stages on the given RoIs; used to initialise all parameters."""
        features, _ = self.propose_regions(visible, lwir)
        return self.refine(features, rois)


def _fuse_heads(weights, heads, segmentation):
    """Return the fused outputs of the (logits, offsets) of each branch, with the branches' own."""
    branch_logits = jnp.stack([logits for logits, _ in heads])
    branch_offsets = jnp.stack([offsets for _, offsets in heads])
    return RegionOutputs(
        logits=fuse(weights, branch_logits),
        offsets=fuse(weights, branch_offsets),
        segmentation_logits=segmentation,
        branch_logits=branch_logits,
        branch_offsets=branch_offsets,
        modality_weights=weights,
    )
