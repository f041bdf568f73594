"""The scorer: each rule on a case worked by hand, all of them against a slow matcher, and published results."""

import collections
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.miss_rate import (
    REFERENCE_FPPI,
    ImageDetections,
    ImageTruth,
    match,
    rank_detections,
    score,
    score_subsets,
)
from dcrl_jax.evaluation.results import read_results
from dcrl_jax.evaluation.rules import KAIST_SUBSETS, Subset, reasonable

ROOT = Path(__file__).resolve().parents[2]
KAIST = ROOT.parent / "shared" / "kaist"
ANYONE = Subset("anyone")


def truth(image_id, *boxes, condition="day", labels=None, occlusion=None, ignore=None):
    count = len(boxes)
    return ImageTruth(
        image_id=image_id,
        condition=condition,
        boxes=np.asarray(boxes, np.float64).reshape(-1, 4),
        labels=labels or ("person",) * count,
        occlusion=np.asarray(occlusion or [0] * count),
        ignore=np.asarray(ignore or [False] * count),
    )


def detected(*rows):
    """Rows of x, y, width, height, score."""
    table = np.asarray(rows, np.float64).reshape(-1, 5)
    return ImageDetections(boxes=table[:, :4], scores=table[:, 4])


def outcomes(truths, detections, subset=ANYONE):
    """One letter a detection, by image and falling score: t true, f false, i ignored."""
    matches = match(truths, detections, subset)
    return "".join(
        "i" if ignored else "t" if found else "f"
        for found, ignored in zip(matches.is_true_positive, matches.is_ignored, strict=True)
    )


def test_importing_the_scorer_loads_no_jax():
    modules = "miss_rate, rules, results, average_precision"
    code = f"import sys; from dcrl_jax.evaluation import {modules}; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_reference_points_are_nine_from_a_hundredth_to_one():
    np.testing.assert_allclose(
        REFERENCE_FPPI, [0.01, 0.017783, 0.031623, 0.056234, 0.1, 0.177828, 0.316228, 0.562341, 1.0], rtol=1e-4
    )
    assert [REFERENCE_FPPI[0], REFERENCE_FPPI[4], REFERENCE_FPPI[8]] == [0.01, 0.1, 1.0]


def test_curve_and_log_average_by_hand():
    # Two images, three people. By falling score: true (1/3 found, 0 fppi), false (0.5), true (2/3), false (1.0).
    truths = [truth("a", [0, 0, 10, 20], [50, 0, 10, 20]), truth("b", [0, 0, 10, 20])]
    detections = {
        "a": detected([0, 0, 10, 20, 0.9], [200, 0, 10, 20, 0.1]),
        "b": detected([0, 0, 10, 20, 0.5], [200, 0, 10, 20, 0.7]),
    }
    result = score(truths, detections, ANYONE)
    np.testing.assert_allclose(result.fppi, [0, 0.5, 0.5, 1.0])
    np.testing.assert_allclose(result.miss, [2 / 3, 2 / 3, 1 / 3, 1 / 3])
    np.testing.assert_allclose(result.thresholds, [0.9, 0.7, 0.5, 0.1])
    # Seven reference points lie below 0.5 false positives per image.
    np.testing.assert_allclose(result.miss_at_reference, [2 / 3] * 7 + [1 / 3] * 2)
    assert result.miss_rate == pytest.approx((2 / 3) ** (7 / 9) * (1 / 3) ** (2 / 9))
    assert result.recall == pytest.approx(2 / 3)
    assert (result.people, result.images) == (3, 2)


def test_everybody_is_missed_where_the_first_detection_already_exceeds_the_reference():
    result = score([truth("a", [0, 0, 10, 20])], {"a": detected([90, 0, 10, 20, 0.9], [0, 0, 10, 20, 0.5])}, ANYONE)
    np.testing.assert_allclose(result.miss_at_reference, [1] * 8 + [0])
    assert result.miss_rate == pytest.approx(1e-10 ** (1 / 9))


def test_a_perfect_detector_has_the_smallest_miss_rate_and_not_minus_infinity():
    assert score([truth("a", [0, 0, 10, 20])], {"a": detected([0, 0, 10, 20, 0.9])}, ANYONE).miss_rate == pytest.approx(
        1e-10
    )


def test_image_without_detections_counts_its_misses():
    truths = [truth("a", [0, 0, 10, 20]), truth("b", [0, 0, 10, 20])]
    found = {"a": detected([0, 0, 10, 20, 0.9])}
    for detections in (found, {**found, "b": detected()}):
        result = score(truths, detections, ANYONE)
        assert (result.people, result.images, result.recall) == (2, 2, 0.5)
        assert result.miss_rate == pytest.approx(0.5)


