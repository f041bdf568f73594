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

from dcrl_jax.annotations.json_files import Box, Flags, Name, is_ignored, read_json
from dcrl_jax.annotations.label_files import Labels, drop_unusable
from dcrl_jax.annotations.text import pixels, read_bytes
from dcrl_jax.annotations.types import HEAVY, NONE, PARTIAL, Annotation, Finding, box_text
from dcrl_jax.errors import InputError, first_few

COCO = "COCO"
ID_TWICE = "annotation id twice"
OTHER_OCCLUSION = "occlusion other than 0, 1 or 2, taken as none"

# Polygons of 100,000 images take hundreds of megabytes.
_LIMIT_BYTES = 2**30
_LISTS_BEGIN = re.compile(rb'"(images|annotations)"\s*:\s*\[\s*\{')
_CATEGORIES_SHOWN = 20

Id = int | float | Name


class CocoImage(NamedTuple):
    """One image of a file and its labels."""

    file_name: str  # with / between folders; composed letters (NFC)
    size: tuple[int, int] | None  # width and height in pixels as the file says; None if it does not
    labels: Labels  # labels are the names of the categories; a crowd is ignored
    id: Id  # by which results name the image


class _Image(msgspec.Struct):
    id: Id
    file_name: Name | None = None
    im_name: Name | None = None  # in KAIST's files and those made like them
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
    name: Name


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
    sizes = [_size(f"{path}: images, entry {count}", entry) for count, entry in enumerate(content.images, start=1)]
    categories = _category_names(f"{path}: categories", content.categories)
    annotations: dict[Id, list[Annotation]] = {entry.id: [] for entry in content.images}
    findings: dict[Id, list[Finding]] = {entry.id: [] for entry in content.images}
    ids = set()
    for count, entry in enumerate(content.annotations, start=1):
        place = f"{path}: annotations, entry {count}"
        if entry.image_id not in annotations:
            raise InputError(f"{place}: image_id {_short(entry.image_id)} is none of the images")
        if entry.category_id not in categories:
            texts = [f"{str(number)[:40]} {name[:40]}" for number, name in categories.items()]
            known = ", ".join(first_few(texts, _CATEGORIES_SHOWN))
            raise InputError(f"{place}: category_id {_short(entry.category_id)} is none of the categories, {known}")
        annotation, notes = _annotation(place, entry, categories[entry.category_id])
        annotations[entry.image_id].append(annotation)
        if entry.id is not None and entry.id in ids:
            notes.append(Finding(ID_TWICE, f"{place}: {box_text(annotation)}: id {entry.id}, of another one too"))
        ids.add(entry.id)
        findings[entry.image_id] += notes
    images = []
    for entry, name, size in zip(content.images, names, sizes, strict=True):
        kept, notes = drop_unusable(annotations[entry.id], findings[entry.id], f"{path}: {name}")
        images.append(CocoImage(name, size, Labels(kept, notes, COCO), entry.id))
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
        shares = (entry.occluded, entry.truncated, attributes.occluded, attributes.truncated)
        numbers = [share for share in shares if isinstance(share, int | float)]  # others are texts
        # A level above 1 is of an unknown scale.
        occlusion = next((f"{share:g} of 1" for share in numbers if not 0 <= share <= 1), int(any(numbers)))
    if isinstance(occlusion, int | float) and not isinstance(occlusion, bool) and occlusion in (NONE, PARTIAL, HEAVY):
        return Annotation(label, entry.bbox, int(occlusion), ignore), []
    annotation = Annotation(label, entry.bbox, NONE, ignore)
    return annotation, [Finding(OTHER_OCCLUSION, f"{place}: {box_text(annotation)}: {str(occlusion)[:40]}")]


def _image_names(place: str, entries: list[_Image]) -> list[str]:
    """Return the file names of the entries, whose ids and names differ."""
    entry_of_id: dict[Id, int] = {}
    entry_of_name: dict[str, int] = {}
    for count, entry in enumerate(entries, start=1):
        name = unicodedata.normalize("NFC", entry.file_name or entry.im_name or "").replace("\\", "/")
        if not name.strip():
            raise InputError(f"{place}, entry {count}: has no file_name")
        if entry.id in entry_of_id:
            other = entry_of_id[entry.id]
            raise InputError(f"{place}, entry {count}: id {_short(entry.id)} is entry {other}'s; keep one")
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
            raise InputError(f"{place}, entry {count}: id {_short(entry.id)} is there twice; keep one of them")
        if not entry.name.strip():
            raise InputError(f"{place}, entry {count}: has no name")
        names[entry.id] = entry.name.strip()
    return names


def _short(number: Id | None) -> str:
    return repr(number)[:40]


def _size(place: str, entry: _Image) -> tuple[int, int] | None:
    """Return the width and height of an image; None if one is missing or, as some tools write, 0."""
    sides = []
    for name, value in (("width", entry.width), ("height", entry.height)):
        try:
            sides.append(pixels(str(value or 0)))
        except ValueError as error:
            raise InputError(f"{place}, {name}: {_short(value)}; expected a whole number of pixels") from error
    return (sides[0], sides[1]) if all(sides) else None
