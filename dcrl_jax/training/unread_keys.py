"""The check for keys that a user sets and the run never reads: each is an error, so that none is ignored silently."""

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from ml_collections import ConfigDict

from dcrl_jax.config import TEACHER_SECTIONS
from dcrl_jax.errors import InputError
from dcrl_jax.models.vgg16 import BLOCKS, block_channels
from dcrl_jax.training.distill import teacher_config, trains_teacher
from dcrl_jax.training.terms import training_rules


class _Rule(NamedTuple):
    """Keys that nothing reads in some configs."""

    keys: tuple[str, ...]  # with dots, e.g. "train.epochs"
    unread: Callable[[ConfigDict], bool]  # whether a config is one of these
    why: str


def _cfl_is_off(config):
    return "cfl" in config and not config.cfl.enabled


def _cfl_has_one_part(config):
    if "cfl" not in config:
        return False
    channels = [block_channels(block, config.backbone.width) for block in range(1, len(BLOCKS) + 1)]
    return all(round(config.cfl.shared_fraction * count) in (0, count) for count in channels)


def _fusion_is_not(config, *strategies):
    return "fusion" in config and config.fusion.strategy not in strategies


def _distillation_is(config, name, value):
    return "distillation" in config and config.distillation[name] == value


def _has_list(config, split):
    return config.data.options.get(f"{split}_list") is not None


def _names_the_split(config):
    options = config.data.options
    given = any(_has_list(config, split) for split in ("train", "validation", "test"))
    return given or options.get("split") in ("train", "validation", "test")


# For a single detector. A config lacks the sections of other roles.
_RULES = (
    _Rule(("data.manual_dir",), lambda c: c.data.name.startswith("synthetic"), "synthetic scenes are rendered"),
    _Rule(
        ("data.unlabelled",), lambda c: not training_rules(c).distillation.any, "only a student with a teacher reads it"
    ),
    _Rule(
        ("data.validation_split",), lambda c: bool(c.data.validation_videos), "data.validation_videos takes its place"
    ),
    _Rule(("data.lwir_range_unit",), lambda c: not c.data.lwir_range, "data.lwir_range is empty"),
    _Rule(("optimizer.momentum",), lambda c: c.optimizer.name != "sgd", "only optimizer.name=sgd has one"),
    _Rule(
        ("optimizer.decay_epochs", "optimizer.decay_factor"),
        lambda c: c.optimizer.schedule != "steps",
        "only optimizer.schedule=steps reads it",
    ),
    _Rule(("optimizer.decay_factor",), lambda c: not c.optimizer.decay_epochs, "optimizer.decay_epochs is empty"),
    _Rule(("train.epochs",), lambda c: c.train.steps is not None, "train.steps overrides it"),
    _Rule(("init.vgg16",), lambda c: bool(c.init.checkpoint), "init.checkpoint overrides it"),
    _Rule(("init.rescale",), lambda c: bool(c.init.checkpoint), "init.checkpoint overrides it"),
    _Rule(("init.rescale",), lambda c: not c.init.vgg16, "init.vgg16 is empty"),
    _Rule(("loss.segmentation_weight",), lambda c: not c.segmentation.stages, "segmentation.stages is empty"),
    _Rule(
        ("eval.min_height_px", "eval.border_px"),
        lambda c: c.eval.rules != "kaist",
        "only eval.rules=kaist reads it; the other rules have their own",
    ),
    _Rule(("loss.per_branch_weight",), lambda c: c.role != "teacher", "only a teacher has several branches"),
    _Rule(("optimizer.fusion_rate_scale",), lambda c: c.role != "teacher", "only a teacher fuses modalities"),
    _Rule(
        ("optimizer.fusion_rate_scale",),
        lambda c: _fusion_is_not(c, "maf", "linear"),
        "fusion.strategy=average learns nothing",
    ),
    _Rule(("fusion.grid", "fusion.hidden"), lambda c: _fusion_is_not(c, "maf"), "only fusion.strategy=maf reads it"),
    _Rule(
        ("cfl.shared_fraction", "cfl.groups", "cfl.aggregation", "cfl.init", "cfl.specific_gain"),
        _cfl_is_off,
        "cfl.enabled is False",
    ),
    _Rule(("cfl.aggregation",), _cfl_has_one_part, "cfl.shared_fraction leaves one part, which needs no gate"),
    _Rule(
        ("cfl.groups", "cfl.specific_gain"),
        lambda c: "cfl" in c and c.cfl.shared_fraction == 1,
        "cfl.shared_fraction=1 leaves nothing specific",
    ),
    _Rule(("cfl.specific_gain",), lambda c: "cfl" in c and c.cfl.init == "identity", "cfl.init is identity"),
    _Rule(
        tuple(f"distillation.{name}" for name in ("rho", "relative")),
        lambda c: _distillation_is(c, "fea", False),
        "distillation.fea is False",
    ),
    _Rule(
        ("distillation.zeta", "distillation.temperature"),
        lambda c: _distillation_is(c, "cls", False),
        "distillation.cls is False",
    ),
    _Rule(
        ("distillation.epsilon", "distillation.delta"),
        lambda c: _distillation_is(c, "bbr", False),
        "distillation.bbr is False",
    ),
    _Rule(("distillation.xi",), lambda c: _distillation_is(c, "seg", False), "distillation.seg is False"),
    _Rule(("distillation.temperature",), lambda c: _distillation_is(c, "zeta", 1), "distillation.zeta is 1"),
    _Rule(("distillation.delta",), lambda c: _distillation_is(c, "epsilon", 0), "distillation.epsilon is 0"),
    _Rule(("distillation.seg", "distillation.xi"), lambda c: not c.segmentation.stages, "segmentation.stages is empty"),
    _Rule(("distillation.xi",), lambda c: not c.loss.segmentation_weight, "loss.segmentation_weight is 0"),
    _Rule(("distillation.epsilon", "distillation.delta"), lambda c: not c.loss.box_weight, "loss.box_weight is 0"),
    _Rule(("data.options.train_stride",), lambda c: _has_list(c, "train"), "data.options.train_list overrides it"),
    _Rule(("data.options.test_stride",), lambda c: _has_list(c, "test"), "data.options.test_list overrides it"),
    _Rule(
        ("data.options.test_share", "data.options.split_seed"),
        _names_the_split,
        "lists, or data.options.split, name the test pairs",
    ),
)


