"""The table of config keys, with the default, check, effect, source and meaning of each, and functions that read it.

The defaults are the paper's setting on KAIST; a recipe in ``configs/`` holds its differences from them.

Sources: "paper" is Liu et al., Deep Cross-modal Representation Learning and Distillation for Illumination-invariant
Pedestrian Detection; "peers" are two-stage KAIST detectors (MSDS-RCNN, AR-CNN); "Faster R-CNN" is Ren et al.; "ours" is
a choice made here. A key without a source names data, a file or the seed, or changes how the program works and not
what it computes.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from dcrl_jax.errors import InputError

ROLES = ("teacher", "student", "baseline")

# The sections that a student's ``config.teacher`` has of its own; the teacher takes all others from its student.
TEACHER_SECTIONS = ("cfl", "fusion", "optimizer", "train")


class Check(NamedTuple):
    """A condition on a value."""

    holds: Callable[[Any], bool]
    must: str  # the condition as a message states it, after "it must"


class Key(NamedTuple):
    """One row of the table.

    ``default`` is the type of the value if the key is empty by default. ``affects`` lists what depends on the key:

    - shapes: the shapes of the parameters
    - network: what the network computes with parameters of given shapes
    - outputs: the meaning of anchors, offsets and features, on which a teacher and its student must agree
    - input: the size of the network's input
    - length: how long a run is
    - running: how a run is watched, how it uses memory, where its data lies
    - scoring: which detections are kept and how they are scored
    - card: the model card of a published detector, which shows the key
    """

    name: str
    default: Any
    check: Check | None
    affects: str
    source: str
    meaning: str
    added: bool = False  # configs of earlier runs lack the key and mean its default

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles whose configs have the key."""
        return _SECTION_ROLES.get(self.name.partition(".")[0], ROLES)


def _one_of(*values):
    return Check(lambda value: value in values, f"be one of: {', '.join(map(str, values))}")


def _numbers(*lengths):
    def holds(values):
        return len(values) in lengths and all(map(_is_number, values))

    return Check(holds, f"hold {' or '.join(map(str, lengths))} numbers")


def _up_to(most):
    """Return the check of a size that takes memory as soon as a detector is opened, whoever made it."""
    return Check(lambda value: 0 < value <= most, f"be above 0 and at most {most:,}")


ABOVE_0 = Check(lambda value: value > 0, "be above 0")
EMPTY_OR_ABOVE_0 = Check(lambda value: value is None or value > 0, "be above 0")
NOT_NEGATIVE = Check(lambda value: value >= 0, "not be negative")
SHARE = Check(lambda value: 0 <= value <= 1, "lie in 0..1")
WIDTH_OR_0 = Check(lambda value: 0 <= value <= 4, "be at least 0 and at most 4")
SIZE = Check(
    lambda value: len(value) in (0, 2) and all(type(side) is int and side > 0 for side in value),
    "hold no numbers or a height and a width in pixels",
)
GRID = Check(
    lambda value: len(value) in (0, 2) and all(type(side) is int and 0 < side <= 512 for side in value),
    "hold 0 or 2 whole numbers, above 0 and at most 512",
)
STAGES = Check(lambda value: set(value) <= {"rpg", "rdr"}, "hold nothing but rpg and rdr")

_SECTION_ROLES = {"cfl": ("teacher",), "fusion": ("teacher",), "distillation": ("student",), "teacher": ("student",)}

