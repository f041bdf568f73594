"""The one scorer: matching of detections to annotations, MR-FPPI curves and the log-average miss rate.

It follows the MATLAB evaluation of the Caltech and KAIST benchmarks (``bbGt`` of Dollar's toolbox), in NumPy alone.

Notation: I images, G annotations and D detections of all of them together, C pairs of a detection and an annotation
that overlap enough to match.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.rules import Roles, Subset, assign_roles

# Nine false positives per image, from 0.01 to 1, evenly spaced on a log axis.
REFERENCE_FPPI = 10.0 ** (np.arange(-8, 1) / 4)
# Keeps the logarithm finite for a detector that misses nobody.
SMALLEST_MISS = 1e-10
MIN_OVERLAP = 0.5


class ImageTruth(NamedTuple):
    """The annotations of one image."""

    image_id: str
    condition: str  # "day" or "night"
    boxes: np.ndarray  # float64 [G, 4], x, y, width, height in pixels as annotated
    labels: Sequence[str]  # G names
    occlusion: np.ndarray  # int [G], 0 none, 1 partial, 2 heavy
    ignore: np.ndarray  # bool [G], not to be scored whatever the label


class ImageDetections(NamedTuple):
    """The detections of one image, in any order."""

    boxes: np.ndarray  # float [D, 4], x, y, width, height in pixels of the annotated image
    scores: np.ndarray  # float [D], any scale; higher is surer


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


class _Overlaps(NamedTuple):
    """Everything that does not depend on the subset, flattened over the images."""

    image_ids: tuple[str, ...]
    is_night: np.ndarray  # bool [I]
    truth_image: np.ndarray  # int [G]
    truth_boxes: np.ndarray  # float64 [G, 4], x, y, width, height
    labels: np.ndarray  # str [G]
    occlusion: np.ndarray  # int [G]
    ignore: np.ndarray  # bool [G]
    image: np.ndarray  # int [D]
    rank: np.ndarray  # int [D], place of the detection within its image by falling score
    scores: np.ndarray  # float64 [D]
    pair_detection: np.ndarray  # int [C]
    pair_truth: np.ndarray  # int [C]
    pair_iou: np.ndarray  # float64 [C], every pair here covers at least MIN_OVERLAP of its detection


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
      InputError: detections of an image that is not in ``truths``, an image listed twice, a score or box that is not a
        finite number, arrays of lengths that disagree, an unknown condition.
    """
    return score_subsets(truths, detections, (subset,))[subset.name]


def score_subsets(
    truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections], subsets: Sequence[Subset]
) -> dict[str, Score]:
    """Scores detections on several subsets, by the subset's name; as ``score``, but overlaps are computed only once."""
    overlaps = _find_overlaps(truths, detections)
    return {subset.name: _score_matches(_match(overlaps, subset), subset) for subset in subsets}


def match(truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections], subset: Subset) -> Matches:
    """Matches detections to annotations within each image, by the reference's greedy rule.

    By falling score, each detection takes the person not yet taken with whom its intersection over union is highest and
    at least 0.5 (of two equal ones the later). Failing that, it is ignored if at least half of its own area lies on an
    ignore region, which may absorb any number of detections. Otherwise it is a false positive.

    Arguments and errors as for ``score``.
    """
    return _match(_find_overlaps(truths, detections), subset)


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


def _match(overlaps: _Overlaps, subset: Subset) -> Matches:
    is_selected = _select_images(overlaps.is_night, subset)
    roles = assign_roles(subset, overlaps.truth_boxes, overlaps.labels, overlaps.occlusion, overlaps.ignore)
    is_true_positive = _take_people(overlaps, roles)
    # Every pair here overlaps an ignore region enough; see _Overlaps.
    is_on_ignore_region = np.zeros(overlaps.scores.shape, bool)
    is_on_ignore_region[overlaps.pair_detection[roles.is_ignore[overlaps.pair_truth]]] = True

    kept = is_selected[overlaps.image]
    place = np.cumsum(is_selected) - 1
    people = np.bincount(overlaps.truth_image[roles.is_person], minlength=is_selected.size)
    return Matches(
        image_ids=tuple(name for name, keep in zip(overlaps.image_ids, is_selected, strict=True) if keep),
        image=place[overlaps.image[kept]],
        scores=overlaps.scores[kept],
        is_true_positive=is_true_positive[kept],
        is_ignored=(is_on_ignore_region & ~is_true_positive)[kept],
        people=people[is_selected],
    )


