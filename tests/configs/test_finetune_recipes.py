"""The recipes of Table V: what a row is, which size and which people each data set has."""

import dataclasses
import inspect

import numpy as np
import pytest
from test_recipes import keys_of

from configs import baseline, finetune
from datasets import nightowls
from datasets.caltech_pedestrian import CaltechConfig
from datasets.synthetic_visible import SyntheticVisibleConfig
from dcrl_jax.config import check_config
from dcrl_jax.data.transforms import filter_boxes
from dcrl_jax.evaluation.evaluate import subsets_of
from dcrl_jax.evaluation.rules import CALTECH_REASONABLE, NIGHTOWLS_SUBSETS, assign_roles
from dcrl_jax.models.network import anchor_range_px, build_anchors
from dcrl_jax.training.data import box_filter_of

DATA = ("caltech", "nightowls", "synthetic_visible")
every_data_set = pytest.mark.parametrize("data", DATA)


@every_data_set
@pytest.mark.parametrize("row", ["", "/baseline", "/dcrd"])
def test_recipe_passes_the_checks_and_has_the_baseline_s_keys_and_no_teacher(data, row):
    config = finetune.get_config(data + row)
    check_config(config)
    assert config.role == "baseline"

    def own_keys(config):
        return {key for key in keys_of(config) if not key.startswith("data.options.")}

    assert own_keys(config) == own_keys(baseline.get_config())


@every_data_set
def test_rows_differ_in_nothing_but_what_they_start_from(data):
    configs = {row: finetune.get_config(data + row).to_dict() for row in ("", "/baseline", "/dcrd")}
    roles = {row: config["init"].pop("roles") for row, config in configs.items()}
    assert roles == {"": ("student", "baseline"), "/baseline": ("baseline",), "/dcrd": ("student",)}
    assert configs[""] == configs["/baseline"] == configs["/dcrd"]


@pytest.mark.parametrize("argument", ["moon", "caltech/teacher", "kaist/dcrd", ""])
def test_unknown_data_set_or_row_is_named_with_the_known_ones(argument):
    with pytest.raises(ValueError, match=f"caltech, caltech/baseline, caltech/dcrd, nightowls, .*, not '{argument}'"):
        finetune.get_config(argument)


def test_no_data_set_is_refused_as_an_unknown_one_is():
    with pytest.raises(ValueError, match=r"fine-tuning knows caltech, caltech/baseline, .*, not ''"):
        finetune.get_config()


@pytest.mark.parametrize("data", ["caltech", "nightowls"])
def test_rate_momentum_and_batch_are_those_of_the_paper_s_student(data):
    config = finetune.get_config(data)
    assert (config.optimizer.name, config.optimizer.learning_rate, config.optimizer.momentum) == ("sgd", 1e-3, 0.9)
    assert config.train.batch_size == 64


@pytest.mark.parametrize(
    ("data", "size", "anchors"),
    [("caltech", (640, 480), (28.125, 468.75)), ("nightowls", (1024, 640), (37.5, 625.0))],
)
def test_anchors_are_scaled_with_the_height_of_the_input(data, size, anchors):
    config = finetune.get_config(data)
    assert (config.data.width_px, config.data.height_px) == size
    assert anchor_range_px(config) == pytest.approx(anchors)
    made = build_anchors(config)
    assert len(made) == 9 * size[0] * size[1] // 64
    heights = made[:, 3] - made[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx(anchors)


def test_each_data_set_is_scored_by_its_own_rules():
    assert subsets_of(finetune.get_config("caltech")) == (CALTECH_REASONABLE,)
    assert subsets_of(finetune.get_config("nightowls")) == NIGHTOWLS_SUBSETS
    subsets = subsets_of(finetune.get_config("synthetic_visible"))
    assert [subset.name for subset in subsets] == ["reasonable-all", "reasonable-day", "reasonable-night"]
    assert {subset.min_height_px for subset in subsets} == {16.0}


@pytest.mark.parametrize("data", ["caltech", "nightowls"])
def test_people_of_the_test_train_and_whoever_it_ignores_is_an_ignore_region(data):
    config = finetune.get_config(data)
    inside, short, cut = (100, 100, 20, 50), (100, 100, 20, 49), (2, 100, 20, 50)
    annotations = [(inside, label, 0) for label in ("person", "people", "person?", "ignore", "person-fa")]
    annotations += [(inside, "person", 1), (inside, "person", 2), (short, "person", 0), (cut, "person", 0)]
    boxes, labels, occlusion = zip(*annotations, strict=True)
    truth = np.array(boxes, float), labels, np.array(occlusion), np.array([label == "ignore" for label in labels])
    people, ignored = filter_boxes(box_filter_of(config.data), *truth)
    tested = assign_roles(subsets_of(config)[0], *truth)
    assert people.tolist() == tested.is_person.tolist()
    if data == "caltech":
        assert ignored.tolist() == tested.is_ignore.tolist()
    else:  # the test lets no area absorb detections; training masks them
        assert ignored.tolist() == [
            label == "ignore" or one for label, one in zip(labels, tested.is_ignore, strict=True)
        ]


def test_every_option_of_a_data_set_is_one_of_its_builder():
    known = {
        "caltech": {field.name for field in dataclasses.fields(CaltechConfig)} | {"allow_incomplete"},
        "nightowls": set(inspect.signature(nightowls.open_builder).parameters),
        "synthetic_visible": {field.name for field in dataclasses.fields(SyntheticVisibleConfig)},
    }
    for data, names in known.items():
        assert set(finetune.get_config(data).data.options) <= names