# fmt: off
KEYS = (
    Key("seed", 0, NOT_NEGATIVE, "", "", "of parameters, data order, augmentation and sampling"),

    Key("data.name", "kaist", None, "card", "", "the data set, a folder of datasets/"),
    Key("data.options", {}, None, "card", "", "arguments of the data set's builder"),
    Key("data.data_dir", str, None, "running", "", "folder of prepared data; empty: the default of TFDS"),
    Key("data.manual_dir", str, None, "running", "", "folder of data that the user fetched"),
    Key("data.train_split", "train", None, "card", "", "name of the split to train on"),
    Key("data.test_split", "test", None, "scoring", "", "name of the split to score on"),
    Key("data.validation_split", "test", None, "", "ours", "scored during training to choose the best checkpoint. "
        "KAIST has none of its own. Where it is the test split, the last parameters are scored, not the best"),
    Key("data.validation_videos", (), None, "", "ours", "training images whose names begin so, such as set02/V003, are "
        "the validation split instead; complete videos, since neighbouring frames are near copies", added=True),
    Key("data.height_px", 512, _up_to(4096), "input", "KAIST", "of the network's input"),
    Key("data.width_px", 640, _up_to(4096), "input", "KAIST", "of the network's input"),
    Key("data.lwir_range", (), _numbers(0, 2), "input card", "ours", "values of thermal images of more than 8 bits "
        "that become 0 and 255; (): such images are refused", added=True),
    Key("data.lwir_range_unit", "counts", _one_of("counts", "percent"), "input card", "ours", "of lwir_range; percent: "
        "percentiles of each image", added=True),
    Key("data.grey_visible", False, _one_of(False, True), "input card", "ours", "whether grey visible images are "
        "taken, as three equal channels; otherwise they are refused", added=True),
    Key("data.max_boxes", 64, ABOVE_0, "", "ours", "padded annotations of each image; above KAIST's largest count"),
    Key("data.train_labels", ("person",), None, "card", "ours", "labels that train as pedestrians"),
    Key("data.train_ignore_labels", ("people", "person?", "cyclist", "ignore", "unpaired"), None, "", "ours",
        "labels that become ignore regions"),
    Key("data.train_min_height_px", 0.0, NOT_NEGATIVE, "", "ours", "as annotated; shorter people become ignore "
        "regions"),
    Key("data.train_max_occlusion", 2, None, "", "ours", "0 none, 1 partial, 2 heavy; above: ignore region"),
    Key("data.train_border_px", (), _numbers(0, 4), "", "ours", "x1, y1, x2, y2 as annotated; people who leave it "
        "become ignore regions; (): no border"),
    Key("data.train_drop_empty", False, None, "", "ours", "whether training leaves out images without a pedestrian"),
    Key("data.unlabelled", "", None, "", "ours", "folder of pairs without labels, of which a student also learns; its "
        "teacher's detections stand in for annotations", added=True),
    Key("data.crop", (), SIZE, "", "ours", "height and width in pixels of the part of a training pair, at "
        "the size of the network's input, that a step sees; three of four show a person; (): the whole pair",
        added=True),
    Key("data.flip_probability", 0.5, SHARE, "", "peers", "of a horizontal flip of the pair"),
    Key("data.brightness_jitter", 0.0, SHARE, "", "ours", "relative change of the visible image's brightness"),
    Key("data.blank_probability", 0.0, SHARE, "card", "ours", "of one modality being blank, so that a teacher learns "
        "to use the other; above 0, it also takes one image of a pair"),

    Key("backbone.width", 1.0, _up_to(4), "shapes network card", "paper", "multiplier of VGG-16's channels"),
    Key("backbone.norm", "none", _one_of("none", "group"), "shapes network card", "paper", "normalisation of "
        "the convolutions' outputs"),
    Key("backbone.stride", 8, _one_of(8, 16), "outputs card", "peers", "pixels; 8 leaves out pool4"),
    Key("backbone.dtype", "float32", _one_of("float32", "bfloat16"), "card", "", "of the activations; parameters and "
        "losses are float32"),
    Key("backbone.frozen_blocks", 0, Check(lambda value: value in range(5), "be one of: 0, 1, 2, 3, 4"), "", "paper",
        "blocks of VGG-16, from conv1 on, whose convolutions keep their first values; Faster R-CNN keeps two",
        added=True),
    Key("backbone.remat", False, _one_of(False, True), "running", "", "compute each block again in the backward pass: "
        "more time, less memory"),

    Key("segmentation.stages", ("rpg", "rdr"), STAGES, "shapes card", "paper Table VI", "stages with the auxiliary "
        "task"),

    Key("anchors.per_cell", 9, _up_to(32), "shapes outputs", "peers", "heights of anchors"),
    Key("anchors.aspect_ratio", 0.41, ABOVE_0, "outputs", "peers", "width / height of a pedestrian"),
    Key("anchors.smallest_px", 30.0, ABOVE_0, "outputs", "peers", "height at an input of reference_height_px; scaled "
        "with the input"),
    Key("anchors.largest_px", 500.0, ABOVE_0, "outputs", "peers", "as smallest_px"),
    Key("anchors.reference_height_px", 512.0, ABOVE_0, "outputs", "peers", "see smallest_px"),

    Key("rpn.positive_iou", 0.5, SHARE, "", "paper V-B", "IoU with a pedestrian above which an anchor is positive"),
    Key("rpn.negative_iou", 0.3, SHARE, "", "peers", "IoU with all people below which an anchor is negative"),
    Key("rpn.ignore_ioa", 0.5, SHARE, "", "ours", "share of an anchor's area in an ignore region, above which it is "
        "not a negative"),
    Key("rpn.match_best_anchor", True, None, "", "Faster R-CNN", "whether the best anchor of each pedestrian is "
        "positive"),
    Key("rpn.sampled", 256, ABOVE_0, "", "peers", "anchors of an image in the loss"),
    Key("rpn.max_positive", 128, NOT_NEGATIVE, "", "peers", "of the sampled anchors"),
    Key("rpn.offset_std", (0.1, 0.1, 0.2, 0.2), _numbers(4), "outputs", "Fast R-CNN", "divisors of the offsets of both "
        "stages"),
    Key("rpn.min_size_px", 4.0, NOT_NEGATIVE, "", "ours", "smaller proposals are dropped"),
    Key("rpn.before_nms", 6000, _up_to(20_000), "", "peers", "proposals before NMS, the best by score"),
    Key("rpn.nms_iou", 0.7, SHARE, "", "peers", "IoU above which NMS drops the lower-scored proposal"),
    Key("rpn.kept_training", 1000, _up_to(10_000), "", "ours", "proposals after NMS, in training"),
    Key("rpn.kept_testing", 300, _up_to(10_000), "", "peers", "proposals after NMS, in detection"),

    Key("roi.positive_iou", 0.5, SHARE, "", "peers", "IoU with a pedestrian above which a RoI is positive"),
    Key("roi.ignore_ioa", 0.5, SHARE, "", "ours", "as rpn.ignore_ioa"),
    Key("roi.sampled", 128, ABOVE_0, "", "peers", "RoIs of an image in the loss"),
    Key("roi.max_positive", 32, NOT_NEGATIVE, "", "peers", "of the sampled RoIs"),
    Key("roi.size", 7, _up_to(32), "shapes outputs", "peers", "bins on a side"),
    Key("roi.samples_per_bin", 2, _up_to(8), "network", "peers", "on a side"),
    Key("roi.hidden", 4096, _up_to(16_384), "shapes card", "peers", "units of fc6 and of fc7"),

    Key("final.min_score", 0.001, SHARE, "scoring card", "ours", "detections with a lower score are dropped"),
    Key("final.nms_iou", 0.3, SHARE, "scoring card", "peers", "IoU above which NMS drops the lower-scored "
        "detection"),
    Key("final.max_detections", 100, _up_to(10_000), "scoring", "ours", "per image"),

    Key("loss.box_weight", 1.0, NOT_NEGATIVE, "", "paper III-A", "lambda of Eq. 1"),
    Key("loss.segmentation_weight", 1.0, NOT_NEGATIVE, "", "paper III-A", "eta of Eq. 1"),
    Key("loss.per_branch_weight", 0.0, NOT_NEGATIVE, "", "paper", "of each branch's own losses (teacher); 0: only the "
        "fused outputs"),

    Key("optimizer.name", "sgd", _one_of("adam", "sgd", "adamw"), "card", "paper V-B", "sgd for the student, adam for "
        "the teacher"),
    Key("optimizer.learning_rate", 1e-3, NOT_NEGATIVE, "card", "paper V-B", "after the warm-up, before any decay"),
    Key("optimizer.reference_batch_size", 0, NOT_NEGATIVE, "", "paper", "if above 0, the rate is for batches of this "
        "size and scales linearly with train.batch_size"),
    Key("optimizer.fusion_rate_scale", 1.0, NOT_NEGATIVE, "", "paper", "factor of the learning rate of the modality "
        "fusion (teacher)"),
    Key("optimizer.schedule", "steps", _one_of("steps", "cosine"), "card", "paper V-B", "of the learning rate"),
    Key("optimizer.decay_epochs", (), None, "", "paper", "of schedule=steps; in the paper, of the teacher only"),
    Key("optimizer.decay_factor", 0.1, NOT_NEGATIVE, "", "paper V-B", "of the rate at each of decay_epochs"),
    Key("optimizer.warmup_steps", 0, NOT_NEGATIVE, "", "paper", "in which the rate rises linearly from 0"),
    Key("optimizer.momentum", 0.9, SHARE, "", "paper V-B", "of sgd"),
    Key("optimizer.weight_decay", 0.0, NOT_NEGATIVE, "", "paper", "sgd and adam: L2, added to the gradient as in "
        "PyTorch; adamw: decoupled. Peers take sgd with 5e-4"),
    Key("optimizer.clip_norm", 0.0, NOT_NEGATIVE, "", "paper", "global norm of the gradients; 0: off"),

    Key("train.batch_size", 64, ABOVE_0, "card", "paper V-B", "over all devices"),
    Key("train.accumulation_steps", int, EMPTY_OR_ABOVE_0, "running", "", "parts in which a device works through its "
        "share of the batch; empty: as few as fit its memory"),
    Key("train.epochs", 150.0, ABOVE_0, "length card", "paper V-B", "150 for the student, 100 for the teacher"),
    Key("train.steps", int, EMPTY_OR_ABOVE_0, "length card", "", "instead of epochs"),
    Key("train.log_every_steps", 20, ABOVE_0, "running", "", "the logs have means over these steps"),
    Key("train.evaluate_every_epochs", 5.0, ABOVE_0, "running", "", "scores the validation split and saves a "
        "checkpoint; the best parameters are kept apart"),
    Key("train.checkpoint_every_minutes", 15.0, ABOVE_0, "running", "", "besides the checkpoints of "
        "evaluate_every_epochs"),

    Key("init.vgg16", str, None, "", "paper V-B", "VGG-16: safetensors file or hf://OWNER/NAME/FILE; empty: random"),
    Key("init.rescale", False, _one_of(False, True), "", "ours", "scale the layers of init.vgg16 so that all features "
        "have RMS 1 on training images, and CFL's output likewise", added=True),
    Key("init.checkpoint", str, None, "", "", "workdir, checkpoint or published model to start the parameters from"),
    Key("init.roles", (), None, "", "", "roles that init.checkpoint must be of; (): none is required", added=True),

    Key("eval.batch_size", 8, ABOVE_0, "scoring", "", "over all devices"),
    Key("eval.rules", "kaist", _one_of("kaist", "caltech", "nightowls"), "scoring", "", "who counts: kaist: "
        "reasonable, by the next two keys; the others have rules of their own (dcrl_jax/evaluation/rules.py)",
        added=True),
    Key("eval.min_height_px", 55.0, NOT_NEGATIVE, "scoring", "KAIST", "as annotated"),
    Key("eval.border_px", (5.0, 5.0, 635.0, 507.0), _numbers(0, 4), "scoring", "KAIST", "people beyond it are ignored; "
        "(): no border"),
    Key("eval.scale_and_occlusion", True, None, "scoring", "KAIST", "whether the six further subsets are scored"),

    Key("cfl.enabled", True, None, "shapes network card", "paper Fig. 6", "cross-modal feature learning, Eq. 2-7"),
    Key("cfl.shared_fraction", 0.5, SHARE, "shapes network card", "paper V-B", "alpha, the fraction of the channels "
        "that become shared features"),
    Key("cfl.groups", 2, _up_to(2048), "shapes network", "paper V-B", "G, of the convolutions P"),
    Key("cfl.aggregation", "attention", _one_of("attention", "average"), "network card", "paper", "Eq. 4-6, or Table "
        "II's row without AAS"),
    Key("cfl.init", "gaussian", _one_of("gaussian", "identity"), "", "ours", "first values of W, V and P; identity: "
        "every channel passes, so that ImageNet's next block reads the channels it knows", added=True),
    Key("cfl.specific_gain", 1.0, ABOVE_0, "", "ours", "with cfl.init=gaussian, variance of the initial weights of P "
        "and V times their fan-in: half of He's 2, which their sum then has; with 2 each the features grow by half "
        "from level to level"),

    Key("fusion.strategy", "maf", _one_of("maf", "linear", "average"), "shapes network card", "paper", "Eq. 10-13; the "
        "others are rows of Table III"),
    Key("fusion.grid", (4, 5), GRID, "shapes", "ours", "cells that the map is averaged to before the MLP; "
        "(): flatten the map as it is"),
    Key("fusion.hidden", 256, _up_to(16_384), "shapes", "ours", "units of the MLP"),

    Key("distillation.fea", True, None, "card", "paper Table IV", "feature level, Eq. 15"),
    Key("distillation.cls", True, None, "card", "paper Table IV", "classification, Eq. 16"),
    Key("distillation.bbr", True, None, "card", "paper Table IV", "box regression, Eq. 17"),
    Key("distillation.seg", True, None, "card", "paper Table IV", "segmentation, Eq. 18"),
    Key("distillation.rho", 0.5, NOT_NEGATIVE, "card", "paper IV-A", "weight of L_F"),
    Key("distillation.relative", False, _one_of(False, True), "card", "ours", "L_F in units of the mean square of the "
        "teacher's features", added=True),
    Key("distillation.zeta", 0.5, SHARE, "card", "paper V-B", "share of the hard labels in Eq. 16"),
    Key("distillation.temperature", 1.0, ABOVE_0, "card", "ours", "T of Eq. 16"),
    Key("distillation.epsilon", 0.5, NOT_NEGATIVE, "card", "paper V-B", "weight of L_b in Eq. 17"),
    Key("distillation.delta", 0.0, None, "card", "ours", "margin of Eq. 17, normalised offsets squared"),
    Key("distillation.xi", 0.5, SHARE, "card", "paper V-B", "share of the annotated masks in Eq. 18"),

    Key("teacher.checkpoint", str, None, "", "", "workdir or checkpoint of a trained teacher; empty: train one first"),
    Key("teacher.width", 0.0, WIDTH_OR_0, "shapes card", "ours", "backbone.width of the teacher, if the student's is "
        "another one; 0: the same", added=True),
    Key("teacher.init.checkpoint", str, None, "", "", "as init.checkpoint, of the teacher"),
)
# fmt: on


