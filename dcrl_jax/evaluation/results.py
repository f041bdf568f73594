"""Files of detections: KAIST's text format and COCO's JSON.

Both name an image by its place in the split's list of images: the text file counts from 1, the JSON file from 0, unless
the data set has numbers of its own. Boxes are x, y, width, height in pixels of the annotated image; the reference's
evaluation reads them as they are, without subtracting 1 from x and y.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.miss_rate import ImageDetections
from dcrl_jax.files import write_atomically

PERSON_CATEGORY = 1
TEXT_COLUMNS = "image,x,y,width,height,score"


def write_kaist_text(
    path: str | os.PathLike, detections: Mapping[str, ImageDetections], image_ids: Sequence[str]
) -> None:
    """Writes one line ``image,x,y,w,h,score`` a detection, by image and falling score.

    Numbers are written so that reading gives them back exactly. The file appears complete or not at all.

    Args:
        path: the file; its folder is made.
        detections: by image id.
        image_ids: the split's images in order; the first is image 1.

    Raises:
        InputError: detections of an image that is not in the list, or that are not finite, or of negative size.
    """
    lines = (
        ",".join([str(number + 1), *map(repr, box), repr(score)]) + "\n"
        for number, box, score in in_order(detections, image_ids)
    )
    write_atomically(Path(path), "".join(lines))


def write_coco_json(
    path: str | os.PathLike,
    detections: Mapping[str, ImageDetections],
    image_ids: Sequence[str],
    numbers: Sequence[int] | None = None,
) -> None:
    """Writes a COCO results list, one entry a line; as ``write_kaist_text``, but the first image is image 0.

    ``numbers``, one for each image, take the place of 0, 1, 2 where a data set has its own.
    """
    numbers = range(len(image_ids)) if numbers is None else numbers
    entries = (
        json.dumps({"image_id": numbers[place], "category_id": PERSON_CATEGORY, "bbox": box, "score": score})
        for place, box, score in in_order(detections, image_ids)
    )
    write_atomically(Path(path), "[\n" + ",\n".join(entries) + "\n]\n")


def read_results(
    path: str | os.PathLike, image_ids: Sequence[str], numbers: Sequence[int] | None = None
) -> dict[str, ImageDetections]:
    """Reads a results file of either format, told apart by its content.

    Args:
        path: the file. An empty file holds no detections.
        image_ids: the split's images in order, as for writing.
        numbers: of the images in JSON files, as for writing.

    Returns:
        detections by image id, in the file's order; images without any are left out.

    Raises:
        InputError: the file cannot be read or is malformed; names the file and the line (or the entry of a JSON list).
    """
    path = Path(path)
    text = read_file(path, f"lines of {TEXT_COLUMNS} or COCO JSON")
    is_json = text.lstrip()[:1] in ("[", "{")
    if is_json and numbers is not None:
        named = dict(zip(numbers, image_ids, strict=True))
        expected = f"the id of one of the {len(image_ids)} annotated images"
    else:
        first = 0 if is_json else 1
        named = dict(enumerate(image_ids, start=first))
        expected = f"{first}..{first + len(image_ids) - 1}, since the split has {len(image_ids)} images"
    by_image: dict[str, list[list[float]]] = {}
    for place, number, values in _parse_json(text, path) if is_json else parse_text(text, path):
        if number not in named:
            raise InputError(f"{place}: image {number}; expected {expected}")
        by_image.setdefault(named[number], []).append(values)
    return {image_id: to_detections(rows) for image_id, rows in by_image.items()}


def read_file(path: Path, expected: str) -> str:
    """The text of a results file; raises InputError, with what was expected, where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file (byte {error.start}); expected {expected}") from error


def to_detections(rows: Sequence[Sequence[float]]) -> ImageDetections:
    """The detections of an image from its rows of x, y, width, height, score."""
    table = np.asarray(rows, np.float64)
    return ImageDetections(boxes=table[:, :4], scores=table[:, 4])


