"""The one scorer: matching of detections to annotations, MR-FPPI curves and the log-average miss rate.

It follows the MATLAB evaluation of the Caltech and KAIST benchmarks (``bbGt`` of Dollar's toolbox), in NumPy alone.
What is one benchmark's own, whom it asks for and which boxes it changes, is data: a ``Subset``.

Notation: I images, G annotations and D detections of all of them together, C pairs of a detection and an annotation
that overlap enough to match.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.overlaps import (
    MIN_OVERLAP,
    Flat,
    ImageDetections,
    ImageTruth,
    Pairs,
    find_pairs,
    flatten,
    with_aspect_ratio,
)
from dcrl_jax.evaluation.rules import IMAGE_CONDITIONS, Roles, Subset, assign_roles

# Nine false positives per image, from 0.01 to 1, evenly spaced on a log axis.
REFERENCE_FPPI = 10.0 ** (np.arange(-8, 1) / 4)
# Keeps the logarithm finite for a detector that misses nobody.
SMALLEST_MISS = 1e-10


class Matches(NamedTuple):
    """What became of the detections in one subset, image after image and by falling score within each.

    ``image_ids`` lists the subset's images only.
    """

    image_ids: tuple[str, ...]
    image: np.ndarray  # int [D], place of the detection's image in image_ids
    scores: np.ndarray  # float64 [D]
    is_true_positive: np.ndarray  # bool [D], it found a person
    is_ignored: np.ndarray  # bool [D], it lies on an ignore region and counts neither way; the rest are false positives
    people: np.ndarray  # int [I], people to be found in each image


class Score(NamedTuple):
    """The result of one subset. Rates are fractions, not percent; NaN where the subset has no people."""

    subset: Subset
    miss_rate: float  # log-average over REFERENCE_FPPI
    recall: float  # with every detection taken, however low its score
    people: int
    images: int
    fppi: np.ndarray  # float64 [D], false positives per image when the detections are taken one by one by falling score
    miss: np.ndarray  # float64 [D], miss rate at the same points
    thresholds: np.ndarray  # float64 [D], score of the last detection taken at the same points
    miss_at_reference: np.ndarray  # float64 [9], miss rate at REFERENCE_FPPI


def score(truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections], subset: Subset) -> Score:
    """Scores detections on one subset.

    Every image of ``truths`` counts: one that ``detections`` does not name, or for which it holds no boxes, counts its
    people as missed. False positives per image divide by the number of images of the subset's condition. The miss rate
    at a reference point is that of the last detection taken before false positives per image exceed the point; if the
    first detection already exceeds it, everybody is missed there. Equal scores are taken in the order of ``truths``
    and, within an image, in the given order.

    Args:
        truths: all images of the data set, each once.
        detections: by image id; images without detections may be left out.
        subset: which images and people count.

    Returns:
        the score; its rates are NaN where the subset has no people (there is then nothing to miss).

    Raises:
        InputError: detections of an image that is not in ``truths``, an image listed twice, a score or box that is not
            a finite number, arrays of lengths that disagree, an unknown condition.
    """
    return score_subsets(truths, detections, (subset,))[subset.name]


def score_subsets(
    truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections], subsets: Sequence[Subset]
) -> dict[str, Score]:
    """Scores detections on several subsets, by the subset's name; as ``score``, but overlaps are computed only once."""
    flat = flatten(truths, detections)
    pairs = find_pairs(flat, flat.boxes, flat.truth_boxes)
    return {subset.name: _score_matches(_match(flat, pairs, subset), subset) for subset in subsets}


def match(truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections], subset: Subset) -> Matches:
    """Matches detections to annotations within each image, by the reference's greedy rule.

    By falling score, each detection takes the person not yet taken with whom its intersection over union is highest and
    at least 0.5 (of two equal ones the later). Failing that, it is ignored if at least half of its own area lies on an
    ignore region, which may absorb any number of detections. Otherwise it is a false positive. Detections of a height
    that the subset leaves out are in no one's way and in none of the results. Where the subset has an aspect ratio, the
    boxes of people and detections get it about their centres once it is decided who counts; ignore regions stay as they
    are.

    Arguments and errors as for ``score``.
    """
    flat = flatten(truths, detections)
    return _match(flat, find_pairs(flat, flat.boxes, flat.truth_boxes), subset)


def percent_or_none(rate: float) -> float | None:
    """A rate in percent; None, which is JSON's null, for the NaN of a subset without people."""
    return None if np.isnan(rate) else 100 * float(rate)