def default_config(role: str) -> ConfigDict:
    """Return the default config of a role."""
    config = ConfigDict({"role": role})
    for key in KEYS:
        if role in key.roles:
            *sections, name = key.name.split(".")
            values = config
            for section in sections:
                if section not in values:
                    values[section] = ConfigDict()
                values = values[section]
            values[name] = placeholder(key.default) if isinstance(key.default, type) else key.default
    return config


def keys_affecting(*effects: str) -> list[Key]:
    """Return the keys that affect any of ``effects``."""
    return [key for key in KEYS if not set(effects).isdisjoint(key.affects.split())]


def data_set_name(data: ConfigDict) -> str:
    """Return the name of the data set of a config's ``data`` keys; that of an own folder is an option."""
    return data.options.get("name") or data.name


def validation_is_test(data: ConfigDict) -> bool:
    """Return whether the test split is scored during training, so that it cannot choose the parameters."""
    return not data.get("validation_videos") and data.validation_split == data.test_split


def has_key(config: ConfigDict, name: str) -> bool:
    """Return whether a config has a key, given with dots, e.g. 'data.name'."""
    for part in name.split("."):
        if not isinstance(config, ConfigDict) or part not in config:
            return False
        config = config[part]
    return True


def value_of(config: ConfigDict, name: str) -> Any:
    """Return the value of a key, given with dots.

    Raises:
        InputError: the config lacks the key.
    """
    if not has_key(config, name):
        raise InputError(f"config.{name} is missing: this config was saved by another version of dcrl_jax.")
    for part in name.split("."):
        config = config[part]
    return config


