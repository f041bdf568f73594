"""The recipes: what they hold, that every key is read, and that one recipe serves all data sets."""

import dataclasses
import inspect

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import baseline, common, student, teacher
from datasets import msrs
from datasets.kaist import KaistConfig
from datasets.synthetic_rgbt import SyntheticConfig
from dcrl_jax.config import check_config
from dcrl_jax.data.transforms import filter_boxes
from dcrl_jax.training.data import box_filter_of
from dcrl_jax.training.distill import teacher_config

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


def test_every_option_of_a_data_set_is_one_of_its_builder():
    known = {
        "kaist": {field.name for field in dataclasses.fields(KaistConfig)} | {"allow_incomplete"},
        "synthetic": {field.name for field in dataclasses.fields(SyntheticConfig)},
        "msrs": set(inspect.signature(msrs.open_builder).parameters),
    }
    for data, names in known.items():
        for recipe in RECIPES.values():
            assert set(recipe.get_config(data).data.options) <= names