def test_image_without_people_counts_in_false_positives_per_image():
    truths = [truth("a", [0, 0, 10, 20]), truth("b"), truth("c"), truth("d")]
    result = score(truths, {"b": detected([0, 0, 10, 20, 0.9])}, ANYONE)
    np.testing.assert_allclose(result.fppi, [0.25])
    assert (result.people, result.images) == (1, 4)


def test_empty_results_miss_everybody():
    result = score([truth("a", [0, 0, 10, 20])], {}, ANYONE)
    assert (result.miss_rate, result.recall, result.fppi.size) == (1.0, 0.0, 0)


def test_subset_without_people_has_no_miss_rate():
    result = score([truth("a")], {"a": detected([0, 0, 10, 20, 0.9])}, ANYONE)
    assert math.isnan(result.miss_rate)
    assert math.isnan(result.recall)
    assert (result.people, result.images) == (0, 1)


def test_subset_without_images_has_no_miss_rate():
    result = score([truth("a", [0, 0, 10, 20])], {"a": detected([0, 0, 10, 20, 0.9])}, Subset("night", "night"))
    assert math.isnan(result.miss_rate)
    assert (result.people, result.images, result.fppi.size) == (0, 0, 0)


def test_condition_selects_images_people_and_detections():
    truths = [
        truth("a", [0, 0, 10, 20], condition="night"),
        truth("b", [0, 0, 10, 20], [30, 0, 10, 20]),
        truth("c", condition="night"),
    ]
    detections = {"a": detected([0, 0, 10, 20, 0.9]), "b": detected([90, 0, 10, 20, 0.8], [90, 0, 9, 20, 0.7])}
    day = score(truths, detections, Subset("day", "day"))
    night = score(truths, detections, Subset("night", "night"))
    assert (day.people, day.images, day.recall, day.fppi.tolist()) == (2, 1, 0.0, [1.0, 2.0])
    assert (night.people, night.images, night.recall, night.fppi.tolist()) == (1, 2, 1.0, [0.0])
    assert match(truths, detections, Subset("night", "night")).image_ids == ("a", "c")


def test_dawn_is_neither_day_nor_night_and_part_of_all():
    truths = [truth(name, [0, 0, 10, 20], condition=name) for name in ("day", "dawn", "night")]
    detections = {"dawn": detected([0, 0, 10, 20, 0.9])}
    found = score_subsets(truths, detections, [Subset(name, name) for name in ("all", "day", "night", "dawn")])
    assert [(one.people, one.images, one.recall) for one in found.values()] == [
        (3, 3, 1 / 3),
        (1, 1, 0),
        (1, 1, 0),
        (1, 1, 1),
    ]


def test_heights_of_detections_leave_out_those_below_and_from_the_greatest_on():
    subset = Subset("x", min_detection_height_px=20.0, max_detection_height_px=40.0)
    # One below the other, of one score: their heights alone decide.
    rows = [[0, 100 * place, 10, height, 0.5] for place, height in enumerate((19.9, 20, 39.9, 40))]
    matches = match([truth("a")], {"a": detected(*rows)}, subset)
    assert (matches.image.tolist(), matches.scores.tolist()) == ([0, 0], [0.5, 0.5])
    result = score([truth("a", [0, 100, 10, 20])], {"a": detected(*rows)}, subset)
    assert (result.recall, result.fppi.tolist()) == (1.0, [0.0, 1.0])


def test_aspect_ratio_is_given_to_people_and_detections_about_their_centres_and_not_to_ignore_regions():
    subset = Subset("x", aspect_ratio=0.5)
    # 20 tall, so 10 wide. As they are, the person and the first detection share a quarter of their union; the second
    # detection lies half on the region, whose width with the ratio would end at x = 65.
    truths = [truth("a", [0, 0, 40, 20], [50, 0, 20, 20], labels=("person", "people"))]
    detections = {"a": detected([15, 0, 10, 20, 0.9], [60, 0, 20, 20, 0.8], [61, 0, 20, 20, 0.7])}
    assert outcomes(truths, detections, subset) == "tif"
    assert outcomes(truths, detections) == "fif"


def test_ignore_region_absorbs_many_detections_by_their_own_area():
    truths = [truth("a", [0, 0, 100, 100], [200, 0, 10, 20], labels=("people", "person"))]
    # Small boxes inside a large region overlap it by 2 % of the union. The last lies on it by less than half.
    inside = [[5, 5, 10, 20, 0.9], [50, 50, 10, 20, 0.8], [50, 50, 10, 20, 0.7], [95, 0, 10, 20, 0.6]]
    assert outcomes(truths, {"a": detected(*inside, [96, 0, 10, 20, 0.5])}) == "iiiif"


