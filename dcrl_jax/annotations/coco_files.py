"""COCO's JSON of any data set: one file for many images.

``images`` have ``id``, ``file_name`` and mostly ``width`` and ``height``; ``annotations`` have ``image_id``,
``category_id`` and ``bbox`` [x, y, w, h] in pixels; ``categories`` have ``id`` and ``name``. Ids are any numbers or
texts. ``iscrowd`` or ``ignore`` mark a region that need not be found. ``occlusion`` is 0, 1 or 2, as in KAIST; without
it, an object that is ``occluded`` or ``truncated``, at all or by a share, is partly occluded. These fields may be in
``attributes``.
"""

import codecs
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

import msgspec

from dcrl_jax.annotations.json_files import Box, Flags, is_ignored, read_json
from dcrl_jax.annotations.label_files import Labels, drop_unusable
from dcrl_jax.annotations.text import read_bytes
from dcrl_jax.annotations.types import NONE, PARTIAL, Annotation, Finding, box_text
from dcrl_jax.errors import InputError, first_few

COCO = "COCO"
ID_TWICE = "annotation id twice"
OTHER_OCCLUSION = "occlusion other than 0, 1 or 2, taken as none"

# Polygons of 100,000 images take hundreds of megabytes.
_LIMIT_BYTES = 2**30
_LISTS_BEGIN = re.compile(rb'"(images|annotations)"\s*:\s*\[\s*\{')
_CATEGORIES_SHOWN = 20

Id = int | float | str


class CocoImage(NamedTuple):
    """One image of a file and its labels."""

    file_name: str  # with / between folders; composed letters (NFC)
    size: tuple[int, int] | None  # width and height in pixels as the file says; None if it does not
    labels: Labels  # labels are the names of the categories; a crowd is ignored
    id: Id  # by which results name the image


class _Image(msgspec.Struct):
    id: Id
    file_name: str | None = None
    im_name: str | None = None  # in KAIST's files and those made like them
    width: Id | None = None
    height: Id | None = None


class _Attributes(Flags):
    occlusion: object = None
    occluded: object = None
    truncated: object = None


class _Object(_Attributes, kw_only=True):
    image_id: Id
    category_id: Id
    bbox: Box | None = None
    segmentation: msgspec.Raw = msgspec.Raw(b"null")
    id: Id | None = None
    attributes: _Attributes | list[object] | str | None = None  # only an object has fields


class _Category(msgspec.Struct):
    id: Id
    name: str


class _Content(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Object]
    categories: list[_Category]


class _Categories(msgspec.Struct):
    categories: list[_Category]


class _Lists(msgspec.Struct):
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]


def is_coco(path: Path) -> bool:
    """Return whether a file is JSON with COCO's lists of images and annotations.

    A file that is cut off or malformed counts if it has the beginning of a list; ``read`` then says what is wrong.

    Raises:
        InputError: the file cannot be read.
    """
    content = read_bytes(path, _LIMIT_BYTES)
    try:
        msgspec.json.decode(content.removeprefix(codecs.BOM_UTF8), type=_Lists)
    except msgspec.ValidationError:
        return False
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _LISTS_BEGIN.search(content) is not None
    return True


def read(path: Path) -> list[CocoImage]:
    """Read one file.

    Boxes of no size are left out, and equal annotations of an image count once; findings list both, annotation ids
    that are there twice, and other values of ``occlusion``. Boxes may leave the image.

    Returns:
        The images in the order of the file.

    Raises:
        InputError: the file cannot be read, or an entry is malformed; names the entry, counted from 1.
    """
    content = read_json(path, _Content, COCO, _LIMIT_BYTES)
    names = _image_names(f"{path}: images", content.images)
    categories = _category_names(f"{path}: categories", content.categories)
    annotations: dict[Id, list[Annotation]] = {entry.id: [] for entry in content.images}
    findings: dict[Id, list[Finding]] = {entry.id: [] for entry in content.images}
    ids = set()
    for count, entry in enumerate(content.annotations, start=1):
        place = f"{path}: annotations, entry {count}"
        if entry.image_id not in annotations:
            raise InputError(f"{place}: image_id {entry.image_id!r} is none of the images")
        if entry.category_id not in categories:
            known = ", ".join(first_few([f"{number} {name}" for number, name in categories.items()], _CATEGORIES_SHOWN))
            raise InputError(f"{place}: category_id {entry.category_id!r} is none of the categories, {known}")
        annotation, notes = _annotation(place, entry, categories[entry.category_id])
        annotations[entry.image_id].append(annotation)
        if entry.id is not None and entry.id in ids:
            notes.append(Finding(ID_TWICE, f"{place}: {box_text(annotation)}: id {entry.id}, of another one too"))
        ids.add(entry.id)
        findings[entry.image_id] += notes
    images = []
    for entry, name in zip(content.images, names, strict=True):
        kept, notes = drop_unusable(annotations[entry.id], findings[entry.id], f"{path}: {name}")
        images.append(CocoImage(name, _size(entry), Labels(kept, notes, COCO), entry.id))
    return images


