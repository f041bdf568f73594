"""The rows of results files: KAIST's text format and COCO's JSON, before it is known which images they mean."""

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from dcrl_jax.annotations import json_files
from dcrl_jax.annotations.text import read_text
from dcrl_jax.errors import InputError

# Detections of 100,000 images take hundreds of megabytes.
LIMIT_BYTES = 2**30
PERSON_CATEGORY = 1
TEXT_COLUMNS = "image,x,y,width,height,score"

_Number = Annotated[float, msgspec.Meta(gt=-1e300, lt=1e300)]

# The columns of text files: the words of header lines in small letters, without punctuation.
_WORDS = {
    "image": "image imageid imageindex imagename img imgid frame frameid index id name filename file stem label class",
    "x": "x x1 xmin left",
    "y": "y y1 ymin top",
    "width": "w width",
    "height": "h height",
    "right": "x2 xmax right",
    "bottom": "y2 ymax bottom",
    "score": "score scores confidence conf probability prob",
}
_COLUMNS = {word: column for column, words in _WORDS.items() for word in words.split()}
_SIZES = ("image", "x", "y", "width", "height", "score")
_CORNERS = ("image", "x", "y", "right", "bottom", "score")
# Pixels. No image is as large, nor is any annotation.
_LARGEST = 1e6
# Numbers of images; floats hold them exactly.
_LARGEST_IMAGE = 10**15
# Numbers that are not plain, such as 1_0 or digits of other scripts; no names.
_MISSPELT = re.compile(r"[\d_.+-]+")


class _Entry(msgspec.Struct, gc=False):
    """One detection of a COCO results file. A name decides against ``image_id``."""

    bbox: tuple[_Number, _Number, _Number, _Number]  # x, y, width, height in pixels
    score: _Number
    image_id: int | float | str | None = None  # some writers put 7.0 for 7, others the image's name
    category_id: int | float | str | None = None
    file_name: str | None = None
    im_name: str | None = None
    image_name: str | None = None


class Row(NamedTuple):
    """One detection of a results file."""

    place: str  # ``path:line`` or ``path: entry N``, for messages
    image: int | str  # a number or a name
    values: Sequence[float]  # x, y, width, height in pixels, score
    category: int | float | str | None = None  # the category_id of a COCO file; None elsewhere


class _Layout(NamedTuple):
    """Which field of a line is which."""

    order: list[int]  # the fields of the image, the four numbers of the box, and the score
    has_corners: bool  # the box is x1, y1, x2, y2


def read_rows(path: Path, people_only: bool) -> tuple[Iterator[Row], int]:
    """Return the rows of a file, whose content decides on its format, and the number of the first image.

    Args:
        path: the file.
        people_only: whether a COCO file with another category than 1, that of people, is refused.

    Raises:
        InputError: the file cannot be read; or, while iterating, it is malformed, which names the line or the entry.
    """
    text = read_file(path, f"lines of {TEXT_COLUMNS} or COCO JSON")
    if text.lstrip()[:1] in ("[", "{"):
        return _parse_json(text, path, people_only), 0
    return parse_text(text, path), 1


def read_file(path: Path, expected: str, errors: str = "strict") -> str:
    """Return the text of a results file.

    Args:
        path: the file.
        expected: what such a file has, for the message.
        errors: what is done with bytes that are not UTF-8: "strict" refuses them, "surrogateescape" keeps them.

    Raises:
        InputError: the file cannot be read, or is no text file.
    """
    return read_text(path, expected, errors, LIMIT_BYTES)


def parse_text(text: str, path: Path, columns: str = TEXT_COLUMNS) -> Iterator[Row]:
    """Yield the rows of a text file.

    Commas or spaces separate the fields. A first line without numbers names the columns; lines that start with ``#`` or
    ``%`` are comments.

    Args:
        text: the content.
        path: the file, for messages.
        columns: the columns if no line names them.

    Raises:
        InputError: a row is malformed, not finite or has a negative size, or a column's name is unknown.
    """
    layout = _layout(columns.split(","))
    assert layout is not None
    is_first = True
    # Only line feeds end a line, so that line numbers agree with those of an editor.
    for line_number, line in enumerate(text.split("\n"), start=1):
        fields = _fields(line.lstrip("#% \t"))
        if is_first and fields and all(_numbers([field]) is None for field in fields):
            named = _layout(fields)
            if named is None and line.lstrip()[0] not in "#%":
                raise InputError(f"{path}:{line_number}: columns {line.strip()[:80]!r}; expected {columns}")
            layout, columns = (layout, columns) if named is None else (named, ",".join(fields))
            is_first = named is None
            continue
        if not fields or line.lstrip()[0] in "#%":
            continue
        is_first = False
        yield _parse_line(line, fields, layout, columns, f"{path}:{line_number}")


