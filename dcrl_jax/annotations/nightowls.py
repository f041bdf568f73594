"""Annotations of NightOwls: one JSON file of COCO's form for all images of a split.

``images`` have ``id``, ``file_name``, ``width``, ``height`` and ``daytime``. ``annotations`` have ``image_id``,
``category_id`` (1 pedestrian, 2 bicycledriver, 3 motorbikedriver, 4 ignore), ``bbox`` [x, y, w, h] in pixels, which may
leave the image, ``occluded`` and ``ignore``; the last two may be null.
"""

import os
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from dcrl_jax.annotations import labels
from dcrl_jax.annotations.json_files import Box, Category, Flags, Name, is_ignored, read_json
from dcrl_jax.annotations.types import HEAVY, NONE, Annotation
from dcrl_jax.errors import InputError

# By category. Pedestrians get the label of the other data sets. An ignore area may or may not show people.
LABELS = {1: labels.PERSON, 2: "bicycledriver", 3: "motorbikedriver", 4: "ignore"}
# Annotations of the 130,064 training images take tens of megabytes.
LIMIT_BYTES = 2**30

Pixels = Annotated[int, msgspec.Meta(ge=1, le=10**6)]


class _Image(msgspec.Struct):
    id: int
    file_name: Name
    width: Pixels
    height: Pixels
    daytime: Literal["day", "night", "dawn"]


class _Object(Flags, kw_only=True):
    image_id: int
    category_id: Literal[1, 2, 3, 4]
    bbox: Box
    occluded: bool | Literal[0, 1] | None = None


class _Content(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Object]
    categories: list[Category]


class AnnotatedImage(NamedTuple):
    """One image of a split."""

    number: int  # by which results files name the image
    file_name: str
    width: int  # pixels
    height: int
    condition: str  # one of IMAGE_CONDITIONS
    objects: list[Annotation]


def read(path: str | os.PathLike[str]) -> list[AnnotatedImage]:
    """Read one file.

    Returns:
        The images in the order of the file. Boxes are as annotated. The data set marks objects as occluded without
        a degree; its evaluation takes them as half visible, which is heavy occlusion. Ignore areas have ``ignore`` set,
        and so have objects with COCO's ``iscrowd``.

    Raises:
        InputError: the file cannot be read, or an entry is malformed; names the entry, counted from 1.
    """
    content = read_json(path, _Content, "NightOwls", LIMIT_BYTES)
    _check_categories(f"{path}: categories", content.categories)
    images: dict[int, AnnotatedImage] = {}
    file_names = set()
    for count, entry in enumerate(content.images, start=1):
        for name, value, others in (("id", entry.id, images), ("file_name", entry.file_name, file_names)):
            if value in others:
                raise InputError(f"{path}: images, entry {count}: {name} {value} is there twice; keep one of them")
        if not entry.file_name.strip():
            raise InputError(f"{path}: images, entry {count}: has no file_name")
        file_names.add(entry.file_name)
        images[entry.id] = AnnotatedImage(entry.id, entry.file_name, entry.width, entry.height, entry.daytime, [])
    if not images:
        raise InputError(f"{path}: images: an empty list; expected the images that were annotated")
    for count, entry in enumerate(content.annotations, start=1):
        if entry.image_id not in images:
            raise InputError(f"{path}: annotations, entry {count}: image_id {entry.image_id} is none of the images")
        label = LABELS[entry.category_id]
        ignore = is_ignored(f"{path}: annotations, entry {count}", entry) or label == "ignore"
        annotation = Annotation(label, entry.bbox, HEAVY if entry.occluded else NONE, ignore)
        images[entry.image_id].objects.append(annotation)
    return list(images.values())


def _check_categories(place: str, entries: Sequence[Category]) -> None:
    names = {entry.id: entry.name.lower() for entry in entries}
    if names.get(1) != "pedestrian" or not names.keys() <= LABELS.keys() or len(names) < len(entries):
        listing = ", ".join(f"{entry.id} {entry.name}" for entry in entries)
        raise InputError(
            f"{place}: {listing[:120] or 'none'}; expected NightOwls' own, 1 pedestrian, 2 bicycledriver, "
            "3 motorbikedriver and 4 ignore"
        )
