"""Decoding of JSON annotation files into typed structs, with messages that name the field."""

import codecs
import itertools
import json
import os
import re
from collections import Counter
from typing import Annotated, TypeVar

import msgspec

from dcrl_jax.annotations.text import CONTROL_CHARACTERS, LIMIT_BYTES, read_bytes
from dcrl_jax.errors import InputError

# Pixels. No image is as large as the limits, which the text formats have, too.
Coordinate = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
Box = tuple[Coordinate, Coordinate, Coordinate, Coordinate]  # x, y, w, h
# Of a file or a class: one line.
Name = Annotated[str, msgspec.Meta(pattern=rf"\A[^\t\n{CONTROL_CHARACTERS}]*\Z")]

# A yes or no; writers put true, 1, 1.0 or null. ``is_ignored`` refuses other numbers.
Flag = bool | float | None

Content = TypeVar("Content")

_OBJECT_END = re.compile(rb'"(?:[^"\\]|\\.)*"|}')
_SHOWN = 200  # characters of a decoder's message, which may repeat a value of any length


class Category(msgspec.Struct):
    """A class of objects in a file of COCO's form."""

    id: int
    name: Name


class Flags(msgspec.Struct):
    """The fields by which COCO files mark a region that need not be found."""

    iscrowd: Flag = None
    ignore: Flag = None


def is_ignored(place: str, entry: Flags) -> bool:
    """Return whether an annotation is marked as ignored: by ``iscrowd``, COCO's own field, or by ``ignore``.

    Raises:
        InputError: a flag is a number other than 0 and 1; names the field after ``place``.
    """
    for name, value in (("iscrowd", entry.iscrowd), ("ignore", entry.ignore)):
        if value not in (None, 0, 1):
            raise InputError(f"{place}, {name}: {value:g}; expected 0 or 1")
    return bool(entry.iscrowd or entry.ignore)


def read_json(
    path: str | os.PathLike[str], content_type: type[Content], kind: str, limit_bytes: int = LIMIT_BYTES
) -> Content:
    """Return the decoded content of one file; unknown fields are skipped.

    Args:
        path: the file.
        content_type: the ``msgspec.Struct`` to decode.
        kind: name of the expected format, for messages.
        limit_bytes: a larger file is refused.

    Raises:
        InputError: the file cannot be read, is no JSON, or a field is missing or has another type; names the field, and
            the entry of a list counted from 1.
    """
    content = read_bytes(path, limit_bytes).removeprefix(codecs.BOM_UTF8)
    try:
        return decode(content, content_type)
    except msgspec.ValidationError as error:
        raise InputError(f"{path}: {_explain(str(error))}; expected {kind} annotations") from error
    except msgspec.DecodeError as error:
        line = content.count(b"\n", 0, byte_of(error)) + 1
        raise InputError(f"{path}:{line}: not valid JSON, as {kind} annotations are, or cut off: {error}") from error


def decode(content: bytes, content_type: type[Content]) -> Content:
    """Decode JSON as msgspec does, and refuse what it passes over.

    It takes the last value of a key that an object has twice, and ignores bytes that are not UTF-8 in unknown fields.

    Raises:
        msgspec.ValidationError: a field is missing or has another type.
        msgspec.DecodeError: the content is no JSON, or has one of these faults; see ``byte_of``.
    """
    ends = 0

    def check(pairs):
        nonlocal ends
        ends += 1
        if len({key for key, _ in pairs}) < len(pairs):
            ((key, count),) = Counter(key for key, _ in pairs).most_common(1)
            bytes_of_ends = (match.start() for match in _OBJECT_END.finditer(content) if match[0] == b"}")
            byte = next(itertools.islice(bytes_of_ends, ends - 1, None))
            raise msgspec.DecodeError(f"{key[:40]!r} is there {count} times in the object that ends here (byte {byte})")

    try:
        text = content.decode()
        decoded = msgspec.json.decode(content, type=content_type)
        # Integers stay texts, since Python limits their digits.
        json.loads(text, object_pairs_hook=check, parse_int=str)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise msgspec.DecodeError("nested too deeply, beyond the limit of recursion") from error
    return decoded


def byte_of(error: msgspec.DecodeError) -> int | None:
    """Return the byte at which decoding failed; None if the error does not tell."""
    byte = re.search(r"\(byte (\d+)\)", str(error))
    return int(byte[1]) if byte else None


def _explain(message):
    """Turn "Expected `int`, got `str` - at `$.images[1].id`" into "images, entry 2, id: expected `int`, got `str`"."""
    problem, _, place = message.partition(" - at `$.")
    problem = re.sub(" matching regex '.*", " without line breaks and control characters", problem)[:_SHOWN]
    problem = problem[0].lower() + problem[1:]
    location = re.fullmatch(r"(\w+)(?:\[(\d+)\])?\.?(.*)`", place)
    if location is None:
        return problem
    name, index, field = location.groups()
    entry = f"entry {int(index) + 1}" if index else ""
    return f"{', '.join(filter(None, (name, entry, field)))}: {problem}"
