"""The table of config keys."""

import pathlib
import re

import pytest
from ml_collections import ConfigDict

from dcrl_jax import config as configs
from dcrl_jax.config import KEYS, ROLES, check_config, config_mismatches, default_config, value_of
from dcrl_jax.errors import InputError
from dcrl_jax.losses.distillation import Distillation

PACKAGE = pathlib.Path(configs.__file__).parent
NAN = float("nan")
EFFECTS = {"shapes", "network", "outputs", "input", "length", "running", "scoring", "card"}


def test_keys_are_unique_and_their_effects_known():
    assert len({key.name for key in KEYS}) == len(KEYS)
    assert set().union(*(key.affects.split() for key in KEYS)) == EFFECTS


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_valid(role):
    config = default_config(role)
    check_config(config)
    for key in KEYS:
        if role in key.roles:
            expected = None if isinstance(key.default, type) else key.default
            value = value_of(config, key.name)
            assert (value.to_dict() if isinstance(value, ConfigDict) else value) == expected


def test_program_reads_every_key():
    readers = [path for path in PACKAGE.rglob("*.py") if path.name not in ("config.py", "unread_keys.py")]
    source = "\n".join(path.read_text() for path in readers)
    assert [key.name for key in KEYS if not re.search(rf"\b{key.name.rpartition('.')[2]}\b", source)] == []
    names = {key.name.removeprefix("distillation.") for key in KEYS if key.name.startswith("distillation.")}
    assert names == set(Distillation._fields)


@pytest.mark.parametrize(
    ("role", "key", "value", "message"),
    [
        ("teacher", "role", "pupil", "must be one of: teacher, student, baseline"),
        ("teacher", "backbone.stride", 4, "must be one of: 8, 16"),
        ("teacher", "backbone.width", 0.0, "must be above 0 and at most 4"),
        ("teacher", "backbone.dtype", "float16", "must be one of: float32, bfloat16"),
        ("teacher", "cfl.aggregation", "sum", "must be one of: attention, average"),
        ("teacher", "cfl.shared_fraction", -0.1, "must lie in 0..1"),
        ("teacher", "fusion.strategy", "attention", "must be one of: maf, linear, average"),
        ("teacher", "fusion.grid", (4,), "must hold 0 or 2 whole numbers, above 0 and at most 512"),
        ("teacher", "segmentation.stages", ("rpg", "rds"), "must hold nothing but rpg and rdr"),
        ("baseline", "backbone.norm", "batch", "must be one of: none, group"),
        ("baseline", "train.batch_size", 0, "must be above 0"),
        ("baseline", "train.steps", -1, "must be above 0"),
        ("baseline", "optimizer.weight_decay", -1.0, "must not be negative"),
        ("baseline", "data.flip_probability", 1.5, "must lie in 0..1"),
        ("baseline", "data.crop", (240.0, 320), "must hold no numbers or a height and a width in pixels"),
        ("baseline", "data.crop", (513, 640), "must not exceed data.height_px and data.width_px"),
        ("baseline", "rpn.offset_std", (1.0, 2.0), "must hold 4 numbers"),
        ("baseline", "eval.rules", "coco", "must be one of: kaist, caltech, nightowls"),
        ("baseline", "eval.border_px", ("a", "b", "c", "d"), "must hold 0 or 4 numbers"),
        ("baseline", "roi.max_positive", 500, "must not exceed roi.sampled"),
        ("teacher", "data.lwir_range", (7900, 7400), "must hold the lower value first"),
        ("baseline", "rpn.negative_iou", 0.6, "must not exceed rpn.positive_iou"),
        ("student", "distillation.zeta", 1.5, "must lie in 0..1"),
        ("student", "distillation.temperature", 0.0, "must be above 0"),
        ("student", "distillation.rho", -1.0, "must not be negative"),
        ("teacher", "role", None, "must be one of: teacher, student, baseline"),
        ("teacher", "seed", True, "must be a whole number"),
        ("teacher", "seed", 1.5, "must be a whole number"),
        ("teacher", "train.steps", "9", "must be a whole number"),
        ("teacher", "cfl.enabled", 1, "must be True or False"),
        ("teacher", "anchors.aspect_ratio", NAN, "must be a finite number"),
        ("teacher", "anchors.largest_px", float("inf"), "must be a finite number"),
        ("teacher", "loss.box_weight", None, "must be a finite number"),
        ("teacher", "data.name", ("kaist",), "must be a text"),
        ("teacher", "data.manual_dir", 3, "must be a text"),
        ("teacher", "backbone.dtype", None, "must be a text"),
        ("teacher", "data.train_labels", "person", "must hold texts or finite numbers"),
        ("teacher", "data.train_labels", (("person",),), "must hold texts or finite numbers"),
        ("teacher", "rpn.offset_std", (0.1, 0.1, 0.2, NAN), "must hold texts or finite numbers"),
        ("teacher", "rpn.offset_std", (0.1, 0.1, 0.2, True), "must hold 4 numbers"),
        ("teacher", "segmentation.stages", 7, "must hold texts or finite numbers"),
        ("teacher", "data.height_px", 10**6, "must be above 0 and at most 4,096"),
        ("teacher", "backbone.width", 1e9, "must be above 0 and at most 4"),
        ("teacher", "anchors.per_cell", 10**9, "must be above 0 and at most 32"),
        ("teacher", "rpn.before_nms", 10**9, "must be above 0 and at most 20,000"),
        ("teacher", "roi.samples_per_bin", 10**4, "must be above 0 and at most 8"),
        ("teacher", "roi.hidden", 10**9, "must be above 0 and at most 16,384"),
        ("teacher", "fusion.grid", (4, 10**9), "must hold 0 or 2 whole numbers, above 0 and at most 512"),
        ("student", "teacher.width", 100.0, "must be at least 0 and at most 4"),
    ],
)
def test_value_that_means_nothing_is_refused(role, key, value, message):
    config = default_config(role)
    with config.ignore_type():
        config.update_from_flattened_dict({key: value})
    with pytest.raises(InputError, match=re.escape(f"config.{key} is {value!r}; it {message}.")):
        check_config(config)


