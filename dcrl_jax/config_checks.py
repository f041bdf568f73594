"""What a config's values must be: checked together, before anything is read, built or written."""

from collections.abc import Iterable, Iterator
from typing import Any

from ml_collections import ConfigDict

from dcrl_jax.errors import InputError
from dcrl_jax.models.vgg16 import BLOCKS, block_channels

_CHOICES = {
    "role": ("teacher", "student", "baseline"),
    "backbone.norm": ("none", "group"),
    "backbone.stride": (8, 16),
    "backbone.dtype": ("float32", "bfloat16"),
    "backbone.remat": (False, True),
    "cfl.aggregation": ("attention", "average"),
    "fusion.strategy": ("maf", "linear", "average"),
    "optimizer.name": ("adam", "sgd", "adamw"),
    "optimizer.schedule": ("steps", "cosine"),
}
_RULES = ("kaist", "caltech", "nightowls")
_POSITIVE = (
    "data.height_px",
    "data.width_px",
    "data.max_boxes",
    "backbone.width",
    "cfl.groups",
    "cfl.specific_gain",
    "fusion.hidden",
    "anchors.per_cell",
    "anchors.aspect_ratio",
    "anchors.smallest_px",
    "anchors.largest_px",
    "anchors.reference_height_px",
    "distillation.temperature",
    "rpn.sampled",
    "rpn.before_nms",
    "rpn.kept_training",
    "rpn.kept_testing",
    "roi.sampled",
    "roi.size",
    "roi.samples_per_bin",
    "roi.hidden",
    "final.max_detections",
    "train.batch_size",
    "train.epochs",
    "train.log_every_steps",
    "train.evaluate_every_epochs",
    "train.checkpoint_every_minutes",
    "eval.batch_size",
)
_NOT_NEGATIVE = (
    "seed",
    "data.train_min_height_px",
    "rpn.max_positive",
    "rpn.min_size_px",
    "roi.max_positive",
    "loss.box_weight",
    "loss.segmentation_weight",
    "loss.per_branch_weight",
    "optimizer.learning_rate",
    "optimizer.reference_batch_size",
    "optimizer.fusion_rate_scale",
    "optimizer.decay_factor",
    "optimizer.warmup_steps",
    "optimizer.weight_decay",
    "optimizer.clip_norm",
    "distillation.rho",
    "distillation.epsilon",
    "eval.min_height_px",
)
_SHARES = (
    "data.flip_probability",
    "data.brightness_jitter",
    "data.blank_probability",
    "cfl.shared_fraction",
    "rpn.positive_iou",
    "rpn.negative_iou",
    "rpn.ignore_ioa",
    "rpn.nms_iou",
    "roi.positive_iou",
    "roi.ignore_ioa",
    "final.min_score",
    "final.nms_iou",
    "optimizer.momentum",
    "distillation.zeta",
    "distillation.xi",
)
_LENGTHS = {"rpn.offset_std": (4,), "fusion.grid": (0, 2), "eval.border_px": (0, 4), "data.train_border_px": (0, 4)}
_MEMBERS = {"segmentation.stages": ("rpg", "rdr")}
# Sections that only one role has.
_OWNERS = {"cfl": "teacher", "fusion": "teacher", "distillation": "student"}


def check_config(config: ConfigDict) -> None:
    """Refuse values that mean nothing; raises InputError with every one of them, its key and what it must be."""
    problems = []

    def asked(keys: Iterable[str]) -> Iterator[str]:
        return (key for key in keys if _OWNERS.get(key.split(".")[0], config.role) == config.role)

    def require(key: str, holds: bool, must: str) -> None:
        if not holds:
            problems.append(f"config.{key} is {value_of(config, key)!r}; it must {must}.")

    for key in asked(_CHOICES):
        allowed = _CHOICES[key]
        require(key, value_of(config, key) in allowed, f"be one of: {', '.join(map(str, allowed))}")
    for key in asked(_POSITIVE):
        require(key, value_of(config, key) > 0, "be above 0")
    for key in asked(_NOT_NEGATIVE):
        require(key, value_of(config, key) >= 0, "not be negative")
    for key in asked(_SHARES):
        require(key, 0 <= value_of(config, key) <= 1, "lie in 0..1")
    for key in asked(_LENGTHS):
        lengths = _LENGTHS[key]
        values = value_of(config, key)
        fits = len(values) in lengths and all(isinstance(value, (int, float)) for value in values)
        require(key, fits, f"hold {' or '.join(map(str, lengths))} numbers")
    for key, allowed in _MEMBERS.items():
        require(key, set(value_of(config, key)) <= set(allowed), f"hold nothing but {' and '.join(allowed)}")
    # Not in configs from before there were several; a model of such a run is as good as before.
    require("eval.rules", config.eval.get("rules", "kaist") in _RULES, f"be one of: {', '.join(_RULES)}")
    for key in ("train.steps", "train.accumulation_steps"):
        require(key, value_of(config, key) is None or value_of(config, key) > 0, "be above 0")
    for stage in ("rpn", "roi"):
        keys = config[stage]
        require(f"{stage}.max_positive", keys.max_positive <= keys.sampled, f"not exceed {stage}.sampled")
    require("rpn.negative_iou", config.rpn.negative_iou <= config.rpn.positive_iou, "not exceed rpn.positive_iou")
    if not problems and config.role == "teacher" and config.cfl.enabled and config.cfl.shared_fraction < 1:
        fits, groups = True, config.cfl.groups
        for block in range(1, len(BLOCKS) + 1):
            channels = block_channels(block, config.backbone.width)
            own = channels - round(config.cfl.shared_fraction * channels)
            fits &= channels % groups == 0 and own % groups == 0
        require("cfl.groups", fits, "divide the channels of every block and those that CFL keeps to each modality")
    if problems:
        raise InputError("\n  ".join(problems))


def value_of(config: ConfigDict, key: str) -> Any:
    """The value of a dotted key; raises InputError where a config of another version lacks it."""
    value = config
    for part in key.split("."):
        if part not in value:
            raise InputError(f"config.{key} is missing: this config was saved by another version of dcrl_jax.")
        value = value[part]
    return value
