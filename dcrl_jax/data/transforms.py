"""Transforms from a record of a data set to arrays of fixed shape: decoding, paired geometry, padding.

A *pair* is a dict: ``image_id`` str; ``visible`` uint8 [h, w, 3] RGB; ``lwir`` uint8 [h, w, 1], absent in RGB-only
data; ``is_night`` bool; ``boxes`` float32 [n, 4], ``[x1, y1, x2, y2]`` in pixels of the images; ``labels`` tuple of n
str; ``annotated`` float32 [n, 4], ``[x, y, w, h]`` as annotated, unchanged by resizing, clipping and mirroring;
``occlusion`` int32 [n]; ``ignore`` bool [n]. Every transform takes a pair and returns a new one, and moves its images
and boxes together.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

from dcrl_jax import decoding
from dcrl_jax.annotations.labels import KAIST_IGNORE, PERSON
from dcrl_jax.annotations.roles import find_roles
from dcrl_jax.data.records import text
from dcrl_jax.decoding import DEFAULT_RULES, ImageRules
from dcrl_jax.errors import InputError
from dcrl_jax.ops.boxes import xywh_to_xyxy
from dcrl_jax.structures import MODALITIES

Pair = dict[str, Any]

# Share of the crops of ``random_crop`` that show a person, if there is one. Whole images are mostly background.
CROPS_OF_PEOPLE = 0.75
# An object with a smaller share of its area in a crop becomes an ignore region.
MIN_SHARE_IN_CROP = 0.5

# Grey value of a blanked modality, like a camera that is switched off, in training and in evaluation.
BLANK_GREY = 0


class BoxFilter(NamedTuple):
    """Rules that decide which annotated objects are people and which are ignore regions.

    An object is an *ignore region* if the record marks it so, if its label is in ``ignore_labels``, or if its label is
    in ``labels`` and it is too small, too occluded or not inside the border. All other objects with a label in
    ``labels`` are *people*; objects with other labels (a car) are background.
    """

    labels: tuple[str, ...] = (PERSON,)
    ignore_labels: tuple[str, ...] = KAIST_IGNORE
    min_height_px: float = 0.0  # of a box, in pixels as annotated
    max_occlusion: int = 2  # 0 none, 1 partial, 2 heavy
    border_px: tuple[float, ...] = ()  # x1, y1, x2, y2 in pixels as annotated; people lie inside it. (): no limit


class Augmentation(NamedTuple):
    """Amounts of the random changes of a training pair; 0 switches one off without changing the draws of the others."""

    flip_probability: float = 0.0
    brightness: float = 0.0  # the visible image is multiplied by a factor from [1 - brightness, 1 + brightness]
    blank_probability: float = 0.0  # of blanking one modality, each with the same probability


def decode(
    record: Mapping[str, Any], modalities: Sequence[str] = MODALITIES, rules: ImageRules = DEFAULT_RULES
) -> Pair:
    """Decode a record whose images are encoded bytes; ``decoding`` has the rules.

    Boxes, of the upright image, are converted from ``[x, y, w, h]`` to ``[x1, y1, x2, y2]`` and clipped to the image.
    Without ``lwir`` among the modalities the thermal image is not read, and the record need not have one.

    Raises:
        InputError: an image cannot be used, the two sizes differ, or a box has no size or is completely outside.
    """
    image_id = text(record["image_id"])
    try:
        images = {"visible": decoding.decode_visible(record["visible"], f"image {image_id}: the visible image", rules)}
        height, width = images["visible"].shape[:2]
        if "lwir" in modalities:
            name = f"image {image_id}: the lwir image"
            images["lwir"] = decoding.decode_lwir(record["lwir"], name, (height, width), rules)
    except InputError as error:
        raise InputError(f"{error} (After replacing a file, prepare the data set again.)") from error
    objects = record["objects"]
    xywh = np.asarray(objects["box"], np.float32).reshape(-1, 4)
    labels = tuple(text(label) for label in objects["label"])
    return {
        "image_id": image_id,
        **images,
        "is_night": bool(record["condition"] == 1),
        "boxes": _clipped_xyxy(xywh, labels, height, width, image_id),
        "labels": labels,
        "annotated": xywh.copy(),
        "occlusion": np.asarray(objects["occlusion"], np.int32).reshape(-1),
        "ignore": np.asarray(objects["ignore"], bool).reshape(-1),
    }


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Stretch an image, uint8 [h, w, C], to ``[height, width]``."""
    # Averaging over the source area keeps thin people in a smaller image; it is not defined for a larger one.
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    # OpenCV drops the axis of a single channel.
    return cv2.resize(image, (width, height), interpolation=interpolation).reshape(height, width, -1)


