"""From a config to the model, its anchors and its detection rules."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dcrl_jax.config_checks import check_config
from dcrl_jax.models.student import Student
from dcrl_jax.models.teacher import Teacher
from dcrl_jax.ops.anchors import anchor_heights_px, grid_anchors
from dcrl_jax.structures import CHANNELS

Detector = Teacher | Student


class ProposalRules(NamedTuple):
    """Keyword arguments of ``rpn.propose``."""

    image_size: tuple[int, int]
    offset_std: tuple[float, ...]
    min_size_px: float
    before_nms: int
    kept: int
    iou: float


def build_model(config: ConfigDict) -> Detector:
    """The teacher, student or baseline that a config describes; raises InputError for settings that mean nothing."""
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
        return Student(adaption=config.role == "student" and config.distillation.fea, **shared)
    return Teacher(
        cfl=config.cfl.enabled,
        cfl_shared_fraction=config.cfl.shared_fraction,
        cfl_groups=config.cfl.groups,
        cfl_aggregation=config.cfl.aggregation,
        cfl_specific_gain=config.cfl.specific_gain,
        fusion=config.fusion.strategy,
        fusion_grid=tuple(config.fusion.grid) or None,
        fusion_hidden=config.fusion.hidden,
        **shared,
    )


def build_anchors(config: ConfigDict) -> np.ndarray:
    """All anchors of the config's input, float32 [N, 4]; raises InputError for a size the stride does not divide."""
    keys, data = config.anchors, config.data
    heights = anchor_heights_px(keys.per_cell, *anchor_range_px(config))
    return grid_anchors(data.height_px, data.width_px, config.backbone.stride, heights, keys.aspect_ratio)


def anchor_range_px(config: ConfigDict) -> tuple[float, float]:
    """Heights of the smallest and the largest anchors in pixels of the config's input, with which they are scaled."""
    keys = config.anchors
    scale = config.data.height_px / keys.reference_height_px
    return keys.smallest_px * scale, keys.largest_px * scale


def proposal_rules(config: ConfigDict, kept: int) -> ProposalRules:
    """How the RPG stage's outputs become ``kept`` proposals."""
    keys = config.rpn
    return ProposalRules(
        image_size=(config.data.height_px, config.data.width_px),
        offset_std=tuple(keys.offset_std),
        min_size_px=keys.min_size_px,
        before_nms=keys.before_nms,
        kept=kept,
        iou=keys.nms_iou,
    )


def init_params(model: Detector, config: ConfigDict, seed: int) -> Any:
    """Random parameters, float32, by the initialisers of the modules (paper V-B: Gaussian)."""
    height, width = config.data.height_px, config.data.width_px
    images = [np.zeros((1, height, width, CHANNELS[name]), np.uint8) for name in model.modalities]
    rois = np.zeros((1, 1, 4), np.float32)
    # Many threefry draws in one program compile for a minute on a CPU; XLA's own generator takes seconds.
    key = jax.random.key(seed, impl="rbg")
    return jax.jit(model.init)(key, *images, rois)["params"]
