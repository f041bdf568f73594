"""The worst misses and false alarms, on hand-made cases and against the scorer's rules written out as loops."""

import numpy as np
import pytest

from dcrl_jax.evaluation.miss_rate import ImageDetections, ImageTruth, match
from dcrl_jax.evaluation.rules import Subset
from dcrl_jax.evaluation.mistakes import worst_mistakes

ANYONE = Subset("anyone")


def make_truth(image_id, boxes, condition="day", ignored=()):
    """People at [x, y, w, h], of whom those in ``ignored`` are not to be scored."""
    count = len(boxes)
    return ImageTruth(
        image_id,
        condition,
        np.array(boxes, float).reshape(-1, 4),
        ("person",) * count,
        np.zeros(count, int),
        np.array([place in ignored for place in range(count)], bool),
    )


def make_detections(*rows):
    """Each row is x, y, w, h, score."""
    table = np.array(rows, float).reshape(-1, 5)
    return ImageDetections(table[:, :4], table[:, 4])


# A found person of 50, an unsurely found one of 40, a missed one of 30, and an ignore region.
TRUTHS = [
    make_truth("a", [[0, 0, 20, 50], [100, 0, 20, 40], [200, 0, 20, 30], [300, 0, 20, 60]], ignored=(3,)),
    make_truth("b", [[0, 0, 20, 45]], condition="night"),
    make_truth("c", [[0, 0, 20, 35]]),
]
DETECTIONS = {
    # Out of order: on nobody, twice on the first person, unsurely on the second, on the ignore region.
    "a": make_detections(
        [500, 0, 20, 50, 0.7], [0, 1, 20, 50, 0.8], [0, 0, 20, 50, 0.9], [100, 0, 20, 40, 0.4], [300, 0, 20, 60, 0.95]
    ),
    "b": make_detections([400, 0, 20, 50, 0.85], [410, 0, 20, 50, 0.1]),
}


def worst_misses(*case, **keywords):
    return worst_mistakes(*case, **keywords).misses


def worst_false_alarms(*case):
    return worst_mistakes(*case).false_alarms


def listed(misses):
    return [(one.image_index, one.box.tolist()) for one in misses]


def test_misses_are_the_tallest_people_whom_no_sure_detection_found():
    assert listed(worst_misses(TRUTHS, DETECTIONS, ANYONE, 8)) == [
        (1, [0, 0, 20, 45]),
        (0, [100, 0, 20, 40]),
        (2, [0, 0, 20, 35]),
        (0, [200, 0, 20, 30]),
    ]
    assert listed(worst_misses(TRUTHS, DETECTIONS, ANYONE, 2)) == [(1, [0, 0, 20, 45]), (0, [100, 0, 20, 40])]
    assert listed(worst_misses(TRUTHS, DETECTIONS, Subset("night", "night"), 8)) == [(1, [0, 0, 20, 45])]
    # With unsure detections taken the second person is found.
    assert (0, [100, 0, 20, 40]) not in listed(worst_misses(TRUTHS, DETECTIONS, ANYONE, 8, min_score=0.4))
    assert (0, [0, 0, 20, 50]) in listed(worst_misses(TRUTHS, DETECTIONS, ANYONE, 8, min_score=0.91))


def test_false_alarms_are_the_surest_detections_that_found_nobody():
    alarms = worst_false_alarms(TRUTHS, DETECTIONS, ANYONE, 8)
    # The second detection of one person is one; that on the ignore region is not.
    assert [(one.image_index, one.box.tolist(), one.score) for one in alarms] == [
        (1, [400, 0, 20, 50], 0.85),
        (0, [0, 1, 20, 50], 0.8),
        (0, [500, 0, 20, 50], 0.7),
        (1, [410, 0, 20, 50], 0.1),
    ]
    assert [one.score for one in worst_false_alarms(TRUTHS, DETECTIONS, Subset("day", "day"), 1)] == [0.8]


def test_of_two_people_close_together_one_detection_finds_one():
    truths = [make_truth("a", [[0, 0, 20, 40], [4, 0, 20, 42]])]
    # Both overlap it enough; the second one more.
    detections = {"a": make_detections([4, 0, 20, 40, 0.9])}
    assert listed(worst_misses(truths, detections, ANYONE, 8)) == [(0, [0, 0, 20, 40])]
    # Of two equal ones the later is found.
    truths = [make_truth("a", [[0, 0, 20, 40], [8, 0, 20, 40]])]
    detections = {"a": make_detections([4, 0, 20, 40, 0.9])}
    assert listed(worst_misses(truths, detections, ANYONE, 8)) == [(0, [0, 0, 20, 40])]


