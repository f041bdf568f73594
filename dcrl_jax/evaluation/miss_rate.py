"""The scorer: matching of detections to annotations, MR-FPPI curves and the log-average miss rate.

It follows the MATLAB evaluation of the Caltech and KAIST benchmarks (``bbGt`` of Dollar's toolbox) in NumPy. The rules
that differ between benchmarks are data, a ``Subset``.

Notation, over all images together: I images, G annotations, D detections, C pairs of a detection and an annotation that
overlap enough to match.
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
# Keeps the logarithm finite when nobody is missed.
SMALLEST_MISS = 1e-10


class Matches(NamedTuple):
    """The outcome of each detection in one subset, sorted by image, then by descending score."""

    image_ids: tuple[str, ...]  # of the subset's images only
    image: np.ndarray  # int [D], index of the detection's image in image_ids
    boxes: np.ndarray  # float64 [D, 4], x, y, width, height as given
    scores: np.ndarray  # float64 [D]
    person: np.ndarray  # int [D], index of the person it takes among the image's annotations; -1 if none
    is_ignored: np.ndarray  # bool [D], takes no person and lies on an ignore region
    people: np.ndarray  # int [I], people to find in each image

    @property
    def is_true_positive(self) -> np.ndarray:
        """Bool [D], True where the detection takes a person."""
        return self.person >= 0

    @property
    def is_false_positive(self) -> np.ndarray:
        """Bool [D], True where the detection takes no person and lies on no ignore region."""
        return (self.person < 0) & ~self.is_ignored


class Score(NamedTuple):
    """The result on one subset. Rates are fractions (not percent), NaN if the subset has no people."""

    subset: Subset
    miss_rate: float  # log-average over REFERENCE_FPPI
    recall: float  # of all detections, whatever their score
    people: int
    images: int
    fppi: np.ndarray  # float64 [D], false positives per image down to each detection, by descending score
    miss: np.ndarray  # float64 [D], miss rate at the same points
    miss_at_reference: np.ndarray  # float64 [9], miss rate at REFERENCE_FPPI


def score(truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections], subset: Subset) -> Score:
    """Score detections on one subset.

    Every image of ``truths`` counts: the people of an image without detections are missed. False positives per image
    are divided by the number of images of the subset's condition. The miss rate at a reference point is that of the
    last detection before the false positives per image exceed the point; if the first detection already exceeds it, it
    is 1. Equal scores are ranked in the order of ``truths`` and, within an image, in the given order.

    Args:
        truths: all images of the data set, each once.
        detections: detections by image id; images without detections may be left out.
        subset: the images and people that count.

    Raises:
        InputError: detections of an image that is not in ``truths``, an image listed twice, a score or box that is not
            finite, arrays of different lengths, an unknown condition.
    """
    return score_subsets(truths, detections, (subset,))[subset.name]


def score_subsets(
    truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections], subsets: Sequence[Subset]
) -> dict[str, Score]:
    """Return the scores on several subsets by the subset's name; like ``score``, but overlaps are computed once."""
    flat = flatten(truths, detections)
    pairs = find_pairs(flat, flat.boxes, flat.truth_boxes)
    return {subset.name: _score_matches(_match(flat, pairs, subset), subset) for subset in subsets}


def match(truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections], subset: Subset) -> Matches:
    """Match detections to annotations within each image, by the greedy rule of the reference.

    In order of descending score, each detection takes the free person with the highest intersection over union of at
    least 0.5 (of equal ones, the later annotation). A detection without such a person is ignored if at least half of
    its own area lies on an ignore region; a region may absorb any number of detections. Otherwise the detection is a
    false positive. Detections outside the subset's height limits are dropped before matching. If the subset has an
    aspect ratio, people and detections get it, about their centres, after the roles are assigned; ignore regions keep
    their boxes.

    Arguments and errors as for ``score``.
    """
    flat = flatten(truths, detections)
    return _match(flat, find_pairs(flat, flat.boxes, flat.truth_boxes), subset)


def percent_or_none(rate: float) -> float | None:
    """Return a rate in percent; None (null in JSON) for NaN, the rate of a subset without people."""
    return None if np.isnan(rate) else 100 * float(rate)


