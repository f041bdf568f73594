"""COCO's average precision, computed by faster-coco-eval, which gives pycocotools' figures in a tenth of the time."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from dcrl_jax.evaluation.overlaps import ImageDetections, ImageTruth, flatten, processed_truths
from dcrl_jax.evaluation.rules import Subset, assign_roles

# The detections of a category that COCO scores in each image, the strongest ones.
MAX_DETECTIONS = 100


class CocoScore(NamedTuple):
    """COCO's figures for one category, or their means over several. Fractions (not percent); NaN where none counts.

    Small objects cover up to 32 x 32 pixels, medium ones up to 96 x 96. The area is that of the box.
    """

    ap: float  # average precision, mean over the overlaps 0.5, 0.55 ... 0.95
    ap50: float  # at an overlap of 0.5
    ap75: float
    ap_small: float  # NaN also if sizes were not asked for
    ap_medium: float
    ap_large: float
    ar: float  # recall of the strongest MAX_DETECTIONS of each image, mean over the overlaps
    objects: int  # that count
    images: int


class Category(NamedTuple):
    """The annotations and detections of one category."""

    subset: Subset  # decides which objects count and which are ignore regions, and nothing else
    detections: Mapping[str, ImageDetections]  # by image id


class CocoScores(NamedTuple):
    """The scores of a detector."""

    mean: CocoScore  # over the categories with objects that count
    categories: dict[str, CocoScore]  # by name


def coco_scores(
    truths: Sequence[ImageTruth],
    categories: Mapping[str, Category],
    conditions: Sequence[str] = ("all",),
    by_size: bool = True,
) -> dict[str, CocoScores]:
    """Score detections as COCO does, by condition of the images.

    COCO's rules differ from those of the miss rate: precision is averaged over 101 recalls and ten overlaps, and only
    the 100 strongest detections of an image count. Ignore regions are COCO's crowds: a detection that finds no object
    counts neither way if enough of its own area, by the overlap asked for, lies on one. Equal scores are ranked in the
    order of ``truths`` and, within an image, in the given order.

    Args:
        truths: all images of the data set, each once. If the first category's detections are ``Results`` of a part of
            the images, this part is scored.
        categories: by name; at least one.
        conditions: "all" or conditions of images.
        by_size: whether to score small, medium and large objects too, which takes longer.

    Raises:
        InputError: as ``miss_rate.score``.
    """
    truths = processed_truths(truths, next(iter(categories.values())).detections)
    annotated, detected = [], []
    for number, (subset, detections) in enumerate(categories.values(), start=1):
        flat = flatten(truths, detections)
        roles = assign_roles(subset, flat.truth_boxes, flat.labels, flat.occlusion, flat.ignore)
        kept = roles.is_person | roles.is_ignore
        crowd = {"iscrowd": roles.is_ignore[kept].astype(int)}
        annotated += _entries(number, flat.truth_image[kept], flat.truth_boxes[kept], crowd)
        # COCO drops the others, too; here they cost no memory.
        kept = flat.rank < MAX_DETECTIONS
        detected += _entries(number, flat.image[kept], flat.boxes[kept], {"score": flat.scores[kept]})
    names = list(categories)
    annotated, detected = (_index(len(truths), names, entries) for entries in (annotated, detected))
    scores = {}
    for condition in conditions:
        chosen = [index for index, truth in enumerate(truths) if condition in ("all", truth.condition)]
        scores[condition] = _score(annotated, detected, names, chosen, by_size)
    return scores


def _entries(category: int, image: np.ndarray, boxes: np.ndarray, field: Mapping[str, np.ndarray]) -> list[dict]:
    """Return annotations or detections in COCO's form, without ids.

    Args:
        category: the number of their category.
        image: int [N], the index of the image of each.
        boxes: float64 [N, 4], x, y, width, height.
        field: the name of one more field, and its values [N].
    """
    ((name, values),) = field.items()
    return [
        {"image_id": index, "category_id": category, "bbox": box, "area": area, name: value}
        for index, box, area, value in zip(
            image.tolist(), boxes.tolist(), boxes[:, 2:].prod(axis=1).tolist(), values.tolist(), strict=True
        )
    ]


def _index(images: int, names: Sequence[str], entries: list[dict]) -> COCO:
    """Return the library's index of annotations or detections, which get their ids here.

    Ids start at 1, because the library takes 0 for an object that nothing matches.
    """
    for number, entry in enumerate(entries, start=1):
        entry["id"] = number
    categories = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    return COCO({"images": [{"id": i} for i in range(images)], "categories": categories, "annotations": entries})


def _score(annotated: COCO, detected: COCO, names: Sequence[str], images: list[int], by_size: bool) -> CocoScores:
    """Return the scores on some of the images, by their index."""
    shown = set(images)
    objects = np.zeros(len(names), int)
    for entry in annotated.dataset["annotations"]:
        objects[entry["category_id"] - 1] += entry["image_id"] in shown and not entry["iscrowd"]
    if not objects.any():
        nothing = _figures(np.zeros((10, 0, 0, 1)), np.zeros((10, 0, 1)), 0, len(images))
        return CocoScores(nothing, dict.fromkeys(names, nothing))
    evaluator = COCOeval_faster(annotated, detected, "bbox", print_function=_print_nothing)
    parameters: Any = evaluator.params
    parameters.imgIds, parameters.maxDets = images, [MAX_DETECTIONS]
    if not by_size:
        parameters.areaRng, parameters.areaRngLbl = parameters.areaRng[:1], parameters.areaRngLbl[:1]
    evaluator.evaluate()
    evaluator.accumulate()
    # [overlaps, recalls, categories, sizes] and [overlaps, categories, sizes]; -1 where no object counts.
    precision, recall = evaluator.eval["precision"][..., 0], evaluator.eval["recall"][..., 0]
    by_name = {
        name: _figures(precision[:, :, [k]], recall[:, [k]], int(objects[k]), len(images))
        for k, name in enumerate(names)
    }
    return CocoScores(_figures(precision, recall, int(objects.sum()), len(images)), by_name)


def _figures(precision: np.ndarray, recall: np.ndarray, objects: int, images: int) -> CocoScore:
    sizes = [_mean(precision[..., size]) for size in range(1, precision.shape[-1])] or [float("nan")] * 3
    overlaps = precision[..., 0]
    return CocoScore(
        ap=_mean(overlaps),
        ap50=_mean(overlaps[0]),
        ap75=_mean(overlaps[5]),
        ap_small=sizes[0],
        ap_medium=sizes[1],
        ap_large=sizes[2],
        ar=_mean(recall[..., 0]),
        objects=objects,
        images=images,
    )


def _mean(values: np.ndarray) -> float:
    """Return the mean over the categories with objects that count, NaN if there are none."""
    counted = values[values > -1]
    return float(np.mean(counted)) if counted.size else float("nan")


def _print_nothing(*_: object) -> None:
    """Take the place of the library's own output."""
