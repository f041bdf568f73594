"""Misses and false alarms, on cases worked by hand and against a slow matcher."""

from scoring_cases import ANYONE, make_detections, make_truth, random_scenes, slow_match

from dcrl_jax.evaluation.mistakes import ImageMistakes, count_mistakes, worst_mistakes
from dcrl_jax.evaluation.rules import Subset

# A found person of 50 pixels, a person of 40 found with a low score, a missed one of 30, and an ignore region.
BOXES = [0, 0, 20, 50], [100, 0, 20, 40], [200, 0, 20, 30], [300, 0, 20, 60]
TRUTHS = [
    make_truth("a", *BOXES, ignore=[False, False, False, True]),
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
    assert worst_misses(TRUTHS[1:], {}) == [(0, [0, 0, 20, 45]), (1, [0, 0, 20, 35])]
    # A detection finds the person with the higher overlap; of equal ones the later.
    for box in ([4, 0, 20, 42], [8, 0, 20, 40]):
        truths = [make_truth("a", [0, 0, 20, 40], box)]
        assert worst_misses(truths, {"a": make_detections([4, 0, 20, 40, 0.9])}) == [(0, [0, 0, 20, 40])]


def test_worst_false_alarms_have_the_highest_scores():
    # The second detection of a person is a false alarm; the one on the ignore region is not.
    expected = [(1, [400, 0, 20, 50], 0.85), (0, [0, 1, 20, 50], 0.8), (0, [500, 0, 20, 50], 0.7)]
    assert worst_alarms(TRUTHS, DETECTIONS) == [*expected, (1, [410, 0, 20, 50], 0.1)]
    assert worst_alarms(TRUTHS, DETECTIONS, Subset("day", "day"), 1) == [(0, [0, 1, 20, 50], 0.8)]
    assert worst_alarms(TRUTHS, {}) == worst_alarms([], {}) == worst_misses([], {}) == []


def test_subset_changes_and_drops_boxes():
    # The person is half as wide as the detection, which the aspect ratio corrects; one detection is too short.
    truths = [make_truth("a", [10, 0, 10, 50], [100, 0, 20, 60])]
    found = {"a": make_detections([5, 0, 24, 50, 0.9], [300, 0, 10, 30, 0.95])}
    subset = Subset("caltech", aspect_ratio=0.41, min_detection_height_px=40.0)
    assert worst_misses(truths, found) == [(0, [100, 0, 20, 60]), (0, [10, 0, 10, 50])]
    assert worst_misses(truths, found, subset) == [(0, [100, 0, 20, 60])]
    assert [score for *_, score in worst_alarms(truths, found)] == [0.95, 0.9]
    assert worst_alarms(truths, found, subset) == []


def test_crowds_are_judged_by_the_rules_and_equal_mistakes_stay_in_order():
    truths, detections = random_scenes(images=100)
    misses, alarms = [], []
    for index, truth in enumerate(truths):
        found = detections[truth.image_id]
        rows = slow_match(truth, found)
        hits = {person for row, _, person in rows if found.scores[row] >= 0.5}
        people = [person for person, label in enumerate(truth.labels) if label == "person"]
        misses += [(index, truth.boxes[person].tolist()) for person in people if person not in hits]
        alarms += [(index, found.boxes[row].tolist(), found.scores[row]) for row, letter, _ in rows if letter == "f"]
    assert len(misses) > 200
    assert len(alarms) > 400
    assert worst_misses(truths, detections, count=2000) == sorted(misses, key=lambda miss: -miss[1][3])
    assert worst_alarms(truths, detections, count=2000) == sorted(alarms, key=lambda alarm: -alarm[2])