def test_equals_stand_in_the_order_of_the_split():
    truths = [make_truth(name, [[0, 0, 20, 40]]) for name in "cab"]
    detections = {name: make_detections([100, 0, 20, 40, 0.9]) for name in "abc"}
    assert [one.image_index for one in worst_misses(truths, detections, ANYONE, 8)] == [0, 1, 2]
    assert [one.image_index for one in worst_false_alarms(truths, detections, ANYONE, 8)] == [0, 1, 2]


def test_nothing_found_and_nothing_to_find():
    assert listed(worst_misses(TRUTHS[1:], {}, ANYONE, 8)) == [(0, [0, 0, 20, 45]), (1, [0, 0, 20, 35])]
    assert worst_false_alarms(TRUTHS, {}, ANYONE, 8) == []
    assert worst_misses([], {}, ANYONE, 8) == worst_false_alarms([], {}, ANYONE, 8) == []


def iou(one, other):
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared), shared / (one[2] * one[3])


def judge(truth, found, min_score):
    """Missed people, and false alarms with their scores, of an image: the scorer's rules as loops."""
    order = sorted(range(len(found.scores)), key=lambda place: -found.scores[place])
    free = [place for place in range(len(truth.boxes)) if not truth.ignore[place]]
    sure, alarms = list(free), []
    for place in order:
        box, score = found.boxes[place], found.scores[place]
        near = [(iou(box, truth.boxes[person])[0], person) for person in free]
        best, person = max(near, default=(0, None))
        if best >= 0.5:
            free.remove(person)
            if score >= min_score:
                sure.remove(person)
        elif not any(iou(box, region)[1] >= 0.5 for region in truth.boxes[truth.ignore]):
            alarms.append((box.tolist(), score))
    return [truth.boxes[person].tolist() for person in sure], alarms


@pytest.mark.parametrize("seed", range(20))
def test_crowds_are_judged_as_the_rules_say(seed):
    rng = np.random.default_rng(seed)

    def boxes(count):
        return np.concatenate([rng.integers(0, 30, (count, 2)), rng.integers(10, 40, (count, 2))], axis=1).tolist()

    truths = [make_truth(str(image), boxes(6), ignored=(0, 1)) for image in range(8)]
    found = {str(image): make_detections(*([*box, rng.random()] for box in boxes(10))) for image in range(8)}
    expected = [judge(truth, found[truth.image_id], 0.3) for truth in truths]
    misses = listed(worst_misses(truths, found, ANYONE, 1000, min_score=0.3))
    assert sorted(misses) == sorted((place, box) for place, (boxes, _) in enumerate(expected) for box in boxes)
    assert [box[3] for _, box in misses] == sorted((box[3] for _, box in misses), reverse=True)
    alarms = [(one.image_index, one.box.tolist(), one.score) for one in worst_false_alarms(truths, found, ANYONE, 1000)]
    wanted = [(place, *alarm) for place, (_, alarms) in enumerate(expected) for alarm in alarms]
    assert alarms == sorted(wanted, key=lambda alarm: -alarm[2])
    assert len(misses) > 10
    assert len(alarms) > 20


def test_boxes_are_changed_and_dropped_as_the_subset_asks():
    # Half as wide as the detection, which the aspect ratio makes up for; and a detection too short to count.
    truths = [make_truth("a", [[10, 0, 10, 50], [100, 0, 20, 60]])]
    found = {"a": make_detections([5, 0, 24, 50, 0.9], [300, 0, 10, 30, 0.95])}
    subset = Subset("caltech", aspect_ratio=0.41, min_detection_height_px=40.0)
    assert listed(worst_misses(truths, found, ANYONE, 8)) == [(0, [100, 0, 20, 60]), (0, [10, 0, 10, 50])]
    assert listed(worst_misses(truths, found, subset, 8)) == [(0, [100, 0, 20, 60])]
    assert [one.score for one in worst_false_alarms(truths, found, ANYONE, 8)] == [0.95, 0.9]
    assert worst_false_alarms(truths, found, subset, 8) == []
    assert match(truths, found, subset).is_true_positive.tolist() == [True]
