"""Results files, in KAIST's text format and in COCO's JSON.

Both formats name an image by its index in the split's list of images: the text file counts from 1, the JSON file from
0, unless the data set has its own image numbers. Boxes are x, y, width, height in pixels of the annotated image. The
reference evaluation uses them unchanged; it does not subtract 1 from x and y.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.overlaps import ImageDetections
from dcrl_jax.files import write_atomically

PERSON_CATEGORY = 1
TEXT_COLUMNS = "image,x,y,width,height,score"

_Number = Annotated[float, msgspec.Meta(gt=-1e300, lt=1e300)]


class _Entry(msgspec.Struct, gc=False):
    """One detection of a COCO results file."""

    image_id: int | float  # some writers put 7.0 for 7
    bbox: tuple[_Number, _Number, _Number, _Number]  # x, y, width, height in pixels
    score: _Number
    category_id: object = PERSON_CATEGORY


def write_kaist_text(
    path: str | os.PathLike, detections: Mapping[str, ImageDetections], image_ids: Sequence[str]
) -> None:
    """Write one line ``image,x,y,w,h,score`` per detection, by image and descending score.

    Reading the file returns exactly the same numbers. The file is written completely or not at all.

    Args:
        path: the file; its folder is created if needed.
        detections: detections by image id.
        image_ids: the split's images in order; the first is image 1.

    Raises:
        InputError: an image id is not in the list, or a detection is not finite or has a negative size.
    """
    lines = (
        ",".join([str(index + 1), *map(repr, box), repr(score)]) + "\n"
        for index, box, score in sort_detections(detections, image_ids)
    )
    write_atomically(Path(path), "".join(lines))


def write_coco_json(
    path: str | os.PathLike,
    detections: Mapping[str, ImageDetections],
    image_ids: Sequence[str],
    numbers: Sequence[int] | None = None,
) -> None:
    """Write a COCO results list, one entry per line.

    Arguments and errors as for ``write_kaist_text``, but the first image is image 0. If the data set has its own image
    numbers, ``numbers`` has one per image.
    """
    numbers = range(len(image_ids)) if numbers is None else numbers
    entries = (
        json.dumps({"image_id": numbers[index], "category_id": PERSON_CATEGORY, "bbox": box, "score": score})
        for index, box, score in sort_detections(detections, image_ids)
    )
    write_atomically(Path(path), "[\n" + ",\n".join(entries) + "\n]\n")


def read_results(
    path: str | os.PathLike, image_ids: Sequence[str], numbers: Sequence[int] | None = None
) -> dict[str, ImageDetections]:
    """Read a results file of either format; its content decides which.

    Args:
        path: the file. An empty file holds no detections.
        image_ids: the split's images in order, as for writing.
        numbers: the image numbers in JSON files, as for writing.

    Returns:
        Detections by image id, in the order of the file; images without detections are left out.

    Raises:
        InputError: the file cannot be read or is malformed; the message names the line or the JSON entry.
    """
    path = Path(path)
    text = read_file(path, f"lines of {TEXT_COLUMNS} or COCO JSON")
    is_json = text.lstrip()[:1] in ("[", "{")
    if is_json and numbers is not None:
        id_of = dict(zip(numbers, image_ids, strict=True))
        expected = f"the id of one of the {len(image_ids)} annotated images"
    else:
        first = 0 if is_json else 1
        id_of = dict(enumerate(image_ids, start=first))
        expected = f"{first}..{first + len(image_ids) - 1}, since the split has {len(image_ids)} images"
    by_image: dict[str, list[Sequence[float]]] = {}
    for place, number, values in _parse_json(text, path) if is_json else parse_text(text, path):
        if number not in id_of:
            raise InputError(f"{place}: image {number}; expected {expected}")
        by_image.setdefault(id_of[number], []).append(values)
    return {image_id: to_detections(rows) for image_id, rows in by_image.items()}


def read_file(path: Path, expected: str) -> str:
    """Return the text of a results file.

    Args:
        path: the file.
        expected: what such a file has, for the message.

    Raises:
        InputError: the file cannot be read, or is no text file.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file (byte {error.start}); expected {expected}") from error


def to_detections(rows: Sequence[Sequence[float]]) -> ImageDetections:
    """Return the detections of an image from rows of x, y, width, height, score."""
    table = np.asarray(rows, np.float64)
    return ImageDetections(boxes=table[:, :4], scores=table[:, 4])