def _select_images(is_night: np.ndarray, subset: Subset) -> np.ndarray:
    selections = {"all": np.ones_like(is_night), "day": ~is_night, "night": is_night}
    if subset.condition not in selections:
        raise InputError(
            f"subset {subset.name}: condition {subset.condition!r}; expected one of {', '.join(selections)}"
        )
    return selections[subset.condition]


def _take_people(overlaps: _Overlaps, roles: Roles) -> np.ndarray:
    """Bool [D]: the detections that take a person, one person each."""
    found = np.zeros(overlaps.scores.shape, bool)
    is_taken = np.zeros(overlaps.truth_image.shape, bool)
    candidates = np.flatnonzero(roles.is_person[overlaps.pair_truth] & (overlaps.pair_iou >= MIN_OVERLAP))
    detection, truth = overlaps.pair_detection[candidates], overlaps.pair_truth[candidates]
    # One round handles the detections of one rank. They are of different images, so they cannot want the same person
    # and a round needs no order. Within a detection the preferred person comes first.
    rank = overlaps.rank[detection]
    order = np.lexsort((-truth, -overlaps.pair_iou[candidates], detection, rank))
    detection, truth, rank = detection[order], truth[order], rank[order]
    edges = np.append(np.flatnonzero(np.diff(rank, prepend=-1)), rank.size)
    for start, stop in itertools.pairwise(edges):
        free = start + np.flatnonzero(~is_taken[truth[start:stop]])
        winners = free[np.diff(detection[free], prepend=-1) != 0]
        is_taken[truth[winners]] = True
        found[detection[winners]] = True
    return found


def _find_overlaps(truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections]) -> _Overlaps:
    image_ids = tuple(truth.image_id for truth in truths)
    _check_ids(image_ids, detections)
    truth_counts, truth_boxes, labels, occlusion, ignore = _flatten_truths(truths)
    counts, boxes, scores = _flatten_detections(image_ids, detections)

    images = np.arange(len(image_ids))
    image = np.repeat(images, counts)
    order = np.lexsort((-scores, image))  # stable: equal scores keep their order
    boxes, scores = boxes[order], scores[order]
    rank = np.arange(scores.size) - np.repeat(np.cumsum(counts) - counts, counts)

    # Each detection against each annotation of its image, without a loop: the detection's number is repeated once for
    # each of them, and the annotation's number runs through them.
    pairs = truth_counts[image]
    pair_detection = np.repeat(np.arange(scores.size), pairs)
    first_truth = (np.cumsum(truth_counts) - truth_counts)[image]
    within = np.arange(pair_detection.size) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    pair_truth = np.repeat(first_truth, pairs) + within
    detected, annotated = boxes[pair_detection], truth_boxes[pair_truth]
    sides = np.minimum(detected[:, :2] + detected[:, 2:], annotated[:, :2] + annotated[:, 2:])
    sides = np.maximum(sides - np.maximum(detected[:, :2], annotated[:, :2]), 0.0)
    intersection = sides.prod(axis=1)
    detected_area, annotated_area = detected[:, 2:].prod(axis=1), annotated[:, 2:].prod(axis=1)
    # Union is never smaller than the detection, so no pair dropped here could match by intersection over union either.
    # Division comes after the selection, so that boxes without area need no care; both are divided as the reference
    # divides them, since a product could round to the other side of one half.
    near = np.flatnonzero(intersection > 0.0)
    near = near[intersection[near] / detected_area[near] >= MIN_OVERLAP]
    union = detected_area[near] + annotated_area[near] - intersection[near]
    return _Overlaps(
        image_ids=image_ids,
        is_night=np.asarray([truth.condition == "night" for truth in truths], bool),
        truth_image=np.repeat(images, truth_counts),
        truth_boxes=truth_boxes,
        labels=labels,
        occlusion=occlusion,
        ignore=ignore,
        image=image,
        rank=rank,
        scores=scores,
        pair_detection=pair_detection[near],
        pair_truth=pair_truth[near],
        pair_iou=intersection[near] / union,
    )