@pytest.mark.parametrize(
    "options",
    ["kaist", {"a": NAN}, {"a": {"b": 1}}, {"a": "x" * 10_000}, {"a": ((((1,),),),)}, {"a": (1,) * 10_000}],
    ids=["text", "nan", "dict", "long text", "nested", "long"],
)
def test_options_of_a_data_set_are_plain_values(options):
    config = default_config("teacher")
    with config.unlocked(), config.data.ignore_type():
        config.data.options = options
    with pytest.raises(
        InputError, match=r"config\.data\.options is .{,250}; it must hold options of text, finite numbers"
    ):
        check_config(config)
    config = default_config("teacher")
    with config.unlocked():
        config.data.options = {
            "labels": "both",
            "share": 0.5,
            "seed": 1,
            "none": None,
            "is": True,
            "H": ((1, 0.5), (2,)),
        }
    check_config(config)


def test_all_faults_are_in_one_message():
    config = default_config("teacher")
    config.train.batch_size = 0
    config.cfl.aggregation = "sum"
    with pytest.raises(InputError) as refusal:
        check_config(config)
    assert str(refusal.value).splitlines() == [
        "config.train.batch_size is 0; it must be above 0.",
        "  config.cfl.aggregation is 'sum'; it must be one of: attention, average.",
    ]


def test_keys_added_later_have_their_defaults_in_older_configs():
    config = default_config("baseline")
    del config.eval.rules, config.init.roles
    check_config(config)
    configs.add_later_keys(config)
    assert config.to_dict() == default_config("baseline").to_dict()


def test_missing_key_is_of_another_version():
    config = default_config("baseline")
    del config.backbone.dtype
    with pytest.raises(InputError, match=r"^config\.backbone\.dtype is missing: .*another version of dcrl_jax\.$"):
        check_config(config)


def test_mismatches_have_both_values():
    student, teacher = default_config("student"), default_config("teacher")
    teacher.rpn.offset_std = (1.0, 1.0, 1.0, 1.0)
    teacher.data.width_px = 320
    teacher.seed = 9
    assert config_mismatches(student, teacher, ("outputs", "input"), "the teacher's") == [
        "config.data.width_px is 640, the teacher's 320",
        "config.rpn.offset_std is 0.1, 0.1, 0.2, 0.2, the teacher's 1.0, 1.0, 1.0, 1.0",
    ]
    assert config_mismatches(student, teacher, ("network",), "the teacher's") == []