def add_later_keys(config: ConfigDict) -> None:
    """Add the keys that configs of earlier runs lack, with their defaults."""
    with config.unlocked():
        for key in KEYS:
            section, _, name = key.name.partition(".")
            if key.added and isinstance(config.get(section), ConfigDict) and name not in config[section]:
                config[section][name] = key.default


def check_config(config: ConfigDict) -> None:
    """Check every value of a config, whose values may be of any type: it may be part of anybody's checkpoint.

    Raises:
        InputError: values break their checks; lists all of them with their keys and what they must be.
    """
    problems = list(_wrong_values(config)) or list(_contradictions(config))
    if problems:
        raise InputError("\n  ".join(problems))


def _problem(config, name, must):
    value = value_of(config, name)
    text = repr(value.to_dict() if isinstance(value, ConfigDict) else value)
    return f"config.{name} is {text if len(text) < 200 else f'{text[:200]}...'}; it must {must}."


def _wrong_values(config: ConfigDict) -> Iterator[str]:
    role = value_of(config, "role")
    if role not in ROLES:
        yield _problem(config, "role", f"be one of: {', '.join(ROLES)}")
        return
    for key in KEYS:
        # A missing key is an error, unless it was added later or may have any value.
        if role not in key.roles or (not has_key(config, key.name) and (key.added or not key.check)):
            continue
        value = value_of(config, key.name)
        if must := _type_problem(key.default, value):
            yield _problem(config, key.name, must)
        elif key.check and not key.check.holds(value):
            yield _problem(config, key.name, key.check.must)


