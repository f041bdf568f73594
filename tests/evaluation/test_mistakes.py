"""Misses and false alarms, on cases worked by hand and against the scorer's rules written as loops."""

import numpy as np
import pytest
from scoring_cases import ANYONE, make_detections, make_truth

from dcrl_jax.evaluation.mistakes import ImageMistakes, count_mistakes, worst_mistakes
from dcrl_jax.evaluation.rules import Subset

# A found person of 50 pixels, a person of 40 found with a low score, a missed one of 30, and an ignore region.
TRUTHS = [
    make_truth(
        "a", [0, 0, 20, 50], [100, 0, 20, 40], [200, 0, 20, 30], [300, 0, 20, 60], ignore=[False, False, False, True]
    ),
    make_truth("b", [0, 0, 20, 45], condition="night"),
    make_truth("c", [0, 0, 20, 35]),
]
DETECTIONS = {
    # Not sorted: on nobody, twice on the first person, with a low score on the second, on the ignore region.
    "a": make_detections(
        [500, 0, 20, 50, 0.7], [0, 1, 20, 50, 0.8], [0, 0, 20, 50, 0.9], [100, 0, 20, 40, 0.4], [300, 0, 20, 60, 0.95]
    ),
    "b": make_detections([400, 0, 20, 50, 0.85], [410, 0, 20, 50, 0.1]),
}


def worst_misses(truths, detections, subset=ANYONE, count=8):
    return [(miss.image_index, miss.box.tolist()) for miss in worst_mistakes(truths, detections, subset, count).misses]


def worst_alarms(truths, detections, subset=ANYONE, count=8):
    alarms = worst_mistakes(truths, detections, subset, count).false_alarms
    return [(alarm.image_index, alarm.box.tolist(), alarm.score) for alarm in alarms]


def test_mistakes_per_image_are_those_of_the_subset():
    assert count_mistakes(TRUTHS, DETECTIONS, ANYONE) == [
        ImageMistakes("a", people=3, misses=2, false_alarms=2),
        ImageMistakes("b", people=1, misses=1, false_alarms=1),
        ImageMistakes("c", people=1, misses=1, false_alarms=0),
    ]
    assert [image.image_id for image in count_mistakes(TRUTHS, DETECTIONS, Subset("day", "day"))] == ["a", "c"]


def test_worst_misses_are_the_tallest_people_without_a_confident_detection():
    expected = [(1, [0, 0, 20, 45]), (0, [100, 0, 20, 40]), (2, [0, 0, 20, 35]), (0, [200, 0, 20, 30])]
    assert worst_misses(TRUTHS, DETECTIONS) == expected
    assert worst_misses(TRUTHS, DETECTIONS, count=2) == expected[:2]
    assert worst_misses(TRUTHS, DETECTIONS, Subset("night", "night")) == expected[:1]


def test_worst_false_alarms_have_the_highest_scores():
    # The second detection of a person is a false alarm; the one on the ignore region is not.
    assert worst_alarms(TRUTHS, DETECTIONS) == [
        (1, [400, 0, 20, 50], 0.85),
        (0, [0, 1, 20, 50], 0.8),
        (0, [500, 0, 20, 50], 0.7),
        (1, [410, 0, 20, 50], 0.1),
    ]
    assert worst_alarms(TRUTHS, DETECTIONS, Subset("day", "day"), 1) == [(0, [0, 1, 20, 50], 0.8)]


@pytest.mark.parametrize(("x", "height"), [(4, 42), (8, 40)], ids=["higher overlap", "equal overlap"])
def test_one_detection_finds_one_of_two_people_close_together(x, height):
    # It finds the person with the higher overlap; of equal ones the later.
    truths = [make_truth("a", [0, 0, 20, 40], [x, 0, 20, height])]
    assert worst_misses(truths, {"a": make_detections([4, 0, 20, 40, 0.9])}) == [(0, [0, 0, 20, 40])]


def test_equal_mistakes_stay_in_the_order_of_the_split():
    truths = [make_truth(name, [0, 0, 20, 40]) for name in "cab"]
    detections = {name: make_detections([100, 0, 20, 40, 0.9]) for name in "abc"}
    for mistakes in (worst_misses, worst_alarms):
        assert [index for index, *_ in mistakes(truths, detections)] == [0, 1, 2]


def test_without_detections_or_images():
    assert worst_misses(TRUTHS[1:], {}) == [(0, [0, 0, 20, 45]), (1, [0, 0, 20, 35])]
    assert worst_alarms(TRUTHS, {}) == worst_misses([], {}) == worst_alarms([], {}) == []


def test_subset_changes_and_drops_boxes():
    # The person is half as wide as the detection, which the aspect ratio corrects; one detection is too short.
    truths = [make_truth("a", [10, 0, 10, 50], [100, 0, 20, 60])]
    found = {"a": make_detections([5, 0, 24, 50, 0.9], [300, 0, 10, 30, 0.95])}
    subset = Subset("caltech", aspect_ratio=0.41, min_detection_height_px=40.0)
    assert worst_misses(truths, found) == [(0, [100, 0, 20, 60]), (0, [10, 0, 10, 50])]
    assert worst_misses(truths, found, subset) == [(0, [100, 0, 20, 60])]
    assert [score for *_, score in worst_alarms(truths, found)] == [0.95, 0.9]
    assert worst_alarms(truths, found, subset) == []


def overlaps(box, other):
    """Return the intersection over union, and over the area of the first box."""
    width = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    height = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (box[2] * box[3] + other[2] * other[3] - shared), shared / (box[2] * box[3])


def judge(truth, found):
    """Return missed people, and false alarms with their scores: the scorer's rules as loops."""
    free = [index for index in range(len(truth.boxes)) if not truth.ignore[index]]
    missed, alarms = list(free), []
    for index in sorted(range(len(found.scores)), key=lambda index: -found.scores[index]):
        box, score = found.boxes[index], found.scores[index]
        best, person = max(((overlaps(box, truth.boxes[person])[0], person) for person in free), default=(0, None))
        if best >= 0.5:
            free.remove(person)
            if score >= 0.5:
                missed.remove(person)
        elif not any(overlaps(box, region)[1] >= 0.5 for region in truth.boxes[truth.ignore]):
            alarms.append((box.tolist(), score))
    return [truth.boxes[person].tolist() for person in missed], alarms


@pytest.mark.parametrize("seed", range(20))
def test_crowds_are_judged_by_the_rules(seed):
    rng = np.random.default_rng(seed)

    def boxes(count):
        return np.concatenate([rng.integers(0, 30, (count, 2)), rng.integers(10, 40, (count, 2))], axis=1).tolist()

    truths = [make_truth(str(image), *boxes(6), ignore=[True] * 2 + [False] * 4) for image in range(8)]
    found = {str(image): make_detections(*([*box, rng.random()] for box in boxes(10))) for image in range(8)}
    expected = [judge(truth, found[truth.image_id]) for truth in truths]
    misses = worst_misses(truths, found, count=1000)
    assert sorted(misses) == sorted((index, box) for index, (boxes, _) in enumerate(expected) for box in boxes)
    heights = [box[3] for _, box in misses]
    assert heights == sorted(heights, reverse=True)
    alarms = [(index, *alarm) for index, (_, rows) in enumerate(expected) for alarm in rows]
    assert worst_alarms(truths, found, count=1000) == sorted(alarms, key=lambda alarm: -alarm[2])
    assert len(misses) > 10
    assert len(alarms) > 20