def resize_pair(pair: Pair, height: int, width: int) -> Pair:
    """Stretch images and boxes to ``[height, width]``, each axis by its own factor."""
    old_height, old_width = pair["visible"].shape[:2]
    if (old_height, old_width) == (height, width):
        return pair
    x_scale, y_scale = width / old_width, height / old_height
    resized = {name: resize(pair[name], height, width) for name in _images(pair)}
    return pair | resized | {"boxes": pair["boxes"] * np.array([x_scale, y_scale, x_scale, y_scale], np.float32)}


def crop_pair(pair: Pair, x: int, y: int, height: int, width: int) -> Pair:
    """Cut the part of ``height`` and ``width`` with its top left corner at (``x``, ``y``) out of images and boxes.

    Boxes are clipped and objects outside are left out. An object with less than ``MIN_SHARE_IN_CROP`` of its area
    inside becomes an ignore region.
    """
    boxes = pair["boxes"] - np.array([x, y, x, y], np.float32)
    clipped = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    areas, clipped_areas = (np.prod(xyxy[:, 2:] - xyxy[:, :2], axis=1) for xyxy in (boxes, clipped))
    kept = np.flatnonzero(clipped_areas > 0)
    ignore = pair["ignore"] | (clipped_areas < MIN_SHARE_IN_CROP * areas)
    return {
        **pair,
        **{name: pair[name][y : y + height, x : x + width] for name in _images(pair)},
        "boxes": clipped[kept],
        "labels": tuple(pair["labels"][index] for index in kept),
        "annotated": pair["annotated"][kept],
        "occlusion": pair["occlusion"][kept],
        "ignore": ignore[kept],
    }


def flip_pair(pair: Pair) -> Pair:
    """Mirror images and boxes left to right."""
    width = np.float32(pair["visible"].shape[1])
    x1, y1, x2, y2 = pair["boxes"].T
    # Many times faster than a copy of the reversed view. OpenCV drops the axis of a single channel.
    mirrored = {name: cv2.flip(pair[name], 1).reshape(pair[name].shape) for name in _images(pair)}
    return pair | mirrored | {"boxes": np.stack([width - x2, y1, width - x1, y2], axis=1)}


def scale_brightness(pair: Pair, factor: float) -> Pair:
    """Multiply the visible image by ``factor``, rounded and saturated at 255; lwir is unchanged."""
    table = np.clip(np.round(np.arange(256) * factor), 0, 255).astype(np.uint8)
    return pair | {"visible": cv2.LUT(pair["visible"], table)}


def blank(pair: Pair, modality: str) -> Pair:
    """Set the image of ``modality`` (``visible`` or ``lwir``) to ``BLANK_GREY``."""
    return pair | {modality: np.full_like(pair[modality], BLANK_GREY)}


def random_crop(pair: Pair, rng: np.random.Generator, size: tuple[int, int], box_filter: BoxFilter) -> Pair:
    """Cut out a part of ``size``, height and width; ``CROPS_OF_PEOPLE`` of the parts are placed around a random person.

    Every place that shows the person completely is equally likely, or of a larger person every place within the box.
    """
    width_height = np.array(size[::-1])
    last = np.array(pair["visible"].shape[1::-1]) - width_height
    low, high = np.zeros(2), last
    is_person, _ = filter_boxes(box_filter, pair["annotated"], pair["labels"], pair["occlusion"], pair["ignore"])
    wants_person, choice, place = rng.random() < CROPS_OF_PEOPLE, rng.random(), rng.random(2)
    if wants_person and is_person.any():
        people = pair["boxes"][is_person]
        top_left, bottom_right = people[int(choice * len(people))].reshape(2, 2)
        ends = np.sort([bottom_right - width_height, top_left], axis=0)
        low, high = np.clip(ends, 0, last)
    x, y = np.round(low + place * (high - low)).astype(int)
    return crop_pair(pair, x, y, *size)


def random_flip(pair: Pair, rng: np.random.Generator, probability: float) -> Pair:
    """Flip the pair with ``probability``."""
    return flip_pair(pair) if rng.random() < probability else pair


def random_brightness(pair: Pair, rng: np.random.Generator, brightness: float) -> Pair:
    """Multiply the visible image by a factor drawn from ``[1 - brightness, 1 + brightness]``."""
    return scale_brightness(pair, rng.uniform(1.0 - brightness, 1.0 + brightness))


