"""The recipes: the paper's values, one recipe for all data sets, and the rows of Table V."""

import dataclasses
import inspect

import numpy as np
import pytest

from configs import baseline, common, finetune, student, teacher
from configs.folders import FOLDERS
from datasets import msrs, nightowls
from datasets.caltech_pedestrian import CaltechConfig
from datasets.kaist import KaistConfig
from datasets.rgbt_folder.options import FolderConfig
from datasets.synthetic_rgbt import SyntheticConfig
from datasets.synthetic_visible import SyntheticVisibleConfig
from dcrl_jax.config import KEYS, check_config, default_config, has_key, value_of
from dcrl_jax.data.transforms import filter_boxes
from dcrl_jax.evaluation.evaluate import subsets_of
from dcrl_jax.evaluation.rules import CALTECH_REASONABLE, NIGHTOWLS_SUBSETS, assign_roles, reasonable
from dcrl_jax.models.network import anchor_range_px, build_anchors
from dcrl_jax.training.data import box_filter_of
from dcrl_jax.training.distill import teacher_config

RECIPES = {"teacher": teacher, "student": student, "baseline": baseline}
every_recipe = pytest.mark.parametrize("role", RECIPES)
every_data_set = pytest.mark.parametrize("data", ["kaist", "kaist/literal", "synthetic", "msrs", *FOLDERS])

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
def test_literal_recipe_is_the_paper_s(role, values):
    config = RECIPES[role].get_config("kaist/literal")
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


INSIDE = (100, 100, 20, 50)


def truth_of(*annotations):
    """Return boxes, labels, occlusions and ignore flags of (box, label, occlusion)."""
    boxes, labels, occlusion = zip(*annotations, strict=True)
    return np.array(boxes, float), labels, np.array(occlusion), np.array([label == "ignore" for label in labels])


@pytest.mark.parametrize(
    ("preset", "roles"),
    [("", "piiii-ppp"), ("/ar-cnn", "piipi-ipp"), ("/msds-rcnn", "piiii-ppp"), ("/mlpd", "ppppi-pii")],
)
def test_filters_of_peers_say_who_is_a_person(preset, roles):
    """Of each annotation: p a person, i an ignore region, - neither."""
    truth = truth_of(
        *((INSIDE, label, 0) for label in ("person", "people", "person?", "cyclist", "ignore", "car")),
        *((INSIDE, "person", 2), ((3, 100, 20, 50), "person", 0), ((100, 100, 5, 11), "person", 0)),
    )
    masks = filter_boxes(box_filter_of(teacher.get_config(f"kaist{preset}").data), *truth)
    assert "".join("p" if person else "i" if region else "-" for person, region in zip(*masks, strict=True)) == roles


@pytest.mark.parametrize("argument", ["moon", "caltech/teacher", "kaist/dcrd", ""])
def test_unknown_data_set_or_row_is_named_with_the_known_ones(argument):
    with pytest.raises(ValueError, match=f"caltech, caltech/baseline, caltech/dcrd, nightowls, .*, not '{argument}'"):
        finetune.get_config(argument)
    for recipe in RECIPES.values():
        with pytest.raises(ValueError, match="synthetic, msrs, folder, llvip, flir-aligned, cvc14, m3fd, not 'moon'"):
            recipe.get_config("moon")


def fields_of(builder_config):
    return {field.name for field in dataclasses.fields(builder_config)}


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (common.use_data(default_config("baseline"), "kaist"), fields_of(KaistConfig) | {"allow_incomplete"}),
        (common.use_data(default_config("baseline"), "synthetic"), fields_of(SyntheticConfig)),
        (common.use_data(default_config("baseline"), "msrs"), set(inspect.signature(msrs.open_builder).parameters)),
        (common.use_data(default_config("baseline"), "folder"), fields_of(FolderConfig) | {"allow_incomplete"}),
        (finetune.get_config("caltech"), fields_of(CaltechConfig) | {"allow_incomplete"}),
        (finetune.get_config("nightowls"), set(inspect.signature(nightowls.open_builder).parameters)),
        (finetune.get_config("synthetic_visible"), fields_of(SyntheticVisibleConfig)),
    ],
    ids=lambda value: value.data.name if hasattr(value, "data") else "",
)
def test_options_of_a_data_set_are_those_of_its_builder(config, options):
    assert set(config.data.options) <= options


# Table V.


@pytest.mark.parametrize("data", ["caltech", "nightowls", "synthetic_visible"])
def test_rows_are_valid_baselines_that_differ_only_in_their_start(data):
    configs = {row: finetune.get_config(data + row) for row in ("", "/baseline", "/dcrd")}
    for config in configs.values():
        check_config(config)
        assert config.role == "baseline"
    configs = {row: config.to_dict() for row, config in configs.items()}
    roles = {row: config["init"].pop("roles") for row, config in configs.items()}
    assert roles == {"": ("student", "baseline"), "/baseline": ("baseline",), "/dcrd": ("student",)}
    assert configs[""] == configs["/baseline"] == configs["/dcrd"]


@pytest.mark.parametrize(
    ("data", "size", "anchors_px", "subsets"),
    [
        ("caltech", (640, 480), (22.5, 300.0), (CALTECH_REASONABLE,)),
        ("nightowls", (1024, 640), (30.0, 400.0), NIGHTOWLS_SUBSETS),
        ("synthetic_visible", (160, 112), (6.5625, 109.375), reasonable(16.0, None)),
    ],
)
def test_data_sets_have_their_own_size_anchors_and_rules(data, size, anchors_px, subsets):
    config = finetune.get_config(data)
    assert (config.data.width_px, config.data.height_px) == size
    assert anchor_range_px(config) == pytest.approx(anchors_px)
    anchors = build_anchors(config)
    assert len(anchors) == 9 * size[0] * size[1] // 64
    heights = anchors[:, 3] - anchors[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx(anchors_px)
    assert subsets_of(config) == subsets
    if data != "synthetic_visible":  # as the paper's student
        assert (config.optimizer.name, config.optimizer.learning_rate, config.optimizer.momentum) == ("sgd", 1e-3, 0.9)
        assert config.train.batch_size == 64


@pytest.mark.parametrize("data", ["caltech", "nightowls"])
def test_training_counts_the_people_of_the_test(data):
    config = finetune.get_config(data)
    truth = truth_of(
        *((INSIDE, label, 0) for label in ("person", "people", "person?", "ignore", "person-fa")),
        *((INSIDE, "person", 1), (INSIDE, "person", 2)),
        *(((100, 100, 20, 49), "person", 0), ((2, 100, 20, 50), "person", 0)),
    )
    people, ignored = filter_boxes(box_filter_of(config.data), *truth)
    tested = assign_roles(subsets_of(config)[0], *truth)
    assert people.tolist() == tested.is_person.tolist()
    # NightOwls' test lets no area absorb detections; training masks them.
    expected = tested.is_ignore if data == "caltech" else tested.is_ignore | truth[3]
    assert ignored.tolist() == expected.tolist()
