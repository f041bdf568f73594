"""Which annotations count, one rule a test."""

import numpy as np
import pytest

from dcrl_jax.evaluation.rules import (
    CALTECH_REASONABLE,
    KAIST_OCCLUSION,
    KAIST_REASONABLE,
    KAIST_SCALE,
    KAIST_SUBSETS,
    NIGHTOWLS_SUBSETS,
    Subset,
    assign_roles,
    people_who_count,
    reasonable,
)


def roles(subset, boxes, labels=None, occlusion=None, ignore=None):
    """One letter an annotation: p person, i ignore region, - dropped."""
    count = len(boxes)
    is_person, is_ignore = assign_roles(
        subset,
        np.asarray(boxes, np.float64),
        labels or ["person"] * count,
        np.asarray(occlusion or [0] * count),
        np.asarray(ignore or [False] * count),
    )
    assert not (is_person & is_ignore).any()
    return "".join(
        "p" if person else "i" if region else "-" for person, region in zip(is_person, is_ignore, strict=True)
    )


def tall(*heights):
    return [[100, 100, 20, height] for height in heights]


def test_labels_people_doubtful_people_and_cyclists_are_ignore_regions_and_others_are_dropped():
    labels = ["person", "people", "person?", "cyclist", "ignore", "car", "bicycle"]
    assert roles(Subset("x"), tall(*[60] * 7), labels) == "piiii--"


def test_a_person_marked_as_ignored_is_an_ignore_region_and_a_car_stays_dropped():
    assert roles(Subset("x"), tall(60, 60, 60), ["person", "person", "car"], ignore=[True, False, True]) == "ip-"


def test_height_of_exactly_55_pixels_is_reasonable():
    for subset in KAIST_REASONABLE:
        assert roles(subset, tall(54.999, 55, 55.001, 400)) == "ippp"


def test_heights_at_the_edges_of_near_medium_and_far_belong_to_both():
    heights = tall(0.5, 1, 45, 45.5, 115, 115.5)
    assert [roles(subset, heights) for subset in KAIST_SCALE] == ["iiiipp", "iipppi", "ipp" + "iii"]


def test_reasonable_is_none_and_partial_occlusion_and_the_occlusion_subsets_are_one_level_each():
    levels = [0, 1, 2]
    assert roles(KAIST_REASONABLE[0], tall(60, 60, 60), occlusion=levels) == "ppi"
    assert [roles(subset, tall(2, 2, 2), occlusion=levels) for subset in KAIST_OCCLUSION] == ["pii", "ipi", "iip"]
    assert [roles(subset, tall(115, 45, 45), occlusion=levels)[1:] for subset in KAIST_SCALE] == ["ii"] * 3


@pytest.mark.parametrize(
    ("box", "role"),
    [
        ([5, 5, 20, 60], "p"),
        ([4.9, 5, 20, 60], "i"),
        ([5, 4.9, 20, 60], "i"),
        ([615, 447, 20, 60], "p"),
        ([615.1, 447, 20, 60], "i"),
        ([615, 447.1, 20, 60], "i"),
    ],
)
def test_people_who_leave_the_border_are_ignored(box, role):
    for subset in KAIST_SUBSETS:
        if subset.min_height_px <= 60 <= subset.max_height_px and 0 in subset.occlusions:
            assert roles(subset, [box]) == role


def test_without_a_border_the_whole_image_counts():
    subset = reasonable(20.0)[0]
    assert roles(subset, [[0, 0, 10, 20], [-3, 0, 10, 20], [0, 0, 10, 19]]) == "ppi"


def test_reasonable_of_another_data_set_has_all_day_and_night():
    subsets = reasonable(20.0, border=(1.0, 2.0, 159.0, 126.0))
    assert [(one.name, one.condition) for one in subsets] == [
        ("reasonable-all", "all"),
        ("reasonable-day", "day"),
        ("reasonable-night", "night"),
    ]
    assert {(one.min_height_px, one.border) for one in subsets} == {(20.0, (1.0, 2.0, 159.0, 126.0))}
    assert roles(subsets[2], [[1, 2, 10, 30], [0, 2, 10, 30]], occlusion=[1, 1]) == "pi"


def test_names_of_the_nine_kaist_subsets():
    assert [one.name for one in KAIST_SUBSETS] == [
        "reasonable-all",
        "reasonable-day",
        "reasonable-night",
        "scale-near",
        "scale-medium",
        "scale-far",
        "occlusion-none",
        "occlusion-partial",
        "occlusion-heavy",
    ]


def test_image_without_annotations_has_no_roles():
    assert roles(Subset("x"), np.zeros((0, 4))) == ""


def test_people_who_count_are_described():
    from_caltech = "at least 50 pixels tall, at most partly occluded, all of them in x 5 to 635, y 5 to 475"
    assert people_who_count(CALTECH_REASONABLE) == from_caltech
    reasonable, small, occluded, everybody = map(people_who_count, NIGHTOWLS_SUBSETS)
    assert reasonable == "at least 50 pixels tall, at most partly occluded"
    assert small == "at least 50 pixels tall, at most 75, at most partly occluded"
    assert occluded == "at least 50 pixels tall, heavily occluded"
    assert everybody == "at least 20 pixels tall"