def random_blank(pair: Pair, rng: np.random.Generator, probability: float) -> Pair:
    """Blank visible or lwir, each with half of ``probability``; RGB-only data uses the same draws as pairs."""
    is_blanked = rng.random() < probability
    modality = MODALITIES[int(rng.random() < 0.5)]
    return blank(pair, modality) if is_blanked and modality in pair else pair


def filter_boxes(
    box_filter: BoxFilter, annotated: np.ndarray, labels: Sequence[str], occlusion: np.ndarray, ignore: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return which of n annotated objects are people and which are ignore regions.

    Args:
        box_filter: the rules.
        annotated: float [n, 4], ``[x, y, w, h]`` in pixels as annotated.
        labels: n names.
        occlusion: int [n], 0 none, 1 partial, 2 heavy.
        ignore: bool [n], marked as ignore regions in the record.

    Returns:
        The masks of people and of ignore regions, bool [n] each; objects in neither are background.
    """
    roles = find_roles(
        annotated,
        labels,
        occlusion,
        ignore,
        person_labels=box_filter.labels,
        ignore_labels=box_filter.ignore_labels,
        occlusions=range(box_filter.max_occlusion + 1),
        min_height_px=box_filter.min_height_px,
        border=box_filter.border_px,
    )
    # Scoring drops an object of another label that is marked as ignored; training ignores it.
    return roles.is_person, roles.is_ignore | ignore


def to_padded(pair: Pair, max_boxes: int, box_filter: BoxFilter | None) -> dict[str, np.ndarray]:
    """Convert a pair to arrays whose shapes depend only on the image size and on ``max_boxes`` (G).

    Without a filter all boxes are padding, for callers that use only the images.

    Returns:
        ``visible`` uint8 [H, W, 3], ``lwir`` uint8 [H, W, 1] if the pair has it, ``boxes`` float32 [G, 4],
        ``is_person`` and ``is_ignore`` bool [G] (see ``BoxFilter``; both False for padding), ``is_night`` bool [].
        People and ignore regions are in the order of the annotation.

    Raises:
        InputError: there are more people and ignore regions than ``max_boxes``.
    """
    is_person = is_ignore = np.zeros(len(pair["labels"]), bool)
    if box_filter is not None:
        is_person, is_ignore = filter_boxes(
            box_filter, pair["annotated"], pair["labels"], pair["occlusion"], pair["ignore"]
        )
    kept = np.flatnonzero(is_person | is_ignore)
    if len(kept) > max_boxes:
        raise InputError(
            f"image {pair['image_id']}: {len(kept)} people and ignore regions do not fit into data.max_boxes="
            f"{max_boxes}; raise data.max_boxes to at least {len(kept)}."
        )
    boxes = np.zeros((max_boxes, 4), np.float32)
    boxes[: len(kept)] = pair["boxes"][kept]
    return {
        **{name: pair[name] for name in _images(pair)},
        "boxes": boxes,
        "is_person": _padded_mask(is_person[kept], max_boxes),
        "is_ignore": _padded_mask(is_ignore[kept], max_boxes),
        "is_night": np.array(pair["is_night"]),
    }


def _images(pair: Pair) -> list[str]:
    return [name for name in MODALITIES if name in pair]


def _clipped_xyxy(xywh: np.ndarray, labels: tuple[str, ...], height: int, width: int, image_id: str) -> np.ndarray:
    """Return boxes float32 [n, 4], xyxy, clipped to an image of ``height`` x ``width`` pixels."""
    xyxy = xywh_to_xyxy(xywh)
    limits = np.array([width, height, width, height], np.float32)
    clipped = np.clip(xyxy, np.float32(0), limits)
    has_size = np.all(xywh[:, 2:] > 0, axis=1) & np.all(np.isfinite(xywh), axis=1)
    is_inside = np.all(clipped[:, 2:] > clipped[:, :2], axis=1)
    problems = [
        f"box {i} ({labels[i]}, x y w h = {' '.join(f'{value:g}' for value in xywh[i])}) "
        + ("has no size" if not has_size[i] else "is completely outside")
        for i in np.flatnonzero(~(has_size & is_inside))
    ]
    if problems:
        raise InputError(
            f"image {image_id} ({width}x{height} pixels): {'; '.join(problems)}. Correct its annotation and prepare "
            "the data set again."
        )
    return clipped


def _padded_mask(mask: np.ndarray, length: int) -> np.ndarray:
    return np.pad(mask, (0, length - len(mask)))
