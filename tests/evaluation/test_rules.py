"""The annotations that count in each benchmark's subsets, one rule per test."""

import numpy as np
import pytest
from scoring_cases import roles

from dcrl_jax.evaluation.rules import (
    CALTECH_REASONABLE,
    KAIST_OCCLUSION,
    KAIST_REASONABLE,
    KAIST_SCALE,
    KAIST_SUBSETS,
    NIGHTOWLS_SUBSETS,
    Subset,
    describe_subset,
    reasonable,
)


def tall(*heights):
    return [[100, 100, 20, height] for height in heights]


@pytest.mark.parametrize(
    ("subset", "labels", "expected"),
    [
        (Subset("x"), ("person", "people", "person?", "cyclist", "ignore", "unpaired", "car", "bicycle"), "piiiii--"),
        (CALTECH_REASONABLE, ("person", "person?", "people", "ignore", "person-fa", "cyclist", "unpaired"), "piii---"),
        (NIGHTOWLS_SUBSETS[0], ("person", "bicycledriver", "motorbikedriver", "ignore"), "p---"),
        # An ignore label overrides a person label.
        (Subset("x", person_labels=frozenset({"person", "people"})), ("person", "people"), "pi"),
    ],
    ids=["KAIST", "Caltech", "NightOwls", "both"],
)
def test_labels_decide_between_person_ignore_region_and_dropped(subset, labels, expected):
    assert roles(subset, tall(*[60] * len(labels)), labels) == expected


def test_ignored_person_becomes_a_region_and_an_ignored_car_is_dropped():
    assert roles(Subset("x"), tall(60, 60, 60), ["person", "person", "car"], ignore=[True, False, True]) == "ip-"


@pytest.mark.parametrize(
    ("subsets", "heights", "expected"),
    [
        (KAIST_REASONABLE, (54.999, 55, 55.001, 400), ["ippp"] * 3),
        (KAIST_SCALE, (0.5, 1, 45, 45.5, 115, 115.5), ["iiiipp", "iipppi", "ippiii"]),
        ((CALTECH_REASONABLE,), (49.999, 50, 300), ["ipp"]),
        (NIGHTOWLS_SUBSETS, (19, 20, 49, 50, 75, 76, 600), ["iiipppp", "iiippii", "iiiiiii", "ipppppp"]),
    ],
    ids=["KAIST reasonable", "KAIST scale", "Caltech", "NightOwls"],
)
def test_limits_of_height_are_inclusive(subsets, heights, expected):
    assert [roles(subset, tall(*heights)) for subset in subsets] == expected


@pytest.mark.parametrize(
    ("subsets", "heights", "expected"),
    [
        (KAIST_REASONABLE, (60, 60, 60), ["ppi"] * 3),
        (KAIST_OCCLUSION, (2, 2, 2), ["pii", "ipi", "iip"]),
        (KAIST_SCALE, (115, 115, 115), ["pii", "pii", "iii"]),
        ((CALTECH_REASONABLE,), (60, 60, 60), ["ppi"]),
        (NIGHTOWLS_SUBSETS, (60, 60, 60), ["ppi", "ppi", "iip", "ppp"]),
    ],
    ids=["KAIST reasonable", "KAIST occlusion", "KAIST scale", "Caltech", "NightOwls"],
)
def test_levels_of_occlusion_none_partial_and_heavy(subsets, heights, expected):
    assert [roles(subset, tall(*heights), occlusion=[0, 1, 2]) for subset in subsets] == expected


@pytest.mark.parametrize(
    ("box", "role"),
    [
        ([5, 5, 20, 60], "p"),
        ([4.9, 5, 20, 60], "i"),
        ([5, 4.9, 20, 60], "i"),
        ([615, 0, 20, 60], "p"),
        ([615.1, 0, 20, 60], "i"),
        ([615, 0.1, 20, 60], "i"),
    ],
)
def test_people_who_cross_the_border_are_ignored(box, role):
    for subset in (*KAIST_REASONABLE, *KAIST_SCALE[1:2], *KAIST_OCCLUSION[:1], CALTECH_REASONABLE):
        x, y, width, height = box
        # The last three boxes lie at the lower border, which KAIST has at 507 and Caltech at 475.
        lower = subset.border[3] - height if x > 600 else 0
        assert roles(subset, [[x, y + lower, width, height]]) == role


def test_border_is_optional():
    boxes = [[0, 0, 10, 20], [-3, 0, 10, 20], [0, 0, 10, 19]]
    assert roles(reasonable(20.0)[0], boxes) == "ppi"
    assert roles(NIGHTOWLS_SUBSETS[0], [[-10, -5, 40, 60], [1000, 600, 40, 90]]) == "pp"


def test_reasonable_of_another_data_set_has_all_day_and_night():
    subsets = reasonable(20.0, border=(1.0, 2.0, 159.0, 126.0))
    assert [(subset.name, subset.condition) for subset in subsets] == [
        ("reasonable-all", "all"),
        ("reasonable-day", "day"),
        ("reasonable-night", "night"),
    ]
    assert {(subset.min_height_px, subset.border) for subset in subsets} == {(20.0, (1.0, 2.0, 159.0, 126.0))}
    assert roles(subsets[2], [[1, 2, 10, 30], [0, 2, 10, 30]], occlusion=[1, 1]) == "pi"


def test_names_of_subsets():
    assert [subset.name for subset in KAIST_SUBSETS] == [
        *("reasonable-all", "reasonable-day", "reasonable-night", "scale-near", "scale-medium", "scale-far"),
        *("occlusion-none", "occlusion-partial", "occlusion-heavy"),
    ]
    assert [subset.short_name for subset in NIGHTOWLS_SUBSETS] == ["reasonable", "small", "occluded", "all"]


def test_image_without_annotations_has_no_roles():
    assert roles(Subset("x"), np.zeros((0, 4))) == ""


@pytest.mark.parametrize(
    ("subset", "description"),
    [
        (CALTECH_REASONABLE, "at least 50 pixels tall, at most partly occluded, inside x 5 to 635, y 5 to 475"),
        (NIGHTOWLS_SUBSETS[0], "at least 50 pixels tall, at most partly occluded"),
        (NIGHTOWLS_SUBSETS[1], "at least 50 pixels tall, at most 75, at most partly occluded"),
        (NIGHTOWLS_SUBSETS[2], "at least 50 pixels tall, heavily occluded"),
        (NIGHTOWLS_SUBSETS[3], "at least 20 pixels tall"),
    ],
)
def test_description_of_a_subset(subset, description):
    assert describe_subset(subset) == description
