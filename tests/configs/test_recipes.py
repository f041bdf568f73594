"""The recipes: what they hold, that every key is read, and that one recipe serves all data sets."""

import dataclasses
import inspect
import pathlib
import re

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import baseline, common, student, teacher
from datasets import msrs
from datasets.kaist import KaistConfig
from datasets.synthetic_rgbt import SyntheticConfig
from dcrl_jax.config import check_config
from dcrl_jax.data.transforms import filter_boxes
from dcrl_jax.errors import InputError
from dcrl_jax.losses.distillation import Distillation
from dcrl_jax.training.data import box_filter_of
from dcrl_jax.training.distill import teacher_config

ROOT = pathlib.Path(__file__).parents[2]
DATA = ("kaist", "synthetic", "msrs")
RECIPES = {"teacher": teacher, "student": student, "baseline": baseline}

every_recipe = pytest.mark.parametrize("role", RECIPES)
every_data_set = pytest.mark.parametrize("data", DATA)


def keys_of(config, prefix=""):
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from keys_of(value, f"{prefix}{name}.")
        else:
            yield prefix + name


@every_recipe
def test_default_is_the_papers_recipe_on_kaist(role):
    config = RECIPES[role].get_config()
    assert config.role == role
    assert config.data.name == "kaist"
    assert (config.data.width_px, config.data.height_px) == (640, 512)
    assert config.train.batch_size == 64
    assert config.optimizer.learning_rate == 1e-3
    assert config.optimizer.schedule == "steps"
    assert config.optimizer.decay_factor == 0.1
    assert config.rpn.positive_iou == 0.5
    assert config.loss.box_weight == config.loss.segmentation_weight == 1.0
    assert config.segmentation.stages == ("rpg", "rdr")
    assert config.backbone.norm == "none"
    assert config.backbone.width == 1.0


def test_paper_trains_the_teacher_by_adam_for_100_epochs_with_a_tenth_of_the_rate_after_50_and_75():
    for keys in (teacher.get_config(), student.get_config().teacher):
        assert keys.optimizer.name == "adam"
        assert keys.optimizer.learning_rate == 1e-3
        assert keys.optimizer.decay_epochs == (50.0, 75.0)
        assert keys.optimizer.decay_factor == 0.1
        assert keys.train.epochs == 100
        assert keys.train.batch_size == 64
        assert keys.cfl.shared_fraction == 0.5
        assert keys.cfl.groups == 2


@pytest.mark.parametrize("role", ["student", "baseline"])
def test_paper_trains_the_student_by_sgd_for_150_epochs_and_the_baseline_alike(role):
    config = RECIPES[role].get_config()
    assert config.optimizer.name == "sgd"
    assert config.optimizer.learning_rate == 1e-3
    assert config.optimizer.momentum == 0.9
    assert config.optimizer.decay_epochs == ()
    assert config.train.epochs == 150
    assert config.train.batch_size == 64


def test_paper_distils_all_four_terms_and_weighs_teacher_and_annotation_evenly():
    keys = student.get_config().distillation
    assert (keys.fea, keys.cls, keys.bbr, keys.seg) == (True,) * 4
    assert keys.rho == 0.5
    assert keys.zeta == keys.epsilon == keys.xi == 0.5
    # What the paper does not name.
    assert keys.temperature == 1.0
    assert keys.delta == 0.0


@every_recipe
@every_data_set
def test_every_recipe_passes_the_checks_and_has_the_same_keys(role, data):
    def own_keys(config):
        return {key for key in keys_of(config) if not key.startswith("data.options.")}

    config = RECIPES[role].get_config(data)
    check_config(config)
    assert own_keys(config) == own_keys(RECIPES[role].get_config())


@every_data_set
def test_student_is_the_baseline_and_what_it_learns_from(data):
    own, plain = student.get_config(data).to_dict(), baseline.get_config(data).to_dict()
    assert set(own) - set(plain) == {"distillation", "teacher"}
    assert {key: own[key] for key in plain} == plain | {"role": "student"}


@every_data_set
def test_student_s_teacher_is_the_teacher_s_own_recipe(data):
    own = teacher_config(student.get_config(data))
    check_config(own)
    assert own.to_dict() == teacher.get_config(data).to_dict()


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize("preset", common.KAIST_FILTERS)
def test_filters_of_a_peer_change_nothing_but_who_trains_and_are_valid(role, preset):
    plain, config = RECIPES[role].get_config("kaist"), RECIPES[role].get_config(f"kaist/{preset}")
    changes = common.KAIST_FILTERS[preset]
    assert changes
    for key, value in changes.items():
        section, name = key.split(".")
        assert plain[section][name] != value
        plain[section][name] = value
    assert config.to_dict() == plain.to_dict()
    check_config(config)