def check_unread_keys(config: ConfigDict, keys: Collection[str]) -> None:
    """Check that the run reads every key that a user set.

    Args:
        config: the recipe with the user's values.
        keys: the keys that the user set, with dots.

    Raises:
        InputError: nothing reads a key; lists all such keys with the reasons.
    """
    if "role" in keys:
        raise InputError("config.role is the recipe's; take configs/teacher.py, student.py or baseline.py instead.")
    unread = _unread_by_run(config)
    problems = []
    for key in keys:
        if reason := next((why for unread_key, why in unread.items() if _covers(unread_key, key)), None):
            problems.append(f"config.{key} has no effect: {reason}.")
    if problems:
        raise InputError("\n  ".join(problems) + "\nLeave such keys out, or change the keys that they depend on.")


def _unread_by_run(config: ConfigDict) -> Mapping[str, str]:
    """Return the reasons by unread key, of a detector and, for a student, of its teacher.

    A key that ends in a dot stands for its section.
    """
    own = _unread(config)
    if config.role != "student":
        return own
    if not training_rules(config).distillation.any:
        return own | {"teacher.": "all terms of distillation are off, so that there is no teacher"}
    if not trains_teacher(config):
        others = (*TEACHER_SECTIONS, "init")
        return own | {
            f"teacher.{name}.": "teacher.checkpoint names a teacher that is already trained" for name in others
        }
    teacher = _unread(teacher_config(config))
    # Student and teacher have their own values in these sections. The teacher takes all other values from its student:
    # such a key is unread only if neither reads it.
    sections = tuple(f"{name}." for name in TEACHER_SECTIONS)
    teacher_only = {f"teacher.{key}": why for key, why in teacher.items() if key.startswith(sections)}
    shared = {key: why for key, why in own.items() if key.startswith(sections) or key in teacher}
    student_only = {key: why for key, why in own.items() if key.startswith("distillation.")}
    return shared | student_only | teacher_only


def _unread(config: ConfigDict) -> dict[str, str]:
    return {key: rule.why for rule in _RULES if rule.unread(config) for key in rule.keys}


def _covers(unread_key: str, key: str) -> bool:
    return key.startswith(unread_key) if unread_key.endswith(".") else key == unread_key
