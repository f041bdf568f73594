"""Annotations of NightOwls: one JSON file in the manner of COCO for all images of a split.

``images`` have ``id``, ``file_name``, ``width``, ``height`` and ``daytime``; ``annotations`` have ``image_id``,
``category_id`` (1 pedestrian, 2 bicycledriver, 3 motorbikedriver, 4 ignore), ``bbox`` x y w h in pixels, which may
leave the image, ``occluded`` and ``ignore``, either of which may be null.
"""

import os
from typing import NamedTuple

from dcrl_jax.annotations.json_lists import fail, is_box, is_whole, load
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.errors import InputError

# A pedestrian has the label of the other data sets. Ignore areas are of people and of nothing in particular alike.
LABELS = {1: "person", 2: "bicycledriver", 3: "motorbikedriver", 4: "ignore"}
CONDITIONS = ("day", "night", "dawn")
# The data set says whether somebody is occluded, not how much: its evaluation takes half of them to be visible.
_NOT_OCCLUDED, _OCCLUDED = 0, 2
# The training split has 130,064 images, in tens of megabytes.
LIMIT_BYTES = 2**30


class AnnotatedImage(NamedTuple):
    """One image of a split."""

    number: int  # by which results files name it
    file_name: str
    width: int  # pixels
    height: int
    condition: str  # "day", "night" or "dawn"
    objects: list[Annotation]


def read(path: str | os.PathLike[str]) -> list[AnnotatedImage]:
    """Reads one file.

    Returns:
        The images in the order of the file. Boxes are as annotated; occluded objects are at level 2, heavily occluded,
        all others at 0; ignore areas are marked as ignored.

    Raises:
        InputError: the file cannot be read, or an entry is malformed; names the entry, counted from 1.
    """
    lists = load(path, "NightOwls'", LIMIT_BYTES)
    _check_categories(f"{path}: categories", lists["categories"])
    images: dict[int, AnnotatedImage] = {}
    for count, entry in enumerate(lists["images"], start=1):
        place = f"{path}: images, entry {count}"
        image = _parse_image(place, entry)
        if image.number in images:
            raise InputError(f"{place}: id {image.number} is there twice; keep one of them")
        images[image.number] = image
    if not images:
        raise InputError(f"{path}: images: an empty list; expected the images that were annotated")
    for count, entry in enumerate(lists["annotations"], start=1):
        place = f"{path}: annotations, entry {count}"
        number, annotation = _parse_annotation(place, entry)
        if number not in images:
            raise InputError(f"{place}: image_id {number} is none of the images")
        images[number].objects.append(annotation)
    return list(images.values())


def _check_categories(place, entries):
    names = {one.get("id"): str(one.get("name")).lower() for one in entries if isinstance(one, dict)}
    if names.get(1) != "pedestrian" or not set(names) <= set(LABELS):
        raise InputError(
            f"{place}: {str(names)[:120]}; expected NightOwls' own, 1 pedestrian, 2 bicycledriver, 3 motorbikedriver "
            "and 4 ignore"
        )


def _parse_image(place, entry):
    expected = f"id, width and height, whole numbers, file_name, a text, and daytime, one of {', '.join(CONDITIONS)}"
    if not isinstance(entry, dict):
        fail(place, entry, expected)
    numbers = [entry.get(name) for name in ("id", "width", "height")]
    file_name, condition = entry.get("file_name"), entry.get("daytime")
    if not all(map(is_whole, numbers)) or not isinstance(file_name, str) or condition not in CONDITIONS:
        fail(place, entry, expected)
    number, width, height = numbers
    return AnnotatedImage(number, file_name, width, height, condition, [])


def _parse_annotation(place, entry):
    expected = "image_id, category_id from 1 to 4, bbox [x, y, width, height], and occluded and ignore, 0, 1 or null"
    if not isinstance(entry, dict):
        fail(place, entry, expected)
    number, category, box = (entry.get(name) for name in ("image_id", "category_id", "bbox"))
    occluded, ignore = (entry.get(name) or 0 for name in ("occluded", "ignore"))
    if not (is_whole(number) and is_whole(category) and category in LABELS and is_box(box)):
        fail(place, entry, expected)
    if occluded not in (0, 1) or ignore not in (0, 1):
        fail(place, entry, expected)
    label = LABELS[category]
    level = _OCCLUDED if occluded else _NOT_OCCLUDED
    return number, Annotation(label, tuple(map(float, box)), level, bool(ignore) or label == "ignore")
