"""Other readings of a results file: what its numbers could mean if they do not mean what they should.

A file with shifted image numbers, corners instead of sizes or boxes of another scale is read without an error and gets
a bad score. ``better_reading`` finds the reading that explains the numbers; it never changes a score.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dcrl_jax.evaluation.miss_rate import score
from dcrl_jax.evaluation.overlaps import (
    MIN_OVERLAP,
    Flat,
    ImageDetections,
    ImageTruth,
    Results,
    find_pairs,
    flatten,
    processed_truths,
)
from dcrl_jax.evaluation.rules import Subset, assign_roles

# Miss rates up to this one are not questioned. Images that are left out late in a file shift only few.
QUESTIONED = 0.1
# Another reading is far better if its miss rate is lower by this, or at most half. The wrong reading of a file finds
# next to nobody, so chance does not come near either limit, while detectors differ by less than that from version to
# version.
FAR_BETTER = 0.2
# Relative boxes lie between 0 and 1, or reach a little out of the image.
MAX_RELATIVE = 2.0

FindPeople = Callable[["Reading"], np.ndarray]

_SCALES = {"": 1.0, "at half the size of the images": 2.0, "at twice the size of the images": 0.5}
_IN_PIXELS = "write boxes as x,y,width,height in pixels of the images"
_NAMES = "name the images by their file names, as image_id or file_name"
_LIST_NAMES = "list the names of its images, in its order, in images.txt beside it"

# What the four numbers of a box could be, and the box that they are then.
_FORMS = {
    "": lambda x, y, w, h: (x, y, w, h),
    "corners x1,y1,x2,y2": lambda x, y, w, h: (x, y, w - x, h - y),
    "x,y,width,height, not corners": lambda x, y, w, h: (x, y, x + w, y + h),
    "centres with width,height": lambda x, y, w, h: (x - w / 2, y - h / 2, w, h),
}
_ORDERS = {"": [0, 1, 2, 3], "with x and y swapped": [1, 0, 3, 2]}


class Reading(NamedTuple):
    """One reading of all detections."""

    name: str  # completes "if its ..."
    remedy: str
    image: np.ndarray  # int [D], index of the image; may lie outside the list of images
    boxes: np.ndarray  # float64 [D, 4], x, y, width, height


class BetterReading(NamedTuple):
    """A reading under which results have a far better score."""

    name: str
    remedy: str
    miss_rate: float  # fraction


def better_reading(
    truths: Sequence[ImageTruth], results: Results, image_ids: Sequence[str], subset: Subset, size: tuple[int, int]
) -> BetterReading | None:
    """Return the reading under which results score far better than as they are; None if there is none.

    Of all readings, only the one under which the strongest detections find most people is scored, so that this takes
    little longer than a score. If that is the plain one, the scores may be those of the background.

    Args:
        truths: the annotations that are scored.
        results: the detections.
        image_ids: all images of the split, in the order in which numbers count them.
        subset: the people who count, and whose miss rate is compared.
        size: width and height of the images in pixels.
    """
    by_id = {truth.image_id: truth for truth in processed_truths(truths, results)}
    kept = {image_id: results[image_id] for image_id in results if image_id in by_id}
    plain = score(list(by_id.values()), kept, subset).miss_rate
    if not plain > QUESTIONED:
        return None
    # Numbers count all images, also those without annotations.
    no_objects = (np.zeros((0, 4)), (), np.zeros(0, int), np.zeros(0, bool))
    all_truths = [by_id.get(image_id) or ImageTruth(image_id, "day", *no_objects) for image_id in image_ids]
    flat = flatten(all_truths, dict(results))
    best = _find_best(flat, subset, results, size)
    if best is None:
        name, remedy = "scores are low for people", "write scores that are high for people"
        changed = {image_id: ImageDetections(boxes, -scores) for image_id, (boxes, scores) in kept.items()}
    else:
        name, remedy, *_ = best
        changed = {image_id: rows for image_id, rows in _by_image(flat, best).items() if image_id in by_id}
    miss_rate = score(list(by_id.values()), changed, subset).miss_rate
    is_far_better = miss_rate <= max(plain - FAR_BETTER, plain / 2)
    return BetterReading(name, remedy, miss_rate) if is_far_better else None


def propose(flat: Flat, first_number: int | None, size: tuple[int, int], found: FindPeople) -> Iterator[Reading]:
    """Yield the other readings of detections.

    Args:
        flat: the detections as they are read.
        first_number: the number of the first image if numbers name the images; otherwise they are not questioned.
        size: width and height of the images in pixels.
        found: counts the people that a reading finds, by the number of the image as it is read.
    """
    for step, name, change in ((1, "low", "higher"), (-1, "high", "lower")) if first_number is not None else ():
        remedy = f"write numbers that are one {change}, or the names of the images instead"
        reading = Reading(f"image numbers are one too {name}", remedy, flat.image + step, flat.boxes)
        # An image that was left out, or is there twice, shifts only those that follow: from the number on from which
        # most people are gained.
        gained = np.cumsum((found(reading) - found(reading._replace(image=flat.image)))[::-1])[::-1]
        start = int(np.argmax(gained))
        if start > flat.image.min(initial=start):
            reading = reading._replace(
                name=f"{reading.name} from about {start + (first_number or 0)} on",
                remedy=_LIST_NAMES,
                image=np.where(flat.image >= start, reading.image, flat.image),
            )
        yield reading
    is_relative = np.abs(flat.boxes).max(initial=0) <= MAX_RELATIVE
    scales = {"relative to the size of the images": (*size, *size)} if is_relative else _SCALES
    for (form, to_box), (order, columns), (scale, factor) in itertools.product(
        _FORMS.items(), _ORDERS.items(), scales.items()
    ):
        words = [word for word in (form, order, scale) if word]
        if words:
            boxes = np.stack(to_box(*(flat.boxes[:, columns] * factor).T), axis=1)
            boxes[:, 2:] = np.maximum(boxes[:, 2:], 0)
            yield Reading(f"boxes are {', '.join(words)}", _IN_PIXELS, flat.image, boxes)


def _renumbered(flat: Flat, results: Results) -> Iterator[Reading]:
    """Yield the readings of detections under which the numbers of images have another meaning."""
    index_of = {image_id: index for index, image_id in enumerate(flat.image_ids)}
    for name, other_of in results.others.items():
        other = np.array([index_of[other_of.get(image_id, image_id)] for image_id in flat.image_ids])
        yield Reading(f"image numbers are {name}", _NAMES, other[flat.image], flat.boxes)


def _find_best(flat: Flat, subset: Subset, results: Results, size: tuple[int, int]) -> Reading | None:
    """Return the reading under which the strongest detections find most people; None if it is the plain one."""
    people = assign_roles(subset, flat.truth_boxes, flat.labels, flat.occlusion, flat.ignore).is_person
    truth_boxes = flat.truth_boxes[people]
    # Weak detections lie everywhere. The strongest ones, twice as many as there are people, tell readings apart.
    strongest = np.argsort(-flat.scores, kind="stable")[: 2 * len(truth_boxes)]
    number = flat.image[strongest]

    def found(reading: Reading) -> np.ndarray:
        image = reading.image[strongest]
        is_inside = (image >= 0) & (image < len(flat.image_ids))
        kept = flat._replace(truth_image=flat.truth_image[people], image=image[is_inside])
        pairs = find_pairs(kept, reading.boxes[strongest][is_inside], truth_boxes)
        matching = pairs.iou >= MIN_OVERLAP
        _, first = np.unique(pairs.truth[matching], return_index=True)
        return np.bincount(number[is_inside][pairs.detection[matching][first]], minlength=len(flat.image_ids))

    plain = Reading("", "", flat.image, flat.boxes)
    # The plain reading is first, so it wins if another one finds as many.
    others = [*_renumbered(flat, results), *propose(flat, results.first_number, size, found)]
    best = max([plain, *others], key=lambda reading: found(reading).sum())
    return None if best is plain else best


def _by_image(flat: Flat, reading: Reading) -> dict[str, ImageDetections]:
    """Return the detections of a reading by image id, without those that are in no image."""
    order = np.argsort(reading.image, kind="stable")
    edges = np.searchsorted(reading.image[order], np.arange(len(flat.image_ids) + 1))
    parts = [order[start:stop] for start, stop in itertools.pairwise(edges)]
    return {
        image_id: ImageDetections(reading.boxes[part], flat.scores[part])
        for image_id, part in zip(flat.image_ids, parts, strict=True)
        if part.size
    }
