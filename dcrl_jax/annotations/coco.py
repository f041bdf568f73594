"""KAIST annotations in COCO form: one JSON file for all images.

The ``id`` of an image is its index in the split, counted from 0; results files name the image by it. ``iscrowd`` is
COCO's own mark of a region that need not be found. ``ignore``, which means the same, and ``occlusion`` (0, 1 or 2) are
additions to the format. An annotation may lack all three, or have them in ``attributes``.
"""

import os
from collections.abc import Sequence
from typing import Literal

import msgspec

from dcrl_jax.annotations.json_files import Box, Category, Flags, Name, is_ignored, read_json
from dcrl_jax.annotations.kaist import formats, frames
from dcrl_jax.annotations.kaist.truths import Truths
from dcrl_jax.annotations.types import NO_SIZE, REPEATED, Annotation, Finding, box_text
from dcrl_jax.errors import InputError

FORMAT = "COCO"
OTHER_SIZE = f"image of another size than {frames.WIDTH_PX}x{frames.HEIGHT_PX}, to which boxes belong"
ID_TWICE = "annotation id twice"


class _Image(msgspec.Struct):
    id: int
    im_name: Name | None = None
    file_name: Name | None = None
    width: float | str | None = None
    height: float | str | None = None


class _Attributes(Flags):
    occlusion: Literal[0, 1, 2] | None = None


class _Object(_Attributes, kw_only=True):
    image_id: int
    category_id: int
    bbox: Box
    id: int | float | str | None = None
    attributes: _Attributes | list[object] | str | None = None  # only an object has fields


class _Content(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Object]
    categories: list[Category]


def read(path: str | os.PathLike[str]) -> Truths:
    """Read one file.

    Args:
        path: JSON with ``images`` (``id``, and ``im_name`` or ``file_name``, a frame of KAIST), ``annotations``
            (``image_id``, ``category_id``, ``bbox`` [x, y, w, h] in pixels, ``occlusion``, ``iscrowd``, ``ignore``) and
            ``categories`` (``id``, ``name``).

    Returns:
        The annotations of all images in the order of their ids, by image id such as ``set06/V000/I00019``. A label is
        the name of a category; an ignored region of a category that the benchmark does not know is ``ignore``. Boxes of
        no size are left out, and equal annotations of an image count once; findings list them, annotation ids that are
        there twice, unknown labels and images of another size than KAIST's.

    Raises:
        InputError: the file cannot be read, or an entry is malformed; names the entry, counted from 1.
    """
    content = read_json(path, _Content, "COCO")
    image_ids = _image_ids(f"{path}: images", content.images)
    labels = _category_labels(f"{path}: categories", content.categories)
    by_id: dict[str, dict[Annotation, None]] = {image_id: {} for image_id in image_ids}
    findings = _other_sizes(f"{path}: images", content.images)
    ids = set()
    for count, entry in enumerate(content.annotations, start=1):
        place = f"{path}: annotations, entry {count}"
        if not 0 <= entry.image_id < len(image_ids):
            raise InputError(
                f"{place}: image_id {entry.image_id} is none of the images; expected 0 to {len(image_ids) - 1}"
            )
        if entry.category_id not in labels:
            raise InputError(
                f"{place}: category_id {entry.category_id} is none of the categories; expected one of {sorted(labels)}"
            )
        annotation = _annotation(place, entry, labels[entry.category_id])
        text = f"{place}: {box_text(annotation)}"
        objects = by_id[image_ids[entry.image_id]]
        if annotation.label not in formats.LABELS:
            findings.append(Finding(formats.UNKNOWN_LABEL, f"{place}: {annotation.label[:40]!r}"))
        if min(annotation.box[2:]) <= 0:
            findings.append(Finding(NO_SIZE, text))
        elif annotation in objects:
            findings.append(Finding(REPEATED, text))
        else:
            objects[annotation] = None
            if entry.id in ids:
                findings.append(Finding(ID_TWICE, f"{text}: id {entry.id}, of another one too"))
        ids |= {entry.id} - {None}
    kinds = frozenset({FORMAT} if any(by_id.values()) else ())
    return Truths({image_id: list(objects) for image_id, objects in by_id.items()}, findings, kinds)


def _annotation(place: str, entry: _Object, label: str) -> Annotation:
    attributes = entry.attributes if isinstance(entry.attributes, _Attributes) else _Attributes()
    ignore = is_ignored(place, entry) | is_ignored(f"{place}, attributes", attributes)
    if ignore and label not in formats.LABELS:
        label = "ignore"
    occlusion = attributes.occlusion if entry.occlusion is None else entry.occlusion
    return Annotation(label, entry.bbox, occlusion or 0, ignore)


def _other_sizes(place: str, entries: Sequence[_Image]) -> list[Finding]:
    """Return the images whose size is given and another than KAIST's, whose pixels the benchmark's limits are in."""
    expected = f"{frames.WIDTH_PX} x {frames.HEIGHT_PX}"
    sizes = [
        f"{entry.width} x {entry.height}".replace(".0", "") if entry.width and entry.height else expected
        for entry in entries
    ]
    return [
        Finding(OTHER_SIZE, f"{place}, entry {count}: {size[:40]} pixels")
        for count, size in enumerate(sizes, start=1)
        if size != expected
    ]


def _image_ids(place: str, entries: Sequence[_Image]) -> list[str]:
    """Return the image ids in the order of the entries' ``id``."""
    image_ids: dict[int, str] = {}
    entry_of: dict[str, int] = {}
    for count, entry in enumerate(entries, start=1):
        entry_place = f"{place}, entry {count}"
        name = entry.file_name if entry.im_name is None else entry.im_name
        if name is None:
            raise InputError(f"{entry_place}: has neither im_name nor file_name; expected the name of a frame")
        if not 0 <= entry.id < len(entries) or entry.id in image_ids:
            problem = "is there twice" if entry.id in image_ids else f"of {len(entries):,} images"
            raise InputError(
                f"{entry_place}: id {entry.id} {problem}; results files name an image by its id, so ids must be 0 to "
                f"{len(entries) - 1}, in the order of the image list"
            )
        image_id = frames.spelled_frame(name)
        if image_id is None or not frames.is_known(image_id):
            raise InputError(
                f"{entry_place}: {name[:80]!r} is no frame of KAIST; expected a name like set06/V000/I00019 or "
                "set06_V000_I00019.png"
            )
        if image_id in entry_of:
            raise InputError(f"{entry_place}: {image_id} is entry {entry_of[image_id]} already; keep one of them")
        image_ids[entry.id], entry_of[image_id] = image_id, count
    if not image_ids:
        raise InputError(f"{place}: an empty list; expected the images that were annotated")
    return [image_ids[index] for index in range(len(image_ids))]


def _category_labels(place: str, entries: Sequence[Category]) -> dict[int, str]:
    labels: dict[int, str] = {}
    for count, entry in enumerate(entries, start=1):
        if entry.id in labels:
            raise InputError(f"{place}, entry {count}: id {entry.id} is there twice; keep one of them")
        if not entry.name.strip():
            raise InputError(f"{place}, entry {count}: has no name")
        labels[entry.id] = formats.plain_label(entry.name)
    return labels
