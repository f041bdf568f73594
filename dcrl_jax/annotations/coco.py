"""Annotations of KAIST's frames in the manner of COCO: one JSON file for all images.

Results files name an image by its place in the split; in such a file ``id`` is that place, counted from 0. What COCO
does not have, ``occlusion`` (0, 1 or 2) and ``ignore`` (0 or 1) of an annotation, may be missing.
"""

import os

from dcrl_jax.annotations.json_lists import fail, is_box, is_whole, load
from dcrl_jax.annotations.kaist import formats, frames
from dcrl_jax.annotations.kaist.truths import Truths
from dcrl_jax.annotations.types import Annotation, Finding
from dcrl_jax.errors import InputError

FORMAT = "COCO"
_LABELS = {"__ignore__": "ignore"}


def read(path: str | os.PathLike[str]) -> Truths:
    """Reads one file.

    Args:
        path: JSON with ``images`` (``id``, and ``im_name`` or ``file_name``, a frame of KAIST), ``annotations``
            (``image_id``, ``category_id``, ``bbox`` [x, y, w, h] in pixels, ``occlusion``, ``ignore``) and
            ``categories`` (``id``, ``name``).

    Returns:
        The annotations of all images in the order of their numbers; ids like ``set06/V000/I00019``. Labels are the
        names of the categories. Boxes of no size are left out and are in the findings, as are unknown labels.

    Raises:
        InputError: the file cannot be read, or an entry is malformed; names the entry, counted from 1.
    """
    lists = load(path, "COCO")
    image_ids = _read_images(f"{path}: images", lists["images"])
    labels = _read_categories(f"{path}: categories", lists["categories"])
    by_id: dict[str, list[Annotation]] = {image_id: [] for image_id in image_ids}
    findings = []
    for count, entry in enumerate(lists["annotations"], start=1):
        place = f"{path}: annotations, entry {count}"
        image_id, annotation = _parse_annotation(place, entry, image_ids, labels)
        if annotation.label not in formats.LABELS:
            findings.append(Finding(formats.UNKNOWN_LABEL, f"{place}: {annotation.label[:40]!r}"))
        if min(annotation.box[2:]) <= 0:
            box = " ".join(f"{value:g}" for value in annotation.box)
            findings.append(Finding(formats.NO_SIZE, f"{place}: {annotation.label[:40]} {box}"))
            continue
        by_id[image_id].append(annotation)
    return Truths(by_id, findings, frozenset({FORMAT} if any(by_id.values()) else ()))


def _read_images(place, entries):
    expected = "id, a whole number, and im_name or file_name, a text"
    names: dict[int, str] = {}
    entry_of: dict[str, int] = {}
    for count, entry in enumerate(entries, start=1):
        here = f"{place}, entry {count}"
        number, name, other_name = _fields(here, entry, expected, "id", "im_name", "file_name")
        name = other_name if name is None else name
        if not (is_whole(number) and isinstance(name, str)):
            fail(here, entry, expected)
        if not 0 <= number < len(entries) or number in names:
            what = "is there twice" if number in names else f"of {len(entries):,} images"
            raise InputError(
                f"{here}: id {number} {what}; results files count images by it, so ids must be 0 to "
                f"{len(entries) - 1}, in the order of the image list"
            )
        image_id = frames.parse_name(name)
        if image_id is None:
            raise InputError(
                f"{here}: {name[:80]!r} is no frame of KAIST; expected a name like set06/V000/I00019 or "
                "set06_V000_I00019.png"
            )
        if image_id in entry_of:
            raise InputError(f"{here}: {image_id} is entry {entry_of[image_id]} already; keep one of them")
        names[number], entry_of[image_id] = image_id, count
    if not names:
        raise InputError(f"{place}: an empty list; expected the images that were annotated")
    return [names[number] for number in range(len(names))]


def _read_categories(place, entries):
    expected = "id, a whole number that no other category has, and name, a text"
    labels: dict[int, str] = {}
    for count, entry in enumerate(entries, start=1):
        here = f"{place}, entry {count}"
        number, name = _fields(here, entry, expected, "id", "name")
        if not (is_whole(number) and isinstance(name, str)) or number in labels:
            fail(here, entry, expected)
        labels[number] = "person?" if name.startswith("person?") else _LABELS.get(name, name)
    return labels


def _parse_annotation(place, entry, image_ids, labels):
    expected = "image_id, category_id and bbox [x, y, width, height], numbers of pixels"
    image, category, box = _fields(place, entry, expected, "image_id", "category_id", "bbox")
    if not (is_whole(image) and is_whole(category) and is_box(box)):
        fail(place, entry, expected)
    if not 0 <= image < len(image_ids):
        raise InputError(f"{place}: image_id {image} is none of the images; expected 0 to {len(image_ids) - 1}")
    if category not in labels:
        raise InputError(f"{place}: category_id {category} is none of the categories; expected one of {sorted(labels)}")
    occlusion, ignore = entry.get("occlusion", 0), entry.get("ignore", 0)
    if occlusion not in (0, 1, 2) or ignore not in (0, 1):
        raise InputError(
            f"{place}: occlusion {occlusion!r} and ignore {ignore!r}; expected 0, 1 or 2, and 0 or 1, or neither"
        )
    return image_ids[image], Annotation(labels[category], tuple(map(float, box)), int(occlusion), bool(ignore))


def _fields(place, entry, expected, *names):
    if not isinstance(entry, dict):
        fail(place, entry, expected)
    return [entry.get(name) for name in names]