def parse_text(text: str, path: Path, columns: str = TEXT_COLUMNS) -> Iterable[tuple[str, int, list[float]]]:
    """The rows of a text file: the place for messages, the whole number that comes first, and x, y, w, h, score.

    Raises:
        InputError: a row is malformed, not finite or of negative size.
    """
    # Only line feeds end a line, so that numbers agree with those of an editor.
    for line_number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{line_number}"
        fields = line.split(",")
        if len(fields) != 6:
            raise InputError(f"{place}: {len(fields)} values in {line[:80]!r}; expected 6: {columns}")
        # Python would read 1_0 as ten, and digits of other scripts.
        if "_" in line or not line.isascii():
            raise InputError(f"{place}: {line[:80]!r} is not a line of numbers; expected {columns}")
        try:
            number, *values = map(float, fields)
        except ValueError as error:
            raise InputError(f"{place}: {line[:80]!r} is not a line of numbers; expected {columns}") from error
        if not number.is_integer():
            name = columns.partition(",")[0]
            raise InputError(f"{place}: {name} {fields[0].strip()!r}; expected a whole number, 1 for the first {name}")
        yield place, int(number), _checked(place, values)


def _parse_json(text: str, path: Path) -> Iterable[tuple[str, int, list[float]]]:
    try:
        entries = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from error
    except (RecursionError, ValueError) as error:
        raise InputError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(entries, list):
        raise InputError(
            f"{path}:1: a JSON object; expected COCO results, a list of entries with image_id, bbox, score"
        )
    for count, entry in enumerate(entries, start=1):
        place = f"{path}: entry {count}"
        if not isinstance(entry, dict):
            _fail_entry(place, entry)
        number, box, score = entry.get("image_id"), entry.get("bbox"), entry.get("score")
        if not (_is_number(number) and isinstance(box, list) and len(box) == 4 and all(map(_is_number, [*box, score]))):
            _fail_entry(place, entry)
        if number != int(number):
            _fail_entry(place, entry)
        category = entry.get("category_id", PERSON_CATEGORY)
        if category != PERSON_CATEGORY:
            raise InputError(f"{place}: category_id {category!r}; expected {PERSON_CATEGORY}, pedestrians only")
        yield place, int(number), _checked(place, [float(value) for value in [*box, score]])


def _checked(place: str, values: list[float]) -> list[float]:
    if not all(map(math.isfinite, values)):
        raise InputError(f"{place}: x, y, width, height, score are {values}; expected finite numbers")
    if values[2] < 0 or values[3] < 0:
        raise InputError(f"{place}: box {values[:4]} has a negative size; expected x,y,width,height")
    return values


def _is_number(value: object) -> bool:
    # JSON's true and false are ints to Python, and its integers can be too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _fail_entry(place: str, entry: object) -> NoReturn:
    raise InputError(
        f"{place} is {str(entry)[:120]}; expected finite numbers in image_id (whole, 0 for the first image), "
        "bbox [x, y, width, height] and score"
    )


def in_order(
    detections: Mapping[str, ImageDetections], image_ids: Sequence[str]
) -> list[tuple[int, list[float], float]]:
    """Place of the image, box and score of every detection, checked, as plain Python numbers."""
    places = {image_id: place for place, image_id in enumerate(image_ids)}
    unknown = [image_id for image_id in detections if image_id not in places]
    if unknown:
        raise InputError(f"detections of {len(unknown)} images that are not in the split, first {unknown[0]!r}")
    rows = []
    for image_id in sorted(detections, key=places.__getitem__):
        boxes = np.asarray(detections[image_id].boxes, np.float64).reshape(-1, 4)
        scores = np.asarray(detections[image_id].scores, np.float64).reshape(-1)
        if len(boxes) != scores.size:
            raise InputError(f"image {image_id!r}: {len(boxes)} detected boxes but {scores.size} scores")
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()) or (boxes[:, 2:] < 0).any():
            raise InputError(f"image {image_id!r}: a detection is not finite or has a negative size; was padding kept?")
        order = np.argsort(-scores, kind="stable")
        rows += [
            (places[image_id], box, score)
            for box, score in zip(boxes[order].tolist(), scores[order].tolist(), strict=True)
        ]
    return rows