def test_filters_of_peers_say_who_is_a_person():
    def roles(preset, annotations):
        rules = box_filter_of(teacher.get_config(f"kaist{preset}").data)
        boxes, labels, occlusion, ignore = zip(*annotations, strict=True)
        masks = filter_boxes(rules, np.array(boxes, float), labels, np.array(occlusion), np.array(ignore))
        return "".join("p" if person else "i" if region else "-" for person, region in zip(*masks, strict=True))

    inside = (100, 100, 20, 50)
    people = [(inside, label, 0, False) for label in ("person", "people", "person?", "cyclist", "ignore", "car")]
    hard = [
        (inside, "person", 2, False),
        ((3, 100, 20, 50), "person", 0, False),
        ((100, 100, 5, 11), "person", 0, False),
    ]
    assert roles("", people + hard) == "piiii-ppp"
    assert roles("/ar-cnn", people + hard) == "piipi-ipp"
    assert roles("/msds-rcnn", people + hard) == "piiii-ppp"
    assert roles("/mlpd", people + hard) == "ppppi-pii"


@every_recipe
def test_unknown_data_set_is_named_with_the_known_ones(role):
    with pytest.raises(ValueError, match="kaist/mlpd, synthetic, msrs, not 'moon'"):
        RECIPES[role].get_config("moon")


@every_recipe
@every_data_set
def test_every_key_is_read_somewhere(role, data):
    source = "\n".join(
        path.read_text() for path in (ROOT / "dcrl_jax").rglob("*.py") if "config_checks" not in path.name
    )
    # A teacher's sections are read in their places of its own recipe; what names the teacher is read before.
    assert "config.teacher.checkpoint" in source
    config = RECIPES[role].get_config(data)
    keys = {key.removeprefix("teacher.") for key in keys_of(config)} - {"checkpoint"}
    # The next two tests are about these.
    keys = {key for key in keys if not key.startswith(("distillation.", "data.options."))}
    unread = [
        key
        for key in sorted(keys)
        if not re.search(rf"(config|keys|data|rpn|roi|loss|{key.split('.')[0]})\.{key.split('.')[-1]}\b", source)
    ]
    assert unread == []


@every_data_set
def test_every_key_of_the_distillation_is_a_constant_of_the_losses_and_is_read_there(data):
    assert set(student.get_config(data).distillation) == set(Distillation._fields)
    source = "\n".join(
        (ROOT / "dcrl_jax" / name).read_text() for name in ("losses/distillation.py", "training/terms.py")
    )
    assert [name for name in Distillation._fields if not re.search(rf"\b(on|rules)\.{name}\b", source)] == []


def test_every_option_of_a_data_set_is_one_of_its_builder():
    known = {
        "kaist": {field.name for field in dataclasses.fields(KaistConfig)} | {"allow_incomplete"},
        "synthetic": {field.name for field in dataclasses.fields(SyntheticConfig)},
        "msrs": set(inspect.signature(msrs.open_builder).parameters),
    }
    for data, names in known.items():
        for recipe in RECIPES.values():
            assert set(recipe.get_config(data).data.options) <= names


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("backbone.stride", 4, "must be one of: 8, 16"),
        ("train.batch_size", 0, "must be above 0"),
        ("train.steps", -1, "must be above 0"),
        ("optimizer.weight_decay", -1.0, "must not be negative"),
        ("data.flip_probability", 1.5, "must lie in 0..1"),
        ("rpn.offset_std", (1.0, 2.0), "must hold 4 numbers"),
        ("eval.rules", "coco", "must be one of: kaist, caltech, nightowls"),
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


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("zeta", 1.5, "must lie in 0..1"),
        ("zeta", -0.5, "must lie in 0..1"),
        ("xi", 1.5, "must lie in 0..1"),
        ("temperature", 0.0, "must be above 0"),
        ("rho", -1.0, "must not be negative"),
        ("epsilon", -1.0, "must not be negative"),
    ],
)
def test_distillation_that_means_nothing_is_refused_by_its_key(key, value, message):
    config = student.get_config()
    config.distillation[key] = value
    with pytest.raises(InputError, match=re.escape(f"config.distillation.{key} is {value!r}; it {message}")):
        check_config(config)


def test_config_from_before_there_were_rules_of_several_benchmarks_is_accepted():
    config = teacher.get_config()
    del config.eval.rules
    check_config(config)


def test_limits_of_the_distillation_are_accepted():
    for value in (0.0, 1.0):
        config = student.get_config()
        config.distillation.update(zeta=value, xi=value, rho=value, epsilon=value)
        check_config(config)


def test_unknown_role_is_refused_with_the_known_ones():
    config = teacher.get_config()
    config.role = "pupil"
    with pytest.raises(InputError, match=r"config\.role is 'pupil'; it must be one of: teacher, student, baseline"):
        check_config(config)


@pytest.mark.parametrize("role", ["student", "baseline"])
def test_shared_values_of_students_and_baselines_are_checked_too(role):
    config = RECIPES[role].get_config()
    config.train.batch_size = 0
    config.backbone.norm = "batch"
    with pytest.raises(InputError, match=r"(?s)backbone.norm is 'batch'.*train.batch_size is 0"):
        check_config(config)


def test_all_faults_come_in_one_message():
    config = teacher.get_config()
    config.train.batch_size = 0
    config.cfl.aggregation = "sum"
    with pytest.raises(InputError, match=r"(?s)cfl.aggregation is 'sum'.*train.batch_size is 0"):
        check_config(config)