def _type_problem(default: Any, value: Any) -> str:
    """Return what a value must be to have the type of a key's default; empty if it has."""
    if isinstance(default, type):
        return "" if value is None else _type_problem(default(), value)
    if isinstance(default, dict):
        is_plain = isinstance(value, ConfigDict) and len(value) <= 100 and all(map(_is_plain, value.values()))
        return "" if is_plain else "hold options of text, finite numbers, True, False, or sequences of these"
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "be True or False"
    if isinstance(default, int):
        return "" if _is_number(value) and isinstance(value, int) else "be a whole number"
    if isinstance(default, float):
        return "" if _is_number(value) else "be a finite number"
    if isinstance(default, str):
        return "" if isinstance(value, str) and _is_plain(value) else "be a text"
    is_flat = isinstance(value, (tuple, list)) and not any(isinstance(part, (tuple, list)) for part in value)
    return "" if is_flat and _is_plain(value) else "hold texts or finite numbers"


def _is_number(value):
    # A comparison, since a large whole number has no float.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300


def _is_plain(value, depth=0):
    if isinstance(value, (tuple, list)):
        return depth < 3 and len(value) <= 1000 and all(_is_plain(part, depth + 1) for part in value)
    return (
        value is None or isinstance(value, bool) or _is_number(value) or (isinstance(value, str) and len(value) < 5000)
    )