def _check_ids(image_ids: Sequence[str], detections: Mapping[str, ImageDetections]) -> None:
    known = set(image_ids)
    if len(known) < len(image_ids):
        seen, repeated = set(), []
        for name in image_ids:
            if name in seen:
                repeated.append(name)
            seen.add(name)
        raise InputError(
            f"annotations list {len(repeated)} images more than once, first {repeated[0]!r}; keep one of each"
        )
    unknown = [name for name in detections if name not in known]
    if unknown:
        raise InputError(
            f"detections of {len(unknown)} images that have no annotations, first {unknown[0]!r}; "
            "score them with the annotations of the same split"
        )


def _flatten_truths(
    truths: Sequence[ImageTruth],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Annotations per image int [I], then boxes [G, 4], labels, occlusion and ignore of all images in one row."""
    all_boxes, all_labels, all_occlusion, all_ignore = [np.zeros((0, 4))], [], [np.zeros(0, int)], [np.zeros(0, bool)]
    for truth in truths:
        boxes = np.asarray(truth.boxes, np.float64).reshape(-1, 4)
        occlusion, ignore = np.asarray(truth.occlusion, int), np.asarray(truth.ignore, bool)
        if truth.condition not in ("day", "night"):
            raise InputError(f"image {truth.image_id!r}: condition {truth.condition!r}; expected 'day' or 'night'")
        if not (len(boxes) == len(truth.labels) == occlusion.size == ignore.size):
            raise InputError(
                f"image {truth.image_id!r}: {len(boxes)} boxes, {len(truth.labels)} labels, {occlusion.size} "
                f"occlusions and {ignore.size} ignore flags; expected one of each per annotation"
            )
        if not np.isfinite(boxes).all():
            raise InputError(f"image {truth.image_id!r}: an annotated box is not finite: {boxes.tolist()}")
        all_boxes.append(boxes)
        all_labels.extend(truth.labels)
        all_occlusion.append(occlusion)
        all_ignore.append(ignore)
    counts = np.asarray([len(boxes) for boxes in all_boxes[1:]], int)
    return (
        counts,
        np.concatenate(all_boxes),
        np.asarray(all_labels, np.str_),
        np.concatenate(all_occlusion),
        np.concatenate(all_ignore),
    )


def _flatten_detections(
    image_ids: Sequence[str], detections: Mapping[str, ImageDetections]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Detections per image int [I], then boxes [D, 4] and scores [D] of all images in one row."""
    counts, all_boxes, all_scores = [], [np.zeros((0, 4))], [np.zeros(0)]
    for image_id in image_ids:
        if image_id not in detections:
            counts.append(0)
            continue
        boxes = np.asarray(detections[image_id].boxes, np.float64).reshape(-1, 4)
        scores = np.asarray(detections[image_id].scores, np.float64).reshape(-1)
        if len(boxes) != scores.size:
            raise InputError(f"image {image_id!r}: {len(boxes)} detected boxes but {scores.size} scores")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise InputError(f"image {image_id!r}: a detection's box or score is not finite; was padding written out?")
        counts.append(scores.size)
        all_boxes.append(boxes)
        all_scores.append(scores)
    return np.asarray(counts, int), np.concatenate(all_boxes), np.concatenate(all_scores)