def read_categories(path: Path) -> dict[Id, str]:
    """Return the names of a file's categories by their id, in the order of the file.

    Raises:
        InputError: as ``read``.
    """
    content = read_json(path, _Categories, COCO, _LIMIT_BYTES)
    return _category_names(f"{path}: categories", content.categories)


def _annotation(place: str, entry: _Object, label: str) -> tuple[Annotation, list[Finding]]:
    if entry.bbox is None:
        has_outline = bytes(entry.segmentation) not in (b"null", b"[]")
        raise InputError(f"{place}: has {'a segmentation but ' if has_outline else ''}no bbox; expected [x, y, w, h]")
    attributes = entry.attributes if isinstance(entry.attributes, _Attributes) else _Attributes()
    ignore = is_ignored(place, entry) | is_ignored(f"{place}, attributes", attributes)
    occlusion = attributes.occlusion if entry.occlusion is None else entry.occlusion
    if occlusion is None:
        is_partial = any(
            _is_marked(value) for value in (entry.occluded, entry.truncated, attributes.occluded, attributes.truncated)
        )
        return Annotation(label, entry.bbox, PARTIAL if is_partial else NONE, ignore), []
    if isinstance(occlusion, int | float) and occlusion in (0, 1, 2):
        return Annotation(label, entry.bbox, int(occlusion), ignore), []
    annotation = Annotation(label, entry.bbox, NONE, ignore)
    return annotation, [Finding(OTHER_OCCLUSION, f"{place}: {box_text(annotation)}: {str(occlusion)[:40]}")]


def _is_marked(value: object) -> bool:
    """Return whether a flag is set, or a share is above 0."""
    return isinstance(value, int | float) and 0 < value <= 1


def _image_names(place: str, entries: list[_Image]) -> list[str]:
    """Return the file names of the entries, whose ids and names differ."""
    entry_of_id: dict[Id, int] = {}
    entry_of_name: dict[str, int] = {}
    for count, entry in enumerate(entries, start=1):
        name = unicodedata.normalize("NFC", entry.file_name or entry.im_name or "").replace("\\", "/")
        if not name:
            raise InputError(f"{place}, entry {count}: has no file_name")
        if entry.id in entry_of_id:
            raise InputError(f"{place}, entry {count}: id {entry.id!r} is entry {entry_of_id[entry.id]}'s; keep one")
        if name in entry_of_name:
            raise InputError(f"{place}, entry {count}: {name[:200]!r} is entry {entry_of_name[name]} already; keep one")
        entry_of_id[entry.id] = entry_of_name[name] = count
    if not entries:
        raise InputError(f"{place}: an empty list; expected the images that were annotated")
    return list(entry_of_name)


def _category_names(place: str, entries: list[_Category]) -> dict[Id, str]:
    names: dict[Id, str] = {}
    for count, entry in enumerate(entries, start=1):
        if entry.id in names:
            raise InputError(f"{place}, entry {count}: id {entry.id!r} is there twice; keep one of them")
        if not entry.name.strip():
            raise InputError(f"{place}, entry {count}: has no name")
        names[entry.id] = entry.name.strip()
    return names


def _size(entry: _Image) -> tuple[int, int] | None:
    """Return the width and height of an image; None if they are missing or, as some tools write, 0."""
    try:
        width, height = int(entry.width or 0), int(entry.height or 0)
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None
