"""A detector's mistakes by the scorer's rules: counts per image, and the worst single misses and false alarms."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dcrl_jax.evaluation.miss_rate import match
from dcrl_jax.evaluation.overlaps import ImageDetections, ImageTruth
from dcrl_jax.evaluation.rules import Subset, assign_roles

# A detection below this score does not count as finding a person; figures do not show it.
MIN_SCORE = 0.5


class ImageMistakes(NamedTuple):
    """The numbers of people and mistakes in one image."""

    image_id: str
    people: int  # people to find
    misses: int
    false_alarms: int


class Miss(NamedTuple):
    """A person that no detection found."""

    image_index: int  # of the image in the split
    box: np.ndarray  # float64 [4], x, y, width, height in pixels as annotated


class FalseAlarm(NamedTuple):
    """A detection that matches no person and lies on no ignore region."""

    image_index: int  # of the image in the split
    box: np.ndarray  # float64 [4], x, y, width, height in pixels as annotated
    score: float


class Mistakes(NamedTuple):
    """The worst mistakes in a subset, the worst first; equal ones in the order of the split."""

    misses: list[Miss]  # by descending height
    false_alarms: list[FalseAlarm]  # by descending score


def count_mistakes(
    truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections], subset: Subset
) -> list[ImageMistakes]:
    """Count the misses and false alarms in each image of the subset, without detections below MIN_SCORE.

    Args:
        truths: as for ``miss_rate.score``.
        detections: as for ``miss_rate.score``.
        subset: the images and people that count.

    Raises:
        InputError: as ``miss_rate.score``.
    """
    matches = match(truths, detections, subset)
    # Matching goes by descending score, so low scores can be dropped afterwards: they change no match of higher ones.
    is_kept = matches.scores >= MIN_SCORE
    images = len(matches.image_ids)
    hits = np.bincount(matches.image[is_kept & matches.is_true_positive], minlength=images)
    is_false = is_kept & matches.is_false_positive
    false_alarms = np.bincount(matches.image[is_false], minlength=images)
    columns = (matches.image_ids, matches.people.tolist(), (matches.people - hits).tolist(), false_alarms.tolist())
    return [ImageMistakes(*row) for row in zip(*columns, strict=True)]


def worst_mistakes(
    truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections], subset: Subset, count: int
) -> Mistakes:
    """Return the tallest missed people and the false alarms with the highest scores.

    A person found only by a detection below MIN_SCORE counts as missed. False alarms may have any score.

    Args:
        truths: as for ``miss_rate.score``.
        detections: as for ``miss_rate.score``.
        subset: the images and people that count.
        count: the maximum number of each kind.

    Raises:
        InputError: as ``miss_rate.score``.
    """
    matches = match(truths, detections, subset)
    index_of = {truth.image_id: index for index, truth in enumerate(truths)}
    image_indices = [index_of[image_id] for image_id in matches.image_ids]
    is_hit = matches.is_true_positive & (matches.scores >= MIN_SCORE)
    hits = set(zip(matches.image[is_hit].tolist(), matches.person[is_hit].tolist(), strict=True))
    misses = [
        Miss(index, np.asarray(truths[index].boxes, np.float64)[person])
        for image, index in enumerate(image_indices)
        for person in np.flatnonzero(assign_roles(subset, *truths[index][2:]).is_person).tolist()
        if (image, person) not in hits
    ]
    false_positives = np.flatnonzero(matches.is_false_positive)
    worst = false_positives[np.argsort(-matches.scores[false_positives], kind="stable")[:count]]
    false_alarms = [
        FalseAlarm(image_indices[matches.image[row]], matches.boxes[row], float(matches.scores[row])) for row in worst
    ]
    return Mistakes(sorted(misses, key=lambda miss: -miss.box[3])[:count], false_alarms)