def test_person_is_preferred_to_an_ignore_region_that_overlaps_more():
    truths = [truth("a", [0, 0, 10, 20], [0, 0, 10, 26], labels=("people", "person"))]
    assert outcomes(truths, {"a": detected([0, 0, 10, 20, 0.9], [0, 0, 10, 20, 0.8])}) == "ti"


def test_second_detection_of_a_person_is_false():
    assert outcomes([truth("a", [0, 0, 10, 20])], {"a": detected([0, 0, 10, 20, 0.4], [0, 0, 10, 18, 0.9])}) == "tf"


def test_detection_falls_back_to_the_person_that_is_still_free():
    # The second detection overlaps the first person more, and takes the other one.
    truths = [truth("a", [0, 0, 10, 20], [0, 4, 10, 20])]
    assert outcomes(truths, {"a": detected([0, 0, 10, 20, 0.9], [0, 1, 10, 20, 0.8], [0, 2, 10, 20, 0.7])}) == "ttf"


def test_overlap_of_exactly_one_half_matches():
    assert outcomes([truth("a", [0, 0, 10, 20])], {"a": detected([0, 0, 10, 10, 0.9])}) == "t"
    assert outcomes([truth("a", [0, 0, 10, 20])], {"a": detected([0, 0, 10, 9.99, 0.9])}) == "f"


def test_detection_without_area_is_false():
    assert outcomes([truth("a", [0, 0, 10, 20])], {"a": detected([0, 0, 0, 20, 0.9], [2, 2, 0, 0, 0.8])}) == "ff"


def test_unsorted_detections_score_as_sorted_ones():
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


def test_equal_scores_are_taken_in_the_given_order():
    truths = [truth("a", [0, 0, 10, 20]), truth("b", [0, 0, 10, 20])]
    good, bad = [0, 0, 10, 20, 0.5], [90, 0, 10, 20, 0.5]
    assert outcomes(truths, {"a": detected(good, bad)}) == "tf"
    assert outcomes(truths, {"a": detected(bad, good)}) == "ft"
    # Across images it is the order of the annotations, whatever that of the detections.
    assert score(truths, {"b": detected(good), "a": detected(bad)}, ANYONE).miss.tolist() == [1.0, 0.5]


def test_ranking_names_outcome_score_and_image_of_every_detection_that_counts():
    region = truth("c", [0, 0, 100, 100], labels=("people",))
    truths = [truth("a", [0, 0, 10, 20]), truth("night", condition="night"), region, truth("d", [0, 0, 10, 20])]
    detections = {
        "a": detected([0, 0, 10, 20, 0.5], [90, 0, 10, 20, 0.8]),
        "night": detected([0, 0, 10, 20, 0.95]),
        "c": detected([5, 5, 10, 20, 0.9], [200, 0, 10, 20, 0.5]),
        "d": detected([0, 0, 10, 20, 0.7]),
    }
    matches = match(truths, detections, Subset("day", "day"))
    assert matches.image_ids == ("a", "c", "d")
    # The one of 0.9 lies on the ignore region; equal scores stay in the order of the images.
    is_true, scores, image = rank_detections(matches)
    assert is_true.tolist() == [False, True, True, False]
    assert scores.tolist() == [0.8, 0.7, 0.5, 0.5]
    assert image.tolist() == [0, 2, 0, 1]


@pytest.mark.parametrize(
    ("detections", "message"),
    [
        ({"z": detected([0, 0, 10, 20, 0.5])}, "'z'"),
        ({"a": detected([0, 0, 10, 20, np.nan])}, "not finite"),
        ({"a": detected([0, 0, 10, 20, np.inf])}, "not finite"),
        ({"a": detected([0, np.nan, 10, 20, 0.5])}, "not finite"),
        ({"a": ImageDetections(np.zeros((3, 4)), np.zeros(2))}, "3 detected boxes but 2 scores"),
    ],
    ids=["unknown image", "NaN score", "infinite score", "NaN box", "lengths"],
)
def test_malformed_detections_are_refused(detections, message):
    with pytest.raises(InputError, match=message):
        score([truth("a", [0, 0, 10, 20])], detections, ANYONE)


@pytest.mark.parametrize(
    ("truths", "message"),
    [
        ([truth("a"), truth("b"), truth("a")], "more than once.*'a'"),
        ([truth("a", condition="dusk")], "'dusk'"),
        ([truth("a", [0, 0, 10, 20], labels=("person", "person"))], "1 boxes, 2 labels"),
        ([truth("a", [0, 0, 10, np.nan])], "not finite"),
    ],
    ids=["duplicate", "condition", "lengths", "NaN box"],
)
def test_malformed_annotations_are_refused(truths, message):
    with pytest.raises(InputError, match=message):
        score(truths, {}, ANYONE)


