"""What the tests of scoring share: annotations and detections of an image, and outcomes as letters."""

import numpy as np

from dcrl_jax.evaluation.miss_rate import match
from dcrl_jax.evaluation.overlaps import ImageDetections, ImageTruth
from dcrl_jax.evaluation.rules import Subset, assign_roles

ANYONE = Subset("anyone")


def make_truth(image_id, *boxes, condition="day", labels=None, occlusion=None, ignore=None):
    """Return the annotations of an image; by default visible people."""
    count = len(boxes)
    return ImageTruth(
        image_id=image_id,
        condition=condition,
        boxes=np.asarray(boxes, np.float64).reshape(-1, 4),
        labels=labels or ("person",) * count,
        occlusion=np.asarray(occlusion or [0] * count),
        ignore=np.asarray(ignore or [False] * count),
    )


def make_detections(*rows):
    """Return detections from rows of x, y, width, height, score."""
    table = np.asarray(rows, np.float64).reshape(-1, 5)
    return ImageDetections(boxes=table[:, :4], scores=table[:, 4])


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