def parse_text(text: str, path: Path, columns: str = TEXT_COLUMNS) -> Iterable[tuple[str, int, Sequence[float]]]:
    """Yield the place (``path:line``), the leading whole number and x, y, width, height, score of each row.

    Raises:
        InputError: a row is malformed, not finite or has a negative size.
    """
    # Only line feeds end a line, so that line numbers agree with those of an editor.
    for line_number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{line_number}"
        fields = line.split(",")
        if len(fields) != 6:
            raise InputError(f"{place}: {len(fields)} values in {line[:80]!r}; expected 6: {columns}")
        try:
            # float accepts 1_0 for ten, and digits of other scripts.
            if "_" in line or not line.isascii():
                raise ValueError
            number, *values = map(float, fields)
        except ValueError as error:
            raise InputError(f"{place}: {line[:80]!r} is not a line of numbers; expected {columns}") from error
        if not number.is_integer():
            name = columns.partition(",")[0]
            raise InputError(f"{place}: {name} {fields[0].strip()!r}; expected a whole number, 1 for the first {name}")
        _check_values(place, values)
        yield place, int(number), values


def _parse_json(text: str, path: Path) -> Iterable[tuple[str, int, Sequence[float]]]:
    """Yield the place (``path: entry N``), the image number and x, y, width, height, score of each entry."""
    expected = "finite numbers in image_id (whole), bbox [x, y, width, height] and score"
    try:
        entries = msgspec.json.decode(text, type=list[_Entry])
    except msgspec.ValidationError as error:
        # An example: "Expected `float`, got `null` - at `$[7].bbox[3]`" is about the eighth entry.
        parts = re.fullmatch(r"(.*) - at `\$\[(\d+)\](.*)`", str(error))
        if parts is None:
            raise InputError(
                f"{path}:1: a JSON object; expected COCO results, a list of entries with image_id, bbox, score"
            ) from error
        problem, index, field = parts.groups()
        place = f"{path}: entry {int(index) + 1}{field.replace('.', ', ')}"
        raise InputError(f"{place}: {problem}; expected {expected}") from error
    except msgspec.DecodeError as error:
        content = text.encode()
        position = re.search(r"byte (\d+)", str(error))
        before = content[: int(position[1])] if position else content
        line, count = before.count(b"\n") + 1, before.count(b"{")
        raise InputError(f"{path}:{line}: not valid JSON in entry {count}: {error}; expected {expected}") from error
    for count, entry in enumerate(entries, start=1):
        place = f"{path}: entry {count}"
        if entry.image_id != int(entry.image_id):
            raise InputError(f"{place}: image_id {entry.image_id}; expected {expected}")
        if entry.category_id != PERSON_CATEGORY:
            raise InputError(
                f"{place}: category_id {entry.category_id!r}; expected {PERSON_CATEGORY}, pedestrians only"
            )
        values = (*entry.bbox, entry.score)
        _check_values(place, values)
        yield place, int(entry.image_id), values


def _check_values(place: str, values: Sequence[float]) -> None:
    if not all(map(math.isfinite, values)):
        raise InputError(f"{place}: x, y, width, height, score are {values}; expected finite numbers")
    if values[2] < 0 or values[3] < 0:
        raise InputError(f"{place}: box {values[:4]} has a negative size; expected x,y,width,height")


def sort_detections(
    detections: Mapping[str, ImageDetections], image_ids: Sequence[str]
) -> list[tuple[int, list[float], float]]:
    """Check detections and return (image index, box, score) of each, by image and descending score.

    Boxes, x, y, width, height, and scores are plain Python numbers; arguments and errors as for ``write_kaist_text``.
    """
    index_of = {image_id: index for index, image_id in enumerate(image_ids)}
    unknown = [image_id for image_id in detections if image_id not in index_of]
    if unknown:
        raise InputError(f"detections of {len(unknown)} images that are not in the split, first {unknown[0]!r}")
    rows = []
    for image_id in sorted(detections, key=index_of.__getitem__):
        boxes = np.asarray(detections[image_id].boxes, np.float64).reshape(-1, 4)
        scores = np.asarray(detections[image_id].scores, np.float64).reshape(-1)
        if len(boxes) != scores.size:
            raise InputError(f"image {image_id!r}: {len(boxes)} detected boxes but {scores.size} scores")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()) or (boxes[:, 2:] < 0).any():
            raise InputError(f"image {image_id!r}: a detection is not finite or has a negative size; was padding kept?")
        order = np.argsort(-scores, kind="stable")
        rows += [
            (index_of[image_id], box, score)
            for box, score in zip(boxes[order].tolist(), scores[order].tolist(), strict=True)
        ]
    return rows
