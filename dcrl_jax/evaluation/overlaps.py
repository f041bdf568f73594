"""Annotations and detections of many images, concatenated into flat arrays, and the pairs that overlap.

Notation, over all images together: I images, G annotations, D detections, C pairs of a detection and an annotation that
overlap enough to match.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.rules import IMAGE_CONDITIONS

MIN_OVERLAP = 0.5


class ImageTruth(NamedTuple):
    """The annotations of one image."""

    image_id: str
    condition: str  # "day", "night" or "dawn"
    boxes: np.ndarray  # float64 [G, 4], x, y, width, height in pixels as annotated
    labels: Sequence[str]  # G names
    occlusion: np.ndarray  # int [G], 0 none, 1 partial, 2 heavy
    ignore: np.ndarray  # bool [G], marked as not to be scored


class ImageDetections(NamedTuple):
    """The detections of one image, in any order."""

    boxes: np.ndarray  # float [D, 4], x, y, width, height in pixels of the annotated image
    scores: np.ndarray  # float [D], on any scale; higher is more confident


class Results(dict[str, ImageDetections]):
    """Detections by image id, with what their file says about the images.

    Scores of such detections are taken on ``images`` alone.
    """

    def __init__(
        self,
        detections: Mapping[str, ImageDetections],
        images: frozenset[str] | None = None,
        first_number: int | None = None,
        warnings: Sequence[str] = (),
        others: Mapping[str, Mapping[str, str]] | None = None,
    ):
        """Hold detections.

        Args:
            detections: detections by image id.
            images: the ids of the images that were processed; None if the results do not tell.
            first_number: the number of the split's first image, if numbers alone name the images; otherwise None.
            warnings: one line each, to print beside every score.
            others: by what the numbers of images could mean instead: the other image's id, by that of each image.
        """
        super().__init__(detections)
        self.images, self.first_number, self.warnings = images, first_number, list(warnings)
        self.others = others or {}


class Flat(NamedTuple):
    """The annotations and detections of all images; detections sorted by image, then by descending score."""

    image_ids: tuple[str, ...]
    condition: np.ndarray  # str [I]
    truth_image: np.ndarray  # int [G]
    truth_boxes: np.ndarray  # float64 [G, 4], x, y, width, height
    labels: np.ndarray  # str [G]
    occlusion: np.ndarray  # int [G]
    ignore: np.ndarray  # bool [G]
    image: np.ndarray  # int [D]
    rank: np.ndarray  # int [D], rank of the detection within its image by descending score
    boxes: np.ndarray  # float64 [D, 4], x, y, width, height
    scores: np.ndarray  # float64 [D]


class Pairs(NamedTuple):
    """Pairs within an image where at least MIN_OVERLAP of the detection's area lies on the annotation."""

    detection: np.ndarray  # int [C]
    truth: np.ndarray  # int [C]
    iou: np.ndarray  # float64 [C]


def flatten(truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections]) -> Flat:
    """Concatenate the annotations and detections of all images.

    Args:
        truths: all images of the data set, each once.
        detections: detections by image id; images without detections may be left out. If they are ``Results`` of a part
            of the images, the other images are left out.

    Raises:
        InputError: detections of an image that is not in ``truths``, an image listed twice, a score or box that is not
            finite, arrays of different lengths, an unknown condition.
    """
    truths = processed_truths(truths, detections)
    image_ids = tuple(truth.image_id for truth in truths)
    _check_ids(image_ids, detections)
    truth_counts, truth_boxes, labels, occlusion, ignore = _flatten_truths(truths)
    counts, boxes, scores = _flatten_detections(image_ids, detections)
    images = np.arange(len(image_ids))
    image = np.repeat(images, counts)
    order = np.lexsort((-scores, image))  # stable: equal scores keep their order
    return Flat(
        image_ids=image_ids,
        condition=np.asarray([truth.condition for truth in truths], np.str_),
        truth_image=np.repeat(images, truth_counts),
        truth_boxes=truth_boxes,
        labels=labels,
        occlusion=occlusion,
        ignore=ignore,
        image=image,
        rank=np.arange(scores.size) - np.repeat(np.cumsum(counts) - counts, counts),
        boxes=boxes[order],
        scores=scores[order],
    )


