"""What the tests of scoring share: annotations and detections, outcomes as letters, and a slow matcher."""

import numpy as np

from dcrl_jax.evaluation.miss_rate import match
from dcrl_jax.evaluation.overlaps import ImageDetections, ImageTruth
from dcrl_jax.evaluation.rules import Subset, assign_roles

ANYONE = Subset("anyone")
BOX, AWAY = (0, 0, 10, 20), (200, 0, 10, 20)


def make_truth(image_id, *boxes, condition="day", labels=None, occlusion=None, ignore=None):
    """Return the annotations of an image; by default visible people."""
    count = len(boxes)
    return ImageTruth(
        image_id=image_id,
        condition=condition,
        boxes=np.asarray(boxes, np.float64).reshape(-1, 4),
        labels=labels or ("person",) * count,
        occlusion=np.asarray([0] * count if occlusion is None else occlusion),
        ignore=np.asarray([False] * count if ignore is None else ignore),
    )


def make_detections(*rows):
    """Return detections from rows of x, y, width, height, score."""
    table = np.asarray(rows, np.float64).reshape(-1, 5)
    return ImageDetections(boxes=table[:, :4], scores=table[:, 4])


def ranked(*boxes):
    """Return detections with these boxes, by descending score."""
    scores = np.linspace(0.9, 0.5, len(boxes))
    return make_detections(*([*box, score] for box, score in zip(boxes, scores, strict=True)))


def make_scene(image_id, people, found, false_alarms):
    """Return people in a row, and detections of the first ones, followed by false alarms."""
    boxes = [(20.0 * index, 0, 10, 20) for index in range(people)]
    return make_truth(image_id, *boxes), ranked(*boxes[:found], *[(500, 500, 500, 500)] * false_alarms)


def roles(subset, boxes, labels=None, occlusion=None, ignore=None):
    """Return one letter per annotation: p person, i ignore region, - dropped."""
    truth = make_truth("", *boxes, labels=labels, occlusion=occlusion, ignore=ignore)
    is_person, is_ignore = assign_roles(subset, *truth[2:])
    assert not (is_person & is_ignore).any()
    return "".join(np.where(is_person, "p", np.where(is_ignore, "i", "-")))


def outcomes(truths, detections, subset=ANYONE):
    """Return one letter per detection, by image and descending score: t true, f false, i ignored."""
    matches = match(truths, detections, subset)
    return "".join(np.where(matches.is_true_positive, "t", np.where(matches.is_ignored, "i", "f")))


def random_scenes(images):
    """Return crowded scenes on a coarse grid, so that equal overlaps and equal scores occur."""
    rng, truths, detections = np.random.default_rng(0), [], {}
    for number in range(images):
        boxes = np.concatenate([rng.integers(0, 12, (7, 2)), rng.integers(4, 9, (7, 2))], axis=1)
        labels = rng.choice(["person", "person", "people", "car"], 7).tolist()
        truths.append(make_truth(str(number), *boxes, condition=("day", "night")[number % 2], labels=labels))
        found = np.concatenate([rng.integers(0, 12, (11, 2)), rng.integers(3, 9, (11, 2))], axis=1)
        detections[str(number)] = ImageDetections(found.astype(float), rng.integers(0, 6, 11) / 5)
    return truths, detections


def slow_match(truth, found):
    """Match the detections of a random scene by the reference's rule, one pair at a time.

    Returns a row per detection, by descending score: its index, its outcome as a letter, and its person or None.
    """

    def shared_area(box, other):
        width = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
        height = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
        return max(width, 0) * max(height, 0)

    def overlap(box, other):
        shared = shared_area(box, other)
        return shared / (box[2] * box[3] + other[2] * other[3] - shared)

    free = [index for index, label in enumerate(truth.labels) if label == "person"]
    regions = [box for box, label in zip(truth.boxes, truth.labels, strict=True) if label == "people"]
    rows = []
    for index in sorted(range(len(found.scores)), key=lambda index: -found.scores[index]):
        box = found.boxes[index]
        # Of equal overlaps the later annotation.
        best, person = max(((overlap(box, truth.boxes[person]), person) for person in free), default=(0, None))
        if best >= 0.5:
            free.remove(person)
            rows.append((index, "t", person))
        else:
            is_ignored = any(shared_area(box, region) / (box[2] * box[3]) >= 0.5 for region in regions)
            rows.append((index, "i" if is_ignored else "f", None))
    return rows
