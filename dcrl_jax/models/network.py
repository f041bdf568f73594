"""A detector as one value, built once from a config: its modules, its anchors and its rules."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dcrl_jax.config import check_config, has_key
from dcrl_jax.errors import InputError
from dcrl_jax.models.detect import DetectionRules, ProposalRules, detect
from dcrl_jax.models.student import Student
from dcrl_jax.models.teacher import Teacher
from dcrl_jax.models.vgg16 import BLOCKS, block_channels
from dcrl_jax.ops.anchors import anchor_heights_px, grid_anchors
from dcrl_jax.structures import CHANNELS, Array, Detections

Model = Teacher | Student


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A detector without its parameters."""

    model: Model
    anchors: np.ndarray  # float32 [N, 4], pixels of the network input
    rules: DetectionRules

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of the images, in the order of ``detect``'s arguments."""
        return tuple(self.model.modalities)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self.rules.proposals.image_size

    def image_shapes(self, batch: int) -> list[jax.ShapeDtypeStruct]:
        """Return the shape of a batch of images of each modality, uint8 [batch, H, W, C]."""
        return [jax.ShapeDtypeStruct((batch, *self.input_size, CHANNELS[name]), np.uint8) for name in self.modalities]

    def init_params(self, seed: int) -> Any:
        """Return random parameters, float32, from the modules' initialisers (paper V-B: Gaussian)."""
        images = [np.zeros(image.shape, image.dtype) for image in self.image_shapes(1)]
        rois = np.zeros((1, 1, 4), np.float32)
        # Many threefry draws in one program compile for a minute on a CPU; XLA's own generator takes seconds.
        key = jax.random.key(seed, impl="rbg")
        return jax.jit(self.model.init)(key, *images, rois)["params"]

    def param_shapes(self) -> Any:
        """Return the shapes and dtypes of the parameters as a tree of ``jax.ShapeDtypeStruct``."""
        return jax.eval_shape(lambda: self.init_params(0))

    def detect(self, params: Any, *images: Array) -> tuple[Detections, Array | None]:
        """Detect pedestrians in images of the network's size; see ``detect.detect``."""
        return detect(self.model, params, self.anchors, self.rules, *images)


def build_network(config: ConfigDict) -> Network:
    """Build the network that a config describes.

    Raises:
        InputError: a value of the config is invalid, or the stride does not divide the size of the input.
    """
    return Network(build_model(config), build_anchors(config), detection_rules(config))


def crop_config(config: ConfigDict) -> ConfigDict:
    """Return the config of the network of a training step: its input is a crop, with anchors of the same heights.

    It is the config itself unless ``data.crop`` is set.
    """
    if not config.data.get("crop"):
        return config
    own = config.copy_and_resolve_references()
    height, width = config.data.crop
    own.anchors.reference_height_px *= height / config.data.height_px
    own.data.height_px, own.data.width_px = height, width
    return own


def build_model(config: ConfigDict) -> Model:
    """Build the modules of the teacher, student or baseline that a config describes.

    Raises:
        InputError: a value of the config is invalid.
    """
    check_config(config)
    shared = {
        "width": config.backbone.width,
        "norm": config.backbone.norm,
        "stride": config.backbone.stride,
        "segmentation_stages": tuple(config.segmentation.stages),
        "anchors_per_cell": config.anchors.per_cell,
        "roi_hidden": config.roi.hidden,
        "roi_size": config.roi.size,
        "roi_samples_per_bin": config.roi.samples_per_bin,
        "dtype": jnp.dtype(config.backbone.dtype),
        "remat": config.backbone.remat,
    }
    if config.role != "teacher":
        return Student(adapted_channels=_adapted_channels(config), **shared)
    _check_groups(config)
    return Teacher(
        cfl=config.cfl.enabled,
        cfl_shared_fraction=config.cfl.shared_fraction,
        cfl_groups=config.cfl.groups,
        cfl_aggregation=config.cfl.aggregation,
        cfl_init=config.cfl.init,
        cfl_specific_gain=config.cfl.specific_gain,
        fusion=config.fusion.strategy,
        fusion_grid=tuple(config.fusion.grid) or None,
        fusion_hidden=config.fusion.hidden,
        **shared,
    )


def _adapted_channels(config):
    """Return the channels of the teacher's features of both modalities; 0 if the feature distillation is off."""
    if config.role != "student" or not config.distillation.fea:
        return 0
    width = config.teacher.width if has_key(config, "teacher.width") else 0
    return 2 * block_channels(len(BLOCKS), width or config.backbone.width)


def _check_groups(config):
    cfl = config.cfl
    if not cfl.enabled or cfl.shared_fraction == 1:
        return
    for block in range(1, len(BLOCKS) + 1):
        channels = block_channels(block, config.backbone.width)
        specific = channels - round(cfl.shared_fraction * channels)
        if channels % cfl.groups or specific % cfl.groups:
            raise InputError(
                f"config.cfl.groups is {cfl.groups!r}; it must divide every block's channels and those that CFL keeps "
                f"to each modality, but block {block} has {channels} and {specific}. Set it to 1, for instance."
            )


def build_anchors(config: ConfigDict) -> np.ndarray:
    """Return all anchors of a config's input, float32 [N, 4].

    Raises:
        InputError: the stride does not divide the size of the input.
    """
    anchors, data = config.anchors, config.data
    heights = anchor_heights_px(anchors.per_cell, *anchor_range_px(config))
    return grid_anchors(data.height_px, data.width_px, config.backbone.stride, heights, anchors.aspect_ratio)


def anchor_range_px(config: ConfigDict) -> tuple[float, float]:
    """Return the heights of the smallest and the largest anchors in pixels of the config's input."""
    anchors = config.anchors
    scale = config.data.height_px / anchors.reference_height_px
    return anchors.smallest_px * scale, anchors.largest_px * scale


def proposal_rules(config: ConfigDict, kept: int) -> ProposalRules:
    """Return the rules that turn the RPG stage's outputs into ``kept`` proposals."""
    rpn = config.rpn
    return ProposalRules(
        image_size=(config.data.height_px, config.data.width_px),
        offset_std=tuple(rpn.offset_std),
        min_size_px=rpn.min_size_px,
        before_nms=rpn.before_nms,
        kept=kept,
        iou=rpn.nms_iou,
    )


def detection_rules(config: ConfigDict) -> DetectionRules:
    """Return a config's rules of detection."""
    final = config.final
    proposals = proposal_rules(config, config.rpn.kept_testing)
    return DetectionRules(proposals, final.min_score, final.nms_iou, final.max_detections)