def test_unknown_condition_of_a_subset_is_refused():
    with pytest.raises(InputError, match="dusk"):
        score([truth("a")], {}, Subset("x", "dusk"))


def random_scenes(rng, images):
    """Crowded scenes on a coarse grid, so that equal overlaps and equal scores occur."""
    truths, detections = [], {}
    for number in range(images):
        boxes = np.concatenate([rng.integers(0, 12, (7, 2)), rng.integers(4, 9, (7, 2))], axis=1)
        labels = rng.choice(["person", "person", "people", "car"], 7).tolist()
        condition = ("day", "night")[number % 2]
        truths.append(truth(str(number), *boxes, condition=condition, labels=labels))
        found = np.concatenate([rng.integers(0, 12, (11, 2)), rng.integers(3, 9, (11, 2))], axis=1)
        detections[str(number)] = ImageDetections(found.astype(float), rng.integers(0, 6, 11) / 5)
    return truths, detections


def slow_outcomes(image_truth, image_detections):
    """The reference's rule, one pair at a time: people first, a tie goes to the later annotation."""
    is_region = [label == "people" for label in image_truth.labels]
    people = [box for box, label in zip(image_truth.boxes, image_truth.labels, strict=True) if label == "person"]
    regions = [box for box, region in zip(image_truth.boxes, is_region, strict=True) if region]
    taken, letters = set(), ""
    for place in sorted(range(len(image_detections.scores)), key=lambda n: -image_detections.scores[n]):
        x, y, width, height = image_detections.boxes[place]

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
    expected = "".join(slow_outcomes(one, detections[one.image_id]) for one in truths)
    assert outcomes(truths, detections) == expected
    assert min(expected.count(letter) for letter in "tfi") > 100


def test_whole_test_split_with_100_detections_an_image_takes_seconds():
    rng = np.random.default_rng(1)
    truths, detections = [], {}
    for number in range(2252):
        boxes = np.concatenate([rng.uniform(5, 400, (3, 2)), rng.uniform(40, 80, (3, 2))], axis=1)
        truths.append(truth(str(number), *boxes))
        near = np.repeat(boxes, 34, axis=0)[:100] + rng.normal(0, 5, (100, 4))
        detections[str(number)] = ImageDetections(near, rng.random(100))
    begin = time.process_time()
    score_subsets(truths, detections, reasonable(55.0))
    # It takes a third of a second; the rest is room for a slow machine.
    assert time.process_time() - begin < 5.0


PUBLISHED = {  # log-average miss rate in percent on the improved annotations: reasonable all, day, night
    "MSDS-RCNN": (11.34, 10.53, 12.94),
    "MBNet": (8.13, 8.28, 7.86),
    "MLPD": (7.58, 7.95, 6.95),
}
COUNTED = {
    "reasonable-all": (1455, 2252),
    "reasonable-day": (989, 1455),
    "reasonable-night": (466, 797),
    "scale-near": (201, 2252),
    "scale-medium": (1683, 2252),
    "scale-far": (807, 2252),
    "occlusion-none": (2612, 2252),
    "occlusion-partial": (438, 2252),
    "occlusion-heavy": (226, 2252),
}


@pytest.fixture(scope="module")
def kaist_truths():
    path = KAIST / "KAIST_annotation.json"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    content = json.loads(path.read_text())
    labels = {category["id"]: category["name"] for category in content["categories"]}
    by_image = collections.defaultdict(list)
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    return [
        truth(
            image["im_name"],
            *(one["bbox"] for one in by_image[image["id"]]),
            condition="day" if image["im_name"] < "set09" else "night",
            labels=tuple(labels[one["category_id"]] for one in by_image[image["id"]]),
            occlusion=[one["occlusion"] for one in by_image[image["id"]]],
            ignore=[bool(one["ignore"]) for one in by_image[image["id"]]],
        )
        for image in content["images"]
    ]


@pytest.mark.parametrize("method", PUBLISHED)
def test_published_results_score_as_published(kaist_truths, method):
    detections = read_results(KAIST / "results" / f"{method}_result.txt", [one.image_id for one in kaist_truths])
    scores = score_subsets(kaist_truths, detections, KAIST_SUBSETS)
    percent = tuple(round(100 * scores[f"reasonable-{name}"].miss_rate, 2) for name in ("all", "day", "night"))
    assert percent == PUBLISHED[method]
    assert {name: (one.people, one.images) for name, one in scores.items()} == COUNTED