def _parse_line(line: str, fields: Sequence[str], layout: _Layout, columns: str, place: str) -> Row:
    if len(fields) != len(layout.order):
        raise InputError(f"{place}: {len(fields)} values in {line[:80]!r}; expected {len(layout.order)}: {columns}")
    first, *rest = (fields[index] for index in layout.order)
    values, numbers = _numbers(rest), _numbers([first])
    if values is None or (numbers is None and _MISSPELT.fullmatch(first)):
        raise InputError(f"{place}: {line[:80]!r} is not a line of numbers; expected {columns}")
    if layout.has_corners:
        values[2:4] = values[2] - values[0], values[3] - values[1]
    _check_values(place, values, columns)
    if numbers is None:
        return Row(place, first, values)
    if not numbers[0].is_integer() or abs(numbers[0]) > _LARGEST_IMAGE:
        name = columns.split(",")[layout.order[0]]
        raise InputError(f"{place}: {name} {first[:40]!r}; expected a whole number, 1 for the first {name}")
    return Row(place, int(numbers[0]), values)


def _fields(line: str) -> list[str]:
    """Return the fields of a line, separated by commas if it has any, otherwise by spaces or tabs."""
    return [field.strip().strip('"') for field in line.split(",")] if "," in line else line.split()


def _numbers(fields: Sequence[str]) -> list[float] | None:
    """Return the values of fields; None if one is no plain number."""
    # float accepts 1_0 for ten, and digits of other scripts.
    text = "".join(fields)
    if "_" in text or not text.isascii():
        return None
    try:
        return list(map(float, fields))
    except ValueError:
        return None


def _layout(names: Sequence[str]) -> _Layout | None:
    """Return the layout of named columns; None if they are not those of a results file."""
    columns = [_COLUMNS.get(re.sub(r"[\W_]", "", name.lower())) for name in names]
    for wanted in (_SIZES, _CORNERS):
        if len(columns) == len(wanted) and set(columns) == set(wanted):
            return _Layout([columns.index(column) for column in wanted], wanted is _CORNERS)
    return None


def _parse_json(text: str, path: Path, people_only: bool) -> Iterator[Row]:
    """Yield the entries of a COCO results file."""
    expected = "finite numbers in image_id (whole, or a name), bbox [x, y, width, height] and score"
    content = text.encode()
    try:
        entries = json_files.decode(content, list[_Entry])
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
        before = content[: json_files.byte_of(error)]
        line, count = before.count(b"\n") + 1, before.count(b"{")
        raise InputError(f"{path}:{line}: not valid JSON in entry {count}: {error}; expected {expected}") from error
    for count, entry in enumerate(entries, start=1):
        place = f"{path}: entry {count}"
        image = _image_of(entry)
        if image is None:
            raise InputError(f"{place}: image_id {entry.image_id}; expected {expected}")
        if people_only and entry.category_id not in (None, PERSON_CATEGORY):
            category = repr(entry.category_id)[:40]
            raise InputError(f"{place}: category_id {category}; expected {PERSON_CATEGORY}, pedestrians only")
        values = (*entry.bbox, entry.score)
        _check_values(place, values)
        yield Row(place, image, values, entry.category_id)


def _image_of(entry: _Entry) -> int | str | None:
    """Return the name or else the number of an entry's image; None if it has neither."""
    name = entry.file_name or entry.im_name or entry.image_name
    if name is not None or entry.image_id is None:
        return name
    if isinstance(entry.image_id, str):
        return entry.image_id
    is_whole = entry.image_id == int(entry.image_id) and abs(entry.image_id) <= _LARGEST_IMAGE
    return int(entry.image_id) if is_whole else None


def _check_values(place: str, values: Sequence[float], columns: str = "x,y,width,height") -> None:
    if not all(map(math.isfinite, values)):
        raise InputError(f"{place}: x, y, width, height, score are {values}; expected finite numbers")
    if max(map(abs, values[:4])) > _LARGEST:
        raise InputError(f"{place}: box {values[:4]} is larger than any image; expected {columns} in pixels")
    if values[2] < 0 or values[3] < 0:
        raise InputError(f"{place}: box {values[:4]} has a negative size; expected {columns}")
