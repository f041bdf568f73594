"""The scorer: each rule on a case worked by hand, and all rules against a slow matcher."""

import math
import time

import numpy as np
import pytest
from scoring_cases import ANYONE, make_detections, make_truth, outcomes

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.miss_rate import REFERENCE_FPPI, match, rank_detections, score, score_subsets
from dcrl_jax.evaluation.overlaps import ImageDetections
from dcrl_jax.evaluation.rules import CALTECH_REASONABLE, NIGHTOWLS_SUBSETS, Subset, reasonable

BOX = (0, 0, 10, 20)
ELSEWHERE = (200, 0, 10, 20)


def test_reference_points_are_nine_from_a_hundredth_to_one():
    np.testing.assert_allclose(
        REFERENCE_FPPI, [0.01, 0.017783, 0.031623, 0.056234, 0.1, 0.177828, 0.316228, 0.562341, 1.0], rtol=1e-4
    )
    assert [REFERENCE_FPPI[0], REFERENCE_FPPI[4], REFERENCE_FPPI[8]] == [0.01, 0.1, 1.0]


def test_curve_and_log_average_by_hand():
    # Two images, three people. By descending score: true (1/3 found, 0 fppi), false (0.5), true (2/3), false (1.0).
    truths = [make_truth("a", BOX, (50, 0, 10, 20)), make_truth("b", BOX)]
    detections = {
        "a": make_detections([*BOX, 0.9], [*ELSEWHERE, 0.1]),
        "b": make_detections([*BOX, 0.5], [*ELSEWHERE, 0.7]),
    }
    result = score(truths, detections, ANYONE)
    np.testing.assert_allclose(result.fppi, [0, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(result.miss, [2 / 3, 2 / 3, 1 / 3, 1 / 3])
    # Seven reference points lie below 0.5 false positives per image.
    np.testing.assert_allclose(result.miss_at_reference, [2 / 3] * 7 + [1 / 3] * 2)
    assert result.miss_rate == pytest.approx((2 / 3) ** (7 / 9) * (1 / 3) ** (2 / 9))
    assert result.recall == pytest.approx(2 / 3)
    assert (result.people, result.images) == (3, 2)


def test_everybody_is_missed_before_the_first_point_of_the_curve():
    found = {"a": make_detections([*ELSEWHERE, 0.9], [*BOX, 0.5])}
    result = score([make_truth("a", BOX)], found, ANYONE)
    np.testing.assert_allclose(result.miss_at_reference, [1] * 8 + [0])
    assert result.miss_rate == pytest.approx(1e-10 ** (1 / 9))


@pytest.mark.parametrize(
    ("truths", "detections", "subset", "expected"),
    [
        # The log-average of zero is cut off at 1e-10.
        ([make_truth("a", BOX)], {"a": make_detections([*BOX, 0.9])}, ANYONE, (1e-10, 1.0, 1, 1)),
        ([make_truth("a", BOX)], {}, ANYONE, (1.0, 0.0, 1, 1)),
        ([make_truth("a")], {"a": make_detections([*BOX, 0.9])}, ANYONE, (math.nan, math.nan, 0, 1)),
        ([make_truth("a", BOX)], {}, Subset("night", "night"), (math.nan, math.nan, 0, 0)),
        ([make_truth("a", BOX), make_truth("b", BOX)], {"a": make_detections([*BOX, 0.9])}, ANYONE, (0.5, 0.5, 2, 2)),
        (
            [make_truth("a", BOX), make_truth("b", BOX)],
            {"a": make_detections([*BOX, 0.9]), "b": make_detections()},
            ANYONE,
            (0.5, 0.5, 2, 2),
        ),
    ],
    ids=["perfect", "no results", "no people", "no images", "image without results", "image with empty results"],
)
def test_extreme_cases(truths, detections, subset, expected):
    result = score(truths, detections, subset)
    found = (result.miss_rate, result.recall, result.people, result.images)
    assert found == pytest.approx(expected, nan_ok=True)


def test_image_without_people_counts_in_false_positives_per_image():
    truths = [make_truth("a", BOX), make_truth("b"), make_truth("c"), make_truth("d")]
    result = score(truths, {"b": make_detections([*BOX, 0.9])}, ANYONE)
    np.testing.assert_allclose(result.fppi, [0.25])
    assert (result.people, result.images) == (1, 4)


def test_condition_selects_images_people_and_detections():
    truths = [
        make_truth("a", BOX, condition="night"),
        make_truth("b", BOX, (30, 0, 10, 20)),
        make_truth("c", condition="night"),
        make_truth("d", BOX, condition="dawn"),
    ]
    detections = {
        "a": make_detections([*BOX, 0.9]),
        "b": make_detections([90, 0, 10, 20, 0.8], [90, 0, 9, 20, 0.7]),
        "d": make_detections([*BOX, 0.6]),
    }
    subsets = [Subset(name, name) for name in ("all", "day", "night", "dawn")]
    rows = score_subsets(truths, detections, subsets).values()
    assert [(row.people, row.images, row.recall, row.fppi.tolist()) for row in rows] == [
        (4, 4, 0.5, [0.0, 0.25, 0.5, 0.5]),
        (2, 1, 0.0, [1.0, 2.0]),
        (1, 2, 1.0, [0.0]),
        (1, 1, 1.0, [0.0]),
    ]
    assert match(truths, detections, subsets[2]).image_ids == ("a", "c")


@pytest.mark.parametrize(
    ("subset", "kept"),
    [
        (Subset("x", min_detection_height_px=20.0, max_detection_height_px=40.0), [20, 39.9]),
        # From 50 / 1.25 pixels on; the other limits are these heights divided and multiplied by 1.25.
        (CALTECH_REASONABLE, [40, 93.7, 93.75, 600]),
        (NIGHTOWLS_SUBSETS[0], [40, 93.7, 93.75, 600]),
        (NIGHTOWLS_SUBSETS[1], [40, 93.7]),
        (NIGHTOWLS_SUBSETS[2], [40, 93.7, 93.75, 600]),
        (NIGHTOWLS_SUBSETS[3], [16, 20, 39.9, 40, 93.7, 93.75, 600]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_detections_outside_the_limits_of_height_are_dropped(subset, kept):
    heights = (15.9, 16, 20, 39.9, 40, 93.7, 93.75, 600)
    # All have the same score, which shows that only their heights decide.
    rows = [[0, 1000 * index, 10, height, 0.5] for index, height in enumerate(heights)]
    assert match([make_truth("a")], {"a": make_detections(*rows)}, subset).boxes[:, 3].tolist() == kept


def test_dropped_detection_neither_takes_a_person_nor_counts():
    truths = [make_truth("a", (100, 100, 20.5, 50))]
    # 39.9 of 50 pixels would match, as 40 do.
    dropped, kept = [102, 100, 16.4, 39.9], [102, 100, 16.4, 40]
    for subset in (CALTECH_REASONABLE, NIGHTOWLS_SUBSETS[0]):
        assert outcomes(truths, {"a": make_detections([*dropped, 0.9], [*kept, 0.8])}, subset) == "t"
        assert outcomes(truths, {"a": make_detections([400, 100, 16.4, 39.9, 0.9])}, subset) == ""


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # 100 tall, so 41 wide. As they are, 80 and 30 wide, their overlap would be 30 of 80, less than half.
        ([("person", 100, 100, 80, 100), (125, 100, 30, 100)], "t"),
        # As they are, 41 of 80 pixels would do; with the ratio their centres are 19.5 apart.
        ([("person", 100, 100, 41, 100), (100, 100, 80, 100)], "f"),
        # At the border with 20 pixels; with the ratio the person is 41 wide and begins at -5.5, yet counts.
        ([("person", 5, 100, 20, 100), (-5.5, 100, 41, 100)], "t"),
        # The region is 200 wide and 60 tall; with the ratio it would be 24.6 wide, about x = 200.
        ([("people", 100, 100, 200, 60), (110, 100, 24.6, 60), (270, 100, 24.6, 60)], "ii"),
    ],
    ids=["match", "no match", "border", "ignore region"],
)
def test_aspect_ratio_of_people_and_detections(rows, expected):
    (label, *box), *boxes = rows
    found = {"a": make_detections(*([*row, 0.9 - 0.1 * index] for index, row in enumerate(boxes)))}
    assert outcomes([make_truth("a", box, labels=(label,))], found, CALTECH_REASONABLE) == expected


def test_boxes_keep_their_width_without_an_aspect_ratio():
    truths = [make_truth("a", (100, 100, 60, 60))]
    assert outcomes(truths, {"a": make_detections([120, 100, 20, 60, 0.9])}, NIGHTOWLS_SUBSETS[0]) == "f"


@pytest.mark.parametrize(
    ("boxes", "labels", "rows", "expected"),
    [
        # Small boxes inside a large region overlap it by 2 % of the union. The last lies on it by less than half.
        (
            [(0, 0, 100, 100), (200, 0, 10, 20)],
            ("people", "person"),
            [(5, 5, 10, 20), (50, 50, 10, 20), (50, 50, 10, 20), (95, 0, 10, 20), (96, 0, 10, 20)],
            "iiiif",
        ),
        ([BOX, (0, 0, 10, 26)], ("people", "person"), [BOX, BOX], "ti"),
        ([BOX], None, [(0, 0, 10, 18), BOX], "tf"),
        # The second detection overlaps the first person more, and takes the other one.
        ([BOX, (0, 4, 10, 20)], None, [BOX, (0, 1, 10, 20), (0, 2, 10, 20)], "ttf"),
        ([BOX], None, [(0, 0, 10, 10)], "t"),
        ([BOX], None, [(0, 0, 10, 9.99)], "f"),
        ([BOX], None, [(0, 0, 0, 20), (2, 2, 0, 0)], "ff"),
    ],
    ids=["ignore region", "person first", "second detection", "free person", "half", "below half", "no area"],
)
def test_matching(boxes, labels, rows, expected):
    found = make_detections(*([*row, 0.9 - 0.1 * index] for index, row in enumerate(rows)))
    assert outcomes([make_truth("a", *boxes, labels=labels)], {"a": found}) == expected


def test_each_match_names_its_person_and_box():
    truths = [make_truth("n", BOX, condition="night"), make_truth("a", ELSEWHERE, BOX), make_truth("b", BOX)]
    rows = {"a": make_detections([*BOX, 0.5], [50, 0, 5, 5, 0.7]), "b": make_detections([1, 0, 10, 20, 0.6])}
    matches = match(truths, rows, Subset("day", "day"))
    assert matches.person.tolist() == [-1, 1, 0]
    assert matches.image.tolist() == [0, 0, 1]
    assert matches.boxes.tolist() == [[50, 0, 5, 5], list(BOX), [1, 0, 10, 20]]
    assert matches.is_false_positive.tolist() == [True, False, False]


def test_unsorted_detections_score_like_sorted_ones():
    rng = np.random.default_rng(3)
    truths, detections = random_scenes(rng, images=5)
    shuffled = {}
    for image_id, (boxes, _) in detections.items():
        scores = rng.random(len(boxes))
        detections[image_id] = ImageDetections(boxes, scores)
        order = rng.permutation(len(scores))
        shuffled[image_id] = ImageDetections(boxes[order], scores[order])
    expected = score(truths, detections, ANYONE)
    result = score(truths, dict(reversed(shuffled.items())), ANYONE)
    np.testing.assert_array_equal(result.miss, expected.miss)
    np.testing.assert_array_equal(result.fppi, expected.fppi)


def test_equal_scores_keep_the_given_order():
    truths = [make_truth("a", BOX), make_truth("b", BOX)]
    good, bad = [*BOX, 0.5], [90, 0, 10, 20, 0.5]
    assert outcomes(truths, {"a": make_detections(good, bad)}) == "tf"
    assert outcomes(truths, {"a": make_detections(bad, good)}) == "ft"
    # Across images the order is that of the annotations, not that of the detections.
    detections = {"b": make_detections(good), "a": make_detections(bad)}
    assert score(truths, detections, ANYONE).miss.tolist() == [1.0, 0.5]


def test_ranking_has_outcome_and_image_of_each_counted_detection():
    region = make_truth("c", [0, 0, 100, 100], labels=("people",))
    truths = [make_truth("a", BOX), make_truth("night", condition="night"), region, make_truth("d", BOX)]
    detections = {
        "a": make_detections([*BOX, 0.5], [90, 0, 10, 20, 0.8]),
        "night": make_detections([*BOX, 0.95]),
        "c": make_detections([5, 5, 10, 20, 0.9], [*ELSEWHERE, 0.5]),
        "d": make_detections([*BOX, 0.7]),
    }
    matches = match(truths, detections, Subset("day", "day"))
    assert matches.image_ids == ("a", "c", "d")
    # The detection of 0.9 lies on the ignore region; equal scores stay in the order of the images.
    is_true, image = rank_detections(matches)
    assert is_true.tolist() == [False, True, True, False]
    assert image.tolist() == [0, 2, 0, 1]


TRUTHS = [make_truth("a", BOX)]


@pytest.mark.parametrize(
    ("truths", "detections", "subset", "message"),
    [
        (TRUTHS, {"z": make_detections([*BOX, 0.5])}, ANYONE, "'z'"),
        (TRUTHS, {"a": make_detections([*BOX, np.nan])}, ANYONE, "not finite"),
        (TRUTHS, {"a": make_detections([*BOX, np.inf])}, ANYONE, "not finite"),
        (TRUTHS, {"a": make_detections([0, np.nan, 10, 20, 0.5])}, ANYONE, "not finite"),
        (TRUTHS, {"a": ImageDetections(np.zeros((3, 4)), np.zeros(2))}, ANYONE, "3 detected boxes but 2 scores"),
        ([make_truth("a"), make_truth("b"), make_truth("a")], {}, ANYONE, "1 images more than once, first 'a'"),
        ([make_truth("a", condition="dusk")], {}, ANYONE, "'dusk'"),
        ([make_truth("a", BOX, labels=("person", "person"))], {}, ANYONE, "1 boxes, 2 labels"),
        ([make_truth("a", [0, 0, 10, np.nan])], {}, ANYONE, "not finite"),
        (TRUTHS, {}, Subset("x", "dusk"), "dusk"),
    ],
    ids=[
        *("unknown image", "NaN score", "infinite score", "NaN box", "lengths"),
        *("duplicate", "condition", "truth lengths", "NaN truth", "subset condition"),
    ],
)
def test_malformed_input_is_refused(truths, detections, subset, message):
    with pytest.raises(InputError, match=message):
        score(truths, detections, subset)


def random_scenes(rng, images):
    """Crowded scenes on a coarse grid, so that equal overlaps and equal scores occur."""
    truths, detections = [], {}
    for number in range(images):
        boxes = np.concatenate([rng.integers(0, 12, (7, 2)), rng.integers(4, 9, (7, 2))], axis=1)
        labels = rng.choice(["person", "person", "people", "car"], 7).tolist()
        truths.append(make_truth(str(number), *boxes, condition=("day", "night")[number % 2], labels=labels))
        found = np.concatenate([rng.integers(0, 12, (11, 2)), rng.integers(3, 9, (11, 2))], axis=1)
        detections[str(number)] = ImageDetections(found.astype(float), rng.integers(0, 6, 11) / 5)
    return truths, detections


def slow_outcomes(truth, detections):
    """Return the outcomes by the reference's rule, one pair at a time; a tie goes to the later annotation."""
    people = [box for box, label in zip(truth.boxes, truth.labels, strict=True) if label == "person"]
    regions = [box for box, label in zip(truth.boxes, truth.labels, strict=True) if label == "people"]
    taken, letters = set(), ""
    for index in sorted(range(len(detections.scores)), key=lambda n: -detections.scores[n]):
        x, y, width, height = detections.boxes[index]

        def intersect(box, x=x, y=y, width=width, height=height):
            across = min(x + width, box[0] + box[2]) - max(x, box[0])
            down = min(y + height, box[1] + box[3]) - max(y, box[1])
            return max(across, 0) * max(down, 0)

        best, best_overlap = None, 0.5
        for number, box in enumerate(people):
            common = intersect(box)
            overlap = common / (width * height + box[2] * box[3] - common)
            if number not in taken and overlap >= best_overlap:
                best, best_overlap = number, overlap
        if best is not None:
            taken.add(best)
            letters += "t"
        else:
            letters += "i" if any(intersect(box) / (width * height) >= 0.5 for box in regions) else "f"
    return letters


def test_matches_equal_those_of_a_slow_matcher_on_crowded_scenes():
    truths, detections = random_scenes(np.random.default_rng(0), images=150)
    expected = "".join(slow_outcomes(truth, detections[truth.image_id]) for truth in truths)
    assert outcomes(truths, detections) == expected
    assert min(expected.count(letter) for letter in "tfi") > 100


def test_complete_test_split_takes_seconds():
    rng = np.random.default_rng(1)
    truths, detections = [], {}
    for number in range(2252):
        boxes = np.concatenate([rng.uniform(5, 400, (3, 2)), rng.uniform(40, 80, (3, 2))], axis=1)
        truths.append(make_truth(str(number), *boxes))
        near = np.repeat(boxes, 34, axis=0)[:100] + rng.normal(0, 5, (100, 4))
        detections[str(number)] = ImageDetections(near, rng.random(100))
    begin = time.process_time()
    score_subsets(truths, detections, reasonable(55.0))
    # It takes a third of a second; the bound leaves room for slow machines.
    assert time.process_time() - begin < 5.0