def processed_truths(truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections]) -> Sequence[ImageTruth]:
    """Return the annotations of the images that were processed: all, or those that ``Results`` name."""
    images = detections.images if isinstance(detections, Results) else None
    return truths if images is None else [truth for truth in truths if truth.image_id in images]


def find_pairs(flat: Flat, boxes: np.ndarray, truth_boxes: np.ndarray) -> Pairs:
    """Return the pairs of a detection and an annotation of the same image that can match.

    Args:
        flat: the image of each detection and annotation.
        boxes: float64 [D, 4], x, y, width, height of the detections.
        truth_boxes: float64 [G, 4], x, y, width, height of the annotations.
    """
    # Each detection's index is repeated once per annotation of its image; `truth` counts through these annotations.
    truth_counts = np.bincount(flat.truth_image, minlength=len(flat.image_ids))
    pair_counts = truth_counts[flat.image]
    detection = np.repeat(np.arange(len(boxes)), pair_counts)
    first_truth = (np.cumsum(truth_counts) - truth_counts)[flat.image]
    index_in_image = np.arange(detection.size) - np.repeat(np.cumsum(pair_counts) - pair_counts, pair_counts)
    truth = np.repeat(first_truth, pair_counts) + index_in_image
    detected, annotated = boxes[detection], truth_boxes[truth]
    sides = np.minimum(detected[:, :2] + detected[:, 2:], annotated[:, :2] + annotated[:, 2:])
    sides = np.maximum(sides - np.maximum(detected[:, :2], annotated[:, :2]), 0.0)
    intersection = sides.prod(axis=1)
    detected_area, annotated_area = detected[:, 2:].prod(axis=1), annotated[:, 2:].prod(axis=1)
    # The union is at least as large as the detection, so a pair dropped here cannot match by intersection over union.
    # Dividing after the selection avoids zero areas. Both ratios are divisions as in the reference: comparing products
    # could round to the other side of one half.
    near = np.flatnonzero(intersection > 0.0)
    near = near[intersection[near] / detected_area[near] >= MIN_OVERLAP]
    union = detected_area[near] + annotated_area[near] - intersection[near]
    return Pairs(detection[near], truth[near], intersection[near] / union)


def with_aspect_ratio(boxes: np.ndarray, aspect_ratio: float) -> np.ndarray:
    """Return boxes with the same centres and heights whose width is ``aspect_ratio`` times the height.

    Args:
        boxes: float [N, 4], x, y, width, height.
        aspect_ratio: width / height.
    """
    x, y, width, height = boxes.T
    new_width = height * aspect_ratio
    return np.stack([x + (width - new_width) / 2, y, new_width, height], axis=1)


def _check_ids(image_ids: Sequence[str], detections: Mapping[str, ImageDetections]) -> None:
    known = set(image_ids)
    if len(known) < len(image_ids):
        repeated = list((Counter(image_ids) - Counter(known)).elements())
        raise InputError(
            f"annotations list {len(repeated)} images more than once, first {repeated[0]!r}; keep one of each"
        )
    unknown = [image_id for image_id in detections if image_id not in known]
    if unknown:
        raise InputError(
            f"detections of {len(unknown)} images that have no annotations, first {unknown[0]!r}; "
            "score them with the annotations of the same split"
        )


def _flatten_truths(
    truths: Sequence[ImageTruth],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return annotations per image, int [I], and concatenated boxes [G, 4], labels, occlusion and ignore [G]."""
    all_boxes, all_labels, all_occlusion, all_ignore = [np.zeros((0, 4))], [], [np.zeros(0, int)], [np.zeros(0, bool)]
    for truth in truths:
        boxes = np.asarray(truth.boxes, np.float64).reshape(-1, 4)
        occlusion, ignore = np.asarray(truth.occlusion, int), np.asarray(truth.ignore, bool)
        if truth.condition not in IMAGE_CONDITIONS:
            expected = ", ".join(map(repr, IMAGE_CONDITIONS))
            raise InputError(f"image {truth.image_id!r}: condition {truth.condition!r}; expected one of {expected}")
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
    """Return detections per image, int [I], and concatenated boxes [D, 4] and scores [D]."""
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
