"""Miss rate: each rule on a case worked by hand, and matches against a slow matcher."""

import math
import time

import numpy as np
import pytest
from scoring_cases import ANYONE, AWAY, BOX, make_detections, make_truth, outcomes, random_scenes, ranked, slow_match

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.miss_rate import REFERENCE_FPPI, match, score, score_subsets
from dcrl_jax.evaluation.overlaps import ImageDetections
from dcrl_jax.evaluation.rules import CALTECH_REASONABLE, NIGHTOWLS_SUBSETS, Subset, reasonable

A, B = make_truth("a", BOX), make_truth("b", BOX)
NOBODY = make_truth("a")
PERFECT = {"a": make_detections([*BOX, 0.9])}


def test_curve_and_log_average_at_nine_points_by_hand():
    expected = [0.01, 0.017783, 0.031623, 0.056234, 0.1, 0.177828, 0.316228, 0.562341, 1.0]
    np.testing.assert_allclose(REFERENCE_FPPI, expected, rtol=1e-4)
    assert [REFERENCE_FPPI[0], REFERENCE_FPPI[4], REFERENCE_FPPI[8]] == [0.01, 0.1, 1.0]
    # Two images, three people. By descending score: true (1/3 found, 0 fppi), false (0.5), true (2/3), false (1.0).
    truths = [make_truth("a", BOX, (50, 0, 10, 20)), B]
    detections = {"a": make_detections([*BOX, 0.9], [*AWAY, 0.1]), "b": make_detections([*BOX, 0.5], [*AWAY, 0.7])}
    result = score(truths, detections, ANYONE)
    np.testing.assert_allclose(result.fppi, [0, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(result.miss, [2 / 3, 2 / 3, 1 / 3, 1 / 3])
    # Seven reference points lie below 0.5 false positives per image.
    np.testing.assert_allclose(result.miss_at_reference, [2 / 3] * 7 + [1 / 3] * 2)
    assert result.miss_rate == pytest.approx((2 / 3) ** (7 / 9) * (1 / 3) ** (2 / 9))
    assert result.recall == pytest.approx(2 / 3)
    assert (result.people, result.images) == (3, 2)


@pytest.mark.parametrize(
    ("truths", "detections", "subset", "expected"),
    [
        # The log-average of zero is cut off at 1e-10.
        ([A], PERFECT, ANYONE, (1e-10, 1.0, 1, 1)),
        # Everybody is missed before the first point of the curve, which lies at one false positive per image.
        ([A], {"a": ranked(AWAY, BOX)}, ANYONE, (1e-10 ** (1 / 9), 1.0, 1, 1)),
        ([A], {}, ANYONE, (1.0, 0.0, 1, 1)),
        ([NOBODY], PERFECT, ANYONE, (math.nan, math.nan, 0, 1)),
        ([A], {}, Subset("night", "night"), (math.nan, math.nan, 0, 0)),
        ([A, B], PERFECT, ANYONE, (0.5, 0.5, 2, 2)),
    ],
    ids=["perfect", "late", "no results", "no people", "no images", "image without results"],
)
def test_extreme_cases(truths, detections, subset, expected):
    result = score(truths, detections, subset)
    found = (result.miss_rate, result.recall, result.people, result.images)
    assert found == pytest.approx(expected, nan_ok=True)


def test_condition_selects_images_people_and_detections():
    truths = [
        make_truth("a", BOX, condition="night"),
        make_truth("b", BOX, (30, 0, 10, 20)),
        make_truth("c", condition="night"),  # nobody, but an image to count
        make_truth("d", BOX, condition="dawn"),
    ]
    detections = {**PERFECT, "b": ranked((90, 0, 10, 20), (90, 0, 9, 20)), "d": make_detections([*BOX, 0.05])}
    subsets = [Subset(name, name) for name in ("all", "day", "night", "dawn")]
    rows = score_subsets(truths, detections, subsets).values()
    assert [(row.people, row.images, row.recall, row.fppi.tolist()) for row in rows] == [
        (4, 4, 0.5, [0.0, 0.25, 0.5, 0.5]),
        (2, 1, 0.0, [1.0, 2.0]),
        (1, 2, 1.0, [0.0]),
        (1, 1, 1.0, [0.0]),
    ]
    assert match(truths, detections, subsets[2]).image_ids == ("a", "c")
    with pytest.raises(InputError, match="subset x: condition 'dusk'"):
        score(truths, {}, Subset("x", "dusk"))


def test_detections_outside_the_limits_of_height_are_dropped():
    subsets = (Subset("x", min_detection_height_px=20.0, max_detection_height_px=40.0), CALTECH_REASONABLE)
    # From 50 / 1.25 pixels on; the other limits are heights of people divided and multiplied by 1.25.
    expected = [[20, 39.9], [40, 93.7, 93.75, 600], [40, 93.7, 93.75, 600], [40, 93.7], [40, 93.7, 93.75, 600]]
    expected += [[16, 20, 39.9, 40, 93.7, 93.75, 600]]
    # All have the same score, which shows that only their heights decide.
    rows = [[0, 1000 * i, 10, height, 0.5] for i, height in enumerate((15.9, 16, 20, 39.9, 40, 93.7, 93.75, 600))]
    for subset, kept in zip(subsets + NIGHTOWLS_SUBSETS, expected, strict=True):
        assert match([NOBODY], {"a": make_detections(*rows)}, subset).boxes[:, 3].tolist() == kept


def test_dropped_detection_neither_takes_a_person_nor_counts():
    truths = [make_truth("a", (100, 100, 20.5, 50))]
    # 39.9 of 50 pixels would match, as 40 do.
    for subset in (CALTECH_REASONABLE, NIGHTOWLS_SUBSETS[0]):
        assert outcomes(truths, {"a": ranked((102, 100, 16.4, 39.9), (102, 100, 16.4, 40))}, subset) == "t"
        assert outcomes(truths, {"a": ranked((400, 100, 16.4, 39.9))}, subset) == ""


LARGE = (100, 100, 80, 100)


@pytest.mark.parametrize(
    ("subset", "labels", "boxes", "found", "expected"),
    [
        # Small boxes inside a large region overlap it by 2 % of the union. The last lies on it by less than half.
        (
            ANYONE,
            ("people", "person"),
            [(0, 0, 100, 100), AWAY],
            [(5, 5, 10, 20), (50, 50, 10, 20), (50, 50, 10, 20), (95, 0, 10, 20), (96, 0, 10, 20)],
            "iiiif",
        ),
        (ANYONE, ("people", "person"), [BOX, (0, 0, 10, 26)], [BOX, BOX], "ti"),
        (ANYONE, None, [BOX], [(0, 0, 10, 18), BOX], "tf"),
        # The second detection overlaps the first person more, and takes the other one.
        (ANYONE, None, [BOX, (0, 4, 10, 20)], [BOX, (0, 1, 10, 20), (0, 2, 10, 20)], "ttf"),
        (ANYONE, None, [BOX], [(0, 0, 10, 10)], "t"),
        (ANYONE, None, [BOX], [(0, 0, 10, 9.99)], "f"),
        (ANYONE, None, [BOX], [(0, 0, 0, 20), (2, 2, 0, 0)], "ff"),
        # 80 and 30 wide, their overlap is 30 of 80. With Caltech's aspect ratio both are 41 wide.
        (NIGHTOWLS_SUBSETS[0], None, [LARGE], [(125, 100, 30, 100)], "f"),
        (CALTECH_REASONABLE, None, [LARGE], [(125, 100, 30, 100)], "t"),
        # As they are, 41 of 80 pixels would do; with the ratio their centres are 19.5 apart.
        (CALTECH_REASONABLE, None, [(100, 100, 41, 100)], [LARGE], "f"),
        # At the border with 20 pixels; with the ratio the person is 41 wide and begins at -5.5, yet counts.
        (CALTECH_REASONABLE, None, [(5, 100, 20, 100)], [(-5.5, 100, 41, 100)], "t"),
        # The region is 200 wide and 60 tall; with the ratio it would be 24.6 wide, about x = 200.
        (CALTECH_REASONABLE, ("people",), [(100, 100, 200, 60)], [(110, 100, 24.6, 60), (270, 100, 24.6, 60)], "ii"),
    ],
    ids=[
        *("ignore region", "person first", "second detection", "free person", "half", "below half", "no area"),
        *("no ratio", "ratio", "ratio, no match", "ratio at the border", "ratio and ignore region"),
    ],
)
def test_matching(subset, labels, boxes, found, expected):
    assert outcomes([make_truth("a", *boxes, labels=labels)], {"a": ranked(*found)}, subset) == expected


def test_equal_scores_keep_the_given_order():
    good, bad = [*BOX, 0.5], [90, 0, 10, 20, 0.5]
    assert outcomes([A, B], {"a": make_detections(good, bad)}) == "tf"
    assert outcomes([A, B], {"a": make_detections(bad, good)}) == "ft"
    # Across images the order is that of the annotations, not that of the detections.
    detections = {"b": make_detections(good), "a": make_detections(bad)}
    assert score([A, B], detections, ANYONE).miss.tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("truths", "detections", "message"),
    [
        ([A], {"z": make_detections([*BOX, 0.5])}, "'z'"),
        ([A], {"a": make_detections([*BOX, np.nan])}, "not finite"),
        ([A], {"a": make_detections([*BOX, np.inf])}, "not finite"),
        ([A], {"a": make_detections([0, np.nan, 10, 20, 0.5])}, "not finite"),
        ([A], {"a": ImageDetections(np.zeros((3, 4)), np.zeros(2))}, "3 detected boxes but 2 scores"),
        ([A, B, A], {}, "1 images more than once, first 'a'"),
        ([make_truth("a", condition="dusk")], {}, "'dusk'"),
        ([make_truth("a", BOX, labels=("person", "person"))], {}, "1 boxes, 2 labels"),
        ([make_truth("a", [0, 0, 10, np.nan])], {}, "not finite"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_input_is_refused(truths, detections, message):
    with pytest.raises(InputError, match=message):
        score(truths, detections, ANYONE)


def test_matches_equal_those_of_a_slow_matcher_on_crowded_scenes():
    truths, detections = random_scenes(images=150)
    expected = "".join(letter for truth in truths for _, letter, _ in slow_match(truth, detections[truth.image_id]))
    assert outcomes(truths, detections) == expected
    assert min(expected.count(letter) for letter in "tfi") > 100


def test_complete_test_split_takes_seconds():
    rng = np.random.default_rng(1)
    truths, detections = random_scenes(images=2252)
    for name, (boxes, _) in detections.items():
        detections[name] = ImageDetections(np.tile(boxes, (9, 1)) + rng.normal(0, 0.1, (99, 4)), rng.random(99))
    begin = time.process_time()
    score_subsets(truths, detections, reasonable(5.0))
    # It takes a third of a second; the bound leaves room for slow machines.
    assert time.process_time() - begin < 5.0