def _score_matches(matches: Matches, subset: Subset) -> Score:
    people, images = int(matches.people.sum()), len(matches.image_ids)
    is_true_positive, thresholds, _ = rank_detections(matches)
    true_positives = np.cumsum(is_true_positive)
    # Without images there are no detections either.
    fppi = np.cumsum(~is_true_positive) / max(images, 1)
    miss = 1.0 - true_positives / people if people else np.full(fppi.shape, np.nan)
    # Before the first detection nothing is found and nothing is wrong.
    place = np.searchsorted(fppi, REFERENCE_FPPI, side="right")
    miss_at_reference = np.concatenate([[1.0 if people else np.nan], miss])[place]
    return Score(
        subset=subset,
        miss_rate=float(np.exp(np.mean(np.log(np.maximum(miss_at_reference, SMALLEST_MISS))))),
        recall=float(is_true_positive.sum() / people) if people else float("nan"),
        people=people,
        images=images,
        fppi=fppi,
        miss=miss,
        thresholds=thresholds,
        miss_at_reference=miss_at_reference,
    )


def rank_detections(matches: Matches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All detections that count, of all images, by falling score.

    Returns:
        bool [D], whether each is a true positive (else a false one), float64 [D], their scores, and int [D], the places
        of their images in ``matches.image_ids``. Ignored detections are left out; equal scores stay in the order of
        ``matches``.
    """
    counts = ~matches.is_ignored
    order = np.argsort(-matches.scores[counts], kind="stable")
    return matches.is_true_positive[counts][order], matches.scores[counts][order], matches.image[counts][order]


def _match(flat: Flat, pairs: Pairs, subset: Subset) -> Matches:
    is_selected = _select_images(flat.condition, subset)
    roles = assign_roles(subset, flat.truth_boxes, flat.labels, flat.occlusion, flat.ignore)
    if subset.aspect_ratio is not None:
        people = with_aspect_ratio(flat.truth_boxes, subset.aspect_ratio)
        truth_boxes = np.where(roles.is_person[:, None], people, flat.truth_boxes)
        pairs = find_pairs(flat, with_aspect_ratio(flat.boxes, subset.aspect_ratio), truth_boxes)
    height = flat.boxes[:, 3]
    is_taken = (height >= subset.min_detection_height_px) & (height < subset.max_detection_height_px)
    pairs = Pairs(*(column[is_taken[pairs.detection]] for column in pairs))
    is_true_positive = _take_people(flat, pairs, roles)
    # Every pair overlaps enough for an ignore region; see Pairs.
    is_on_ignore_region = np.zeros(flat.scores.shape, bool)
    is_on_ignore_region[pairs.detection[roles.is_ignore[pairs.truth]]] = True

    kept = is_selected[flat.image] & is_taken
    place = np.cumsum(is_selected) - 1
    people = np.bincount(flat.truth_image[roles.is_person], minlength=is_selected.size)
    return Matches(
        image_ids=tuple(name for name, keep in zip(flat.image_ids, is_selected, strict=True) if keep),
        image=place[flat.image[kept]],
        scores=flat.scores[kept],
        is_true_positive=is_true_positive[kept],
        is_ignored=(is_on_ignore_region & ~is_true_positive)[kept],
        people=people[is_selected],
    )


def _select_images(condition: np.ndarray, subset: Subset) -> np.ndarray:
    if subset.condition == "all":
        return np.ones(condition.shape, bool)
    if subset.condition not in IMAGE_CONDITIONS:
        expected = ", ".join(("all", *IMAGE_CONDITIONS))
        raise InputError(f"subset {subset.name}: condition {subset.condition!r}; expected one of {expected}")
    return condition == subset.condition


def _take_people(flat: Flat, pairs: Pairs, roles: Roles) -> np.ndarray:
    """Bool [D]: the detections that take a person, one person each."""
    found = np.zeros(flat.scores.shape, bool)
    is_taken = np.zeros(flat.truth_image.shape, bool)
    candidates = np.flatnonzero(roles.is_person[pairs.truth] & (pairs.iou >= MIN_OVERLAP))
    detection, truth = pairs.detection[candidates], pairs.truth[candidates]
    # One round handles the detections of one rank. They are of different images, so they cannot want the same person
    # and a round needs no order. Within a detection the preferred person comes first.
    rank = flat.rank[detection]
    order = np.lexsort((-truth, -pairs.iou[candidates], detection, rank))
    detection, truth, rank = detection[order], truth[order], rank[order]
    edges = np.append(np.flatnonzero(np.diff(rank, prepend=-1)), rank.size)
    for start, stop in itertools.pairwise(edges):
        free = start + np.flatnonzero(~is_taken[truth[start:stop]])
        winners = free[np.diff(detection[free], prepend=-1) != 0]
        is_taken[truth[winners]] = True
        found[detection[winners]] = True
    return found
