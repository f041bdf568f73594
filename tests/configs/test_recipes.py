"""The recipes: what they hold, that every key is read, and that one recipe serves all data sets."""

import pathlib
import re

import pytest
from ml_collections import ConfigDict

from configs import teacher
from dcrl_jax.config_checks import check_config
from dcrl_jax.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]
DATA = ("kaist", "synthetic", "msrs")


def keys_of(config, prefix=""):
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from keys_of(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_default_is_the_papers_recipe_on_kaist():
    config = teacher.get_config()
    assert config.data.name == "kaist"
    assert (config.data.width_px, config.data.height_px) == (640, 512)
    assert config.train.batch_size == 64
    assert config.train.epochs == 100
    assert config.optimizer.name == "adam"
    assert config.optimizer.learning_rate == 1e-3
    assert config.optimizer.schedule == "steps"
    assert config.optimizer.decay_epochs == (50.0, 75.0)
    assert config.cfl.shared_fraction == 0.5
    assert config.cfl.groups == 2
    assert config.rpn.positive_iou == 0.5
    assert config.loss.box_weight == config.loss.segmentation_weight == 1.0
    assert config.backbone.norm == "none"
    assert config.backbone.width == 1.0


@pytest.mark.parametrize("data", DATA)
def test_every_recipe_passes_the_checks_and_has_the_same_keys(data):
    config = teacher.get_config(data)
    check_config(config)
    own = {key for key in keys_of(config) if not key.startswith("data.options.")}
    assert own == {key for key in keys_of(teacher.get_config()) if not key.startswith("data.options.")}


def test_unknown_data_set_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="kaist, synthetic and msrs, not 'moon'"):
        teacher.get_config("moon")


def test_every_key_is_read_somewhere():
    source = "\n".join(
        path.read_text() for path in (ROOT / "dcrl_jax").rglob("*.py") if "config_checks" not in path.name
    )
    unread = [
        key
        for key in keys_of(teacher.get_config())
        if not re.search(rf"(config|keys|data|rpn|roi|loss|{key.split('.')[0]})\.{key.split('.')[-1]}\b", source)
    ]
    assert unread == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("backbone.stride", 4, "must be one of: 8, 16"),
        ("train.batch_size", 0, "must be above 0"),
        ("train.steps", -1, "must be above 0"),
        ("optimizer.weight_decay", -1.0, "must not be negative"),
        ("data.flip_probability", 1.5, "must lie in 0..1"),
        ("rpn.offset_std", (1.0, 2.0), "must hold 4 numbers"),
        ("eval.border_px", ("a", "b", "c", "d"), "must hold 0 or 4 numbers"),
        ("segmentation.stages", ("rpg", "rds"), "must hold nothing but rpg and rdr"),
        ("roi.max_positive", 500, "must not exceed roi.sampled"),
        ("rpn.negative_iou", 0.6, "must not exceed rpn.positive_iou"),
        ("cfl.groups", 3, "must divide the channels"),
    ],
)
def test_value_that_means_nothing_is_refused_by_its_key(key, value, message):
    config = teacher.get_config()
    section, name = key.split(".")
    with config.ignore_type():
        config[section][name] = value
    with pytest.raises(InputError, match=re.escape(f"config.{key} is {value!r}; it {message}")):
        check_config(config)


def test_all_faults_come_in_one_message():
    config = teacher.get_config()
    config.train.batch_size = 0
    config.cfl.aggregation = "sum"
    with pytest.raises(InputError, match=r"(?s)cfl.aggregation is 'sum'.*train.batch_size is 0"):
        check_config(config)
