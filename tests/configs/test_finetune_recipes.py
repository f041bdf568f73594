"""The recipes of Table V: what a row is, and the size and the people of each data set."""

import dataclasses
import inspect

import numpy as np
import pytest

from configs import finetune
from datasets import nightowls
from datasets.caltech_pedestrian import CaltechConfig
from datasets.synthetic_visible import SyntheticVisibleConfig
from dcrl_jax.config import check_config
from dcrl_jax.data.transforms import filter_boxes
from dcrl_jax.evaluation.evaluate import subsets_of
from dcrl_jax.evaluation.rules import CALTECH_REASONABLE, NIGHTOWLS_SUBSETS, assign_roles
from dcrl_jax.models.network import anchor_range_px, build_anchors
from dcrl_jax.training.data import box_filter_of

OPTIONS = {
    "caltech": {field.name for field in dataclasses.fields(CaltechConfig)} | {"allow_incomplete"},
    "nightowls": set(inspect.signature(nightowls.open_builder).parameters),
    "synthetic_visible": {field.name for field in dataclasses.fields(SyntheticVisibleConfig)},
}


@pytest.mark.parametrize("data", OPTIONS)
def test_rows_are_valid_baselines_that_differ_only_in_their_start(data):
    configs = {row: finetune.get_config(data + row) for row in ("", "/baseline", "/dcrd")}
    for config in configs.values():
        check_config(config)
        assert config.role == "baseline"
        assert set(config.data.options) <= OPTIONS[data]
    configs = {row: config.to_dict() for row, config in configs.items()}
    roles = {row: config["init"].pop("roles") for row, config in configs.items()}
    assert roles == {"": ("student", "baseline"), "/baseline": ("baseline",), "/dcrd": ("student",)}
    assert configs[""] == configs["/baseline"] == configs["/dcrd"]


@pytest.mark.parametrize("argument", ["moon", "caltech/teacher", "kaist/dcrd", ""])
def test_unknown_data_set_or_row_is_named_with_the_known_ones(argument):
    with pytest.raises(ValueError, match=f"caltech, caltech/baseline, caltech/dcrd, nightowls, .*, not '{argument}'"):
        finetune.get_config(argument)


@pytest.mark.parametrize(
    ("data", "size", "anchors_px", "subsets"),
    [
        ("caltech", (640, 480), (28.125, 468.75), (CALTECH_REASONABLE,)),
        ("nightowls", (1024, 640), (37.5, 625.0), NIGHTOWLS_SUBSETS),
    ],
)
def test_real_data_sets_have_their_own_size_anchors_and_rules(data, size, anchors_px, subsets):
    config = finetune.get_config(data)
    assert (config.data.width_px, config.data.height_px) == size
    assert anchor_range_px(config) == pytest.approx(anchors_px)
    anchors = build_anchors(config)
    assert len(anchors) == 9 * size[0] * size[1] // 64
    heights = anchors[:, 3] - anchors[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx(anchors_px)
    assert subsets_of(config) == subsets
    # Rate, momentum and batch are those of the paper's student.
    assert (config.optimizer.name, config.optimizer.learning_rate, config.optimizer.momentum) == ("sgd", 1e-3, 0.9)
    assert config.train.batch_size == 64


def test_synthetic_scenes_are_scored_by_kaist_s_rules():
    subsets = subsets_of(finetune.get_config("synthetic_visible"))
    assert [subset.name for subset in subsets] == ["reasonable-all", "reasonable-day", "reasonable-night"]
    assert {subset.min_height_px for subset in subsets} == {16.0}


@pytest.mark.parametrize("data", ["caltech", "nightowls"])
def test_training_counts_the_people_of_the_test(data):
    config = finetune.get_config(data)
    inside, short, cut = (100, 100, 20, 50), (100, 100, 20, 49), (2, 100, 20, 50)
    annotations = [(inside, label, 0) for label in ("person", "people", "person?", "ignore", "person-fa")]
    annotations += [(inside, "person", 1), (inside, "person", 2), (short, "person", 0), (cut, "person", 0)]
    boxes, labels, occlusion = zip(*annotations, strict=True)
    is_region = np.array([label == "ignore" for label in labels])
    truth = np.array(boxes, float), labels, np.array(occlusion), is_region
    people, ignored = filter_boxes(box_filter_of(config.data), *truth)
    tested = assign_roles(subsets_of(config)[0], *truth)
    assert people.tolist() == tested.is_person.tolist()
    # NightOwls' test lets no area absorb detections; training masks them.
    expected = tested.is_ignore if data == "caltech" else tested.is_ignore | is_region
    assert ignored.tolist() == expected.tolist()