def _score_matches(matches: Matches, subset: Subset) -> Score:
    people, images = int(matches.people.sum()), len(matches.image_ids)
    is_true_positive, _ = rank_detections(matches)
    true_positives = np.cumsum(is_true_positive)
    # A subset without images has no detections, so the divisor does not matter.
    fppi = np.cumsum(~is_true_positive) / max(images, 1)
    miss = 1.0 - true_positives / people if people else np.full(fppi.shape, np.nan)
    # The curve starts before the first detection, where everybody is missed.
    index = np.searchsorted(fppi, REFERENCE_FPPI, side="right")
    miss_at_reference = np.concatenate([[1.0 if people else np.nan], miss])[index]
    return Score(
        subset=subset,
        miss_rate=float(np.exp(np.mean(np.log(np.maximum(miss_at_reference, SMALLEST_MISS))))),
        recall=float(is_true_positive.sum() / people) if people else float("nan"),
        people=people,
        images=images,
        fppi=fppi,
        miss=miss,
        miss_at_reference=miss_at_reference,
    )


def rank_detections(matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """Return the detections of all images by descending score, without the ignored ones.

    Returns:
        Whether each detection is a true positive, bool [D], and the index of its image in ``matches.image_ids``,
        int [D]. Equal scores stay in the order of ``matches``.
    """
    counted = np.flatnonzero(~matches.is_ignored)
    order = counted[np.argsort(-matches.scores[counted], kind="stable")]
    return matches.is_true_positive[order], matches.image[order]


def _match(flat: Flat, pairs: Pairs, subset: Subset) -> Matches:
    is_selected = _select_images(flat.condition, subset)
    roles = assign_roles(subset, flat.truth_boxes, flat.labels, flat.occlusion, flat.ignore)
    if subset.aspect_ratio is not None:
        person_boxes = with_aspect_ratio(flat.truth_boxes, subset.aspect_ratio)
        truth_boxes = np.where(roles.is_person[:, None], person_boxes, flat.truth_boxes)
        pairs = find_pairs(flat, with_aspect_ratio(flat.boxes, subset.aspect_ratio), truth_boxes)
    height = flat.boxes[:, 3]
    is_within_limits = (height >= subset.min_detection_height_px) & (height < subset.max_detection_height_px)
    pairs = Pairs(*(column[is_within_limits[pairs.detection]] for column in pairs))
    person = _take_people(flat, pairs, roles)
    # Every pair overlaps enough for an ignore region; see Pairs.
    is_on_ignore_region = np.zeros(flat.scores.shape, bool)
    is_on_ignore_region[pairs.detection[roles.is_ignore[pairs.truth]]] = True

    kept = is_selected[flat.image] & is_within_limits
    new_index = np.cumsum(is_selected) - 1
    people = np.bincount(flat.truth_image[roles.is_person], minlength=is_selected.size)
    return Matches(
        image_ids=tuple(itertools.compress(flat.image_ids, is_selected)),
        image=new_index[flat.image[kept]],
        boxes=flat.boxes[kept],
        scores=flat.scores[kept],
        person=person[kept],
        is_ignored=(is_on_ignore_region & (person < 0))[kept],
        people=people[is_selected],
    )


def _select_images(condition: np.ndarray, subset: Subset) -> np.ndarray:
    """Return which images have the subset's condition, bool [I]."""
    if subset.condition == "all":
        return np.ones(condition.shape, bool)
    if subset.condition not in IMAGE_CONDITIONS:
        expected = ", ".join(("all", *IMAGE_CONDITIONS))
        raise InputError(f"subset {subset.name}: condition {subset.condition!r}; expected one of {expected}")
    return condition == subset.condition


def _take_people(flat: Flat, pairs: Pairs, roles: Roles) -> np.ndarray:
    """Return the person that each detection takes, int [D]: its index within the image, or -1."""
    person = np.full(flat.scores.shape, -1)
    truth_counts = np.bincount(flat.truth_image, minlength=len(flat.image_ids))
    index_in_image = np.arange(flat.truth_image.size) - (np.cumsum(truth_counts) - truth_counts)[flat.truth_image]
    is_taken = np.zeros(flat.truth_image.shape, bool)
    candidates = np.flatnonzero(roles.is_person[pairs.truth] & (pairs.iou >= MIN_OVERLAP))
    detection, truth = pairs.detection[candidates], pairs.truth[candidates]
    # Each round handles the detections of one rank. They belong to different images, so no two compete for a person.
    # Within a detection the preferred person comes first.
    rank = flat.rank[detection]
    order = np.lexsort((-truth, -pairs.iou[candidates], detection, rank))
    detection, truth, rank = detection[order], truth[order], rank[order]
    edges = np.append(np.flatnonzero(np.diff(rank, prepend=-1)), rank.size)
    for start, stop in itertools.pairwise(edges):
        free = start + np.flatnonzero(~is_taken[truth[start:stop]])
        winners = free[np.diff(detection[free], prepend=-1) != 0]
        is_taken[truth[winners]] = True
        person[detection[winners]] = index_in_image[truth[winners]]
    return person
