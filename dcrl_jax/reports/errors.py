"""The worst errors of a detector, one person or one detection at a time, by the scorer's rules."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dcrl_jax.evaluation.miss_rate import ImageDetections, ImageTruth, match
from dcrl_jax.evaluation.overlaps import with_aspect_ratio
from dcrl_jax.evaluation.rules import Subset, assign_roles
from dcrl_jax.reports.panels import MIN_SCORE


class Miss(NamedTuple):
    """A person whom no detection found."""

    place: int  # of the image in the split
    box: np.ndarray  # float64 [4], x, y, width, height in pixels as annotated


class FalseAlarm(NamedTuple):
    """A detection that found nobody and lies on no ignore region."""

    place: int
    box: np.ndarray
    score: float


class Errors(NamedTuple):
    """The worst of a subset's errors, the worst first; equals in the order of the split."""

    misses: list[Miss]  # by height
    false_alarms: list[FalseAlarm]  # by score


class _Judged(NamedTuple):
    """What became of the detections in a subset; within an image by falling score."""

    places: list[int]  # of the subset's images
    image: np.ndarray  # int [D], place of the detection's image
    boxes: np.ndarray  # float64 [D, 4]
    scores: np.ndarray  # float64 [D]
    is_true_positive: np.ndarray  # bool [D]
    is_false_positive: np.ndarray  # bool [D]


def worst_errors(
    truths: Sequence[ImageTruth],
    detections: Mapping[str, ImageDetections],
    subset: Subset,
    count: int,
    min_score: float = MIN_SCORE,
) -> Errors:
    """The tallest people of a subset whom nothing found, and the surest detections that found nobody.

    Args:
        truths, detections: as for ``miss_rate.score``.
        subset: which images and people count.
        count: at most as many of each.
        min_score: detections below it find nobody. False alarms may lie below it.

    Raises:
        InputError: as ``miss_rate.score``.
    """
    judged = _judge(truths, detections, subset)
    misses = sorted(_misses(truths, judged, subset, min_score), key=lambda miss: -miss.box[3])
    wrong = np.flatnonzero(judged.is_false_positive)
    surest = wrong[np.argsort(-judged.scores[wrong], kind="stable")[:count]]
    alarms = [FalseAlarm(int(judged.image[row]), judged.boxes[row], float(judged.scores[row])) for row in surest]
    return Errors(misses[:count], alarms)


def _misses(truths: Sequence[ImageTruth], judged: _Judged, subset: Subset, min_score: float) -> list[Miss]:
    # Detections take people by falling score, so leaving out the low ones changes nothing for those above.
    is_hit = judged.is_true_positive & (judged.scores >= min_score)
    hits = {place: [] for place in judged.places}
    for place, box in zip(judged.image[is_hit], judged.boxes[is_hit], strict=True):
        hits[place].append(box)
    misses = []
    for place, found in hits.items():
        truth = truths[place]
        people = np.asarray(truth.boxes, np.float64)[assign_roles(subset, *truth[2:]).is_person]
        misses += [Miss(place, box) for box in people[_is_free(people, np.reshape(found, (-1, 4)), subset)]]
    return misses


def _judge(truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections], subset: Subset) -> _Judged:
    places = {truth.image_id: place for place, truth in enumerate(truths)}
    image_ids = [truth.image_id for truth in truths if truth.image_id in detections]
    boxes = np.concatenate([np.zeros((0, 4)), *(detections[i].boxes for i in image_ids)])
    scores = np.concatenate([np.zeros(0), *(detections[i].scores for i in image_ids)])
    # The scorer does not say which detection a match is of, and a subset may drop some. It gets each one's place in the
    # order of scores instead of the score, which changes no match and names the detection.
    order = np.argsort(-scores, kind="stable")
    rank = np.empty(len(order))
    rank[order] = np.arange(len(order))
    edges = np.cumsum([len(detections[i].scores) for i in image_ids])[:-1]
    ranks = dict(zip(image_ids, np.split(-rank, edges), strict=True)) if image_ids else {}
    ranked = {i: found._replace(scores=ranks[i]) if i in ranks else found for i, found in detections.items()}
    matches = match(truths, ranked, subset)
    detection = order[(-matches.scores).astype(int)]
    in_subset = np.array([places[i] for i in matches.image_ids], int)
    return _Judged(
        places=in_subset.tolist(),
        image=in_subset[matches.image],
        boxes=boxes[detection],
        scores=scores[detection],
        is_true_positive=matches.is_true_positive,
        is_false_positive=~matches.is_true_positive & ~matches.is_ignored,
    )


def _is_free(people: np.ndarray, hits: np.ndarray, subset: Subset) -> np.ndarray:
    """Bool [G]: whom none of the true positives took; by falling score each took the free person it overlaps most."""
    if subset.aspect_ratio is not None:
        people, hits = (with_aspect_ratio(boxes, subset.aspect_ratio) for boxes in (people, hits))
    free = np.ones(len(people), bool)
    for hit in hits:
        overlaps = np.where(free, _iou(hit, people), -1.0)
        # Of two equal ones the later.
        free[len(people) - 1 - np.argmax(overlaps[::-1])] = False
    return free


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    intersection = np.maximum(sides, 0.0).prod(axis=1)
    return intersection / (box[2:].prod() + others[:, 2:].prod(axis=1) - intersection)
