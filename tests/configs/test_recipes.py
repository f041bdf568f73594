"""The recipes: the paper's values, and one recipe for all data sets."""

import dataclasses
import inspect

import numpy as np
import pytest

from configs import baseline, common, student, teacher
from datasets import msrs
from datasets.kaist import KaistConfig
from datasets.synthetic_rgbt import SyntheticConfig
from dcrl_jax.config import KEYS, check_config, default_config, has_key, value_of
from dcrl_jax.data.transforms import filter_boxes
from dcrl_jax.training.data import box_filter_of
from dcrl_jax.training.distill import teacher_config

RECIPES = {"teacher": teacher, "student": student, "baseline": baseline}
every_recipe = pytest.mark.parametrize("role", RECIPES)
every_data_set = pytest.mark.parametrize("data", ["kaist", "synthetic", "msrs"])

# Sec. V-A and V-B.
PAPER = {
    **{"data.name": "kaist", "data.width_px": 640, "data.height_px": 512},
    **{"backbone.norm": "none", "backbone.width": 1.0, "segmentation.stages": ("rpg", "rdr"), "rpn.positive_iou": 0.5},
    **{"loss.box_weight": 1.0, "loss.segmentation_weight": 1.0, "train.batch_size": 64},
    **{"optimizer.learning_rate": 1e-3, "optimizer.schedule": "steps", "optimizer.decay_factor": 0.1},
}
OF_TEACHER = {
    **{"optimizer.name": "adam", "optimizer.learning_rate": 1e-3, "train.epochs": 100, "train.batch_size": 64},
    **{"optimizer.decay_epochs": (50.0, 75.0), "optimizer.decay_factor": 0.1},
    **{"cfl.shared_fraction": 0.5, "cfl.groups": 2},
}
OF_STUDENT = {"optimizer.name": "sgd", "optimizer.momentum": 0.9, "optimizer.decay_epochs": (), "train.epochs": 150}
# Sec. IV-A and V-B; the paper does not name temperature and delta.
DISTILLATION = {f"distillation.{term}": True for term in ("fea", "cls", "bbr", "seg")}
DISTILLATION |= {f"distillation.{name}": 0.5 for name in ("rho", "zeta", "epsilon", "xi")}
DISTILLATION |= {"distillation.temperature": 1.0, "distillation.delta": 0.0}


@pytest.mark.parametrize(
    ("role", "values"),
    [
        ("teacher", PAPER | OF_TEACHER),
        ("baseline", PAPER | OF_STUDENT),
        ("student", PAPER | OF_STUDENT | DISTILLATION | {f"teacher.{key}": value for key, value in OF_TEACHER.items()}),
    ],
)
def test_default_is_the_paper_s_recipe(role, values):
    config = RECIPES[role].get_config()
    assert config.role == role
    assert {key: value_of(config, key) for key in values} == values


@every_recipe
@every_data_set
def test_recipe_passes_the_checks_and_has_all_keys(role, data):
    config = RECIPES[role].get_config(data)
    check_config(config)
    assert all(has_key(config, key.name) for key in KEYS if role in key.roles)


@every_data_set
def test_student_is_the_baseline_with_a_teacher(data):
    config = student.get_config(data)
    own, plain = config.to_dict(), baseline.get_config(data).to_dict()
    assert set(own) - set(plain) == {"distillation", "teacher"}
    assert {key: own[key] for key in plain} == plain | {"role": "student"}
    assert teacher_config(config).to_dict() == teacher.get_config(data).to_dict()


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize("preset", common.KAIST_FILTERS)
def test_filters_of_a_peer_change_only_who_trains(role, preset):
    plain, config = RECIPES[role].get_config("kaist"), RECIPES[role].get_config(f"kaist/{preset}")
    check_config(config)
    changes = common.KAIST_FILTERS[preset]
    assert all(value_of(plain, key) != value for key, value in changes.items())
    plain.update_from_flattened_dict(changes)
    assert config.to_dict() == plain.to_dict()


@pytest.mark.parametrize(
    ("preset", "roles"),
    [("", "piiii-ppp"), ("/ar-cnn", "piipi-ipp"), ("/msds-rcnn", "piiii-ppp"), ("/mlpd", "ppppi-pii")],
)
def test_filters_of_peers_say_who_is_a_person(preset, roles):
    """Of each annotation: p a person, i an ignore region, - neither."""
    inside, cut, short = (100, 100, 20, 50), (3, 100, 20, 50), (100, 100, 5, 11)
    annotations = [(inside, label, 0) for label in ("person", "people", "person?", "cyclist", "ignore", "car")]
    annotations += [(inside, "person", 2), (cut, "person", 0), (short, "person", 0)]
    boxes, labels, occlusion = zip(*annotations, strict=True)
    truth = np.array(boxes, float), labels, np.array(occlusion), np.zeros(len(boxes), bool)
    masks = filter_boxes(box_filter_of(teacher.get_config(f"kaist{preset}").data), *truth)
    assert "".join("p" if person else "i" if region else "-" for person, region in zip(*masks, strict=True)) == roles


@every_recipe
def test_unknown_data_set_is_named_with_the_known_ones(role):
    with pytest.raises(ValueError, match="kaist/mlpd, synthetic, msrs, not 'moon'"):
        RECIPES[role].get_config("moon")


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ("kaist", {field.name for field in dataclasses.fields(KaistConfig)} | {"allow_incomplete"}),
        ("synthetic", {field.name for field in dataclasses.fields(SyntheticConfig)}),
        ("msrs", set(inspect.signature(msrs.open_builder).parameters)),
    ],
    ids=["kaist", "synthetic", "msrs"],
)
def test_options_of_a_data_set_are_those_of_its_builder(data, options):
    assert set(common.use_data(default_config("baseline"), data).data.options) <= options