def _contradictions(config: ConfigDict) -> Iterator[str]:
    def problem(name, must):
        return _problem(config, name, must)

    size = (value_of(config, "data.height_px"), value_of(config, "data.width_px"))
    if any(part > whole for part, whole in zip(config.data.get("crop", ()), size, strict=False)):
        yield problem("data.crop", "not exceed data.height_px and data.width_px")
    if config.data.get("crop") and config.role == "teacher" and not value_of(config, "fusion.grid"):
        yield problem("data.crop", "be () where fusion.grid=() needs inputs of one size")
    for stage in ("rpn", "roi"):
        if value_of(config, f"{stage}.max_positive") > value_of(config, f"{stage}.sampled"):
            yield problem(f"{stage}.max_positive", f"not exceed {stage}.sampled")
    limits = value_of(config, "data.lwir_range") if has_key(config, "data.lwir_range") else ()
    if len(limits) == 2 and not limits[0] < limits[1]:
        yield problem("data.lwir_range", "hold the lower value first")
    if config.rpn.negative_iou > config.rpn.positive_iou:
        yield problem("rpn.negative_iou", "not exceed rpn.positive_iou")


def config_mismatches(config: ConfigDict, other: ConfigDict, effects: tuple[str, ...], owner: str) -> list[str]:
    """Return a line for each key that affects any of ``effects`` and has different values in two configs.

    Keys that only one config has are skipped.

    Args:
        config: the config that a line calls "config".
        other: the config to compare with.
        effects: the effects, see ``Key``.
        owner: the words before a value of ``other``, e.g. "the teacher's".
    """
    lines = []
    for key in keys_affecting(*effects):
        if has_key(config, key.name) and has_key(other, key.name):
            own, others = value_of(config, key.name), value_of(other, key.name)
            if own != others:
                lines.append(f"config.{key.name} is {format_value(own)}, {owner} {format_value(others)}")
    return lines


def format_value(value: Any) -> str:
    """Return a config value as a message shows it."""
    return ", ".join(map(str, value)) or "empty" if isinstance(value, tuple) else str(value)
