"""The annotations that count in each benchmark's subsets, one rule per test."""

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
        (Subset("x"), "person people person? cyclist ignore unpaired car bicycle", "piiiii--"),
        (CALTECH_REASONABLE, "person person? people ignore person-fa cyclist unpaired", "piii---"),
        (NIGHTOWLS_SUBSETS[0], "person bicycledriver motorbikedriver ignore", "p---"),
        # An ignore label overrides a person label.
        (Subset("x", person_labels=frozenset({"person", "people"})), "person people", "pi"),
        (Subset("x"), "", ""),
    ],
    ids=["KAIST", "Caltech", "NightOwls", "both", "none"],
)
def test_labels_decide_between_person_ignore_region_and_dropped(subset, labels, expected):
    labels = labels.split()
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


def test_levels_of_occlusion_none_partial_and_heavy():
    subsets = (KAIST_REASONABLE[0], *KAIST_OCCLUSION, *KAIST_SCALE[:2], CALTECH_REASONABLE, *NIGHTOWLS_SUBSETS)
    expected = "ppi pii ipi iip pii pii ppi ppi ppi iip ppp"
    heights = [115 if subset in KAIST_SCALE else 60 for subset in subsets]
    found = [roles(s, tall(h, h, h), occlusion=[0, 1, 2]) for s, h in zip(subsets, heights, strict=True)]
    assert found == expected.split()


def test_people_who_cross_the_border_are_ignored():
    for subset in (*KAIST_REASONABLE, KAIST_SCALE[1], KAIST_OCCLUSION[0], CALTECH_REASONABLE):
        # The lower border is 507 for KAIST and 475 for Caltech.
        y = subset.border[3] - 60
        upper = [[5, 5, 20, 60], [4.9, 5, 20, 60], [5, 4.9, 20, 60]]
        lower = [[615, y, 20, 60], [615.1, y, 20, 60], [615, y + 0.1, 20, 60]]
        assert roles(subset, upper + lower) == "piipii"
    # NightOwls has no border.
    assert roles(NIGHTOWLS_SUBSETS[0], [[-10, -5, 40, 60], [1000, 600, 40, 90]]) == "pp"


def test_reasonable_of_another_data_set_has_all_day_and_night():
    border = (1.0, 2.0, 159.0, 126.0)
    subsets = reasonable(20.0, border)
    assert [(subset.name, subset.condition, subset.min_height_px, subset.border) for subset in subsets] == [
        (f"reasonable-{condition}", condition, 20.0, border) for condition in ("all", "day", "night")
    ]
    assert roles(subsets[2], [[1, 2, 10, 30], [0, 2, 10, 30]], occlusion=[1, 1]) == "pi"
    # The border is optional.
    assert roles(reasonable(20.0)[0], [[0, 0, 10, 20], [-3, 0, 10, 20], [0, 0, 10, 19]]) == "ppi"


def test_names_and_descriptions_of_subsets():
    assert [subset.name for subset in KAIST_SUBSETS] == [
        *("reasonable-all", "reasonable-day", "reasonable-night", "scale-near", "scale-medium", "scale-far"),
        *("occlusion-none", "occlusion-partial", "occlusion-heavy"),
    ]
    assert [subset.short_name for subset in NIGHTOWLS_SUBSETS] == ["reasonable", "small", "occluded", "all"]
    assert describe_subset(Subset("", occlusions=frozenset({0}))) == "of any height, not occluded"
    assert [describe_subset(subset) for subset in (CALTECH_REASONABLE, *NIGHTOWLS_SUBSETS[1:])] == [
        "at least 50 pixels tall, at most partly occluded, inside x 5 to 635, y 5 to 475",
        "at least 50 pixels tall, at most 75, at most partly occluded",
        "at least 50 pixels tall, heavily occluded",
        "at least 20 pixels tall",
    ]
