"""What files of COCO's kind have in common: lists of objects in JSON, and what is said of a malformed entry."""

import json
import os
from typing import Any, NoReturn

from dcrl_jax.annotations.text import LIMIT_BYTES, read_text
from dcrl_jax.errors import InputError

NAMES = ("images", "annotations", "categories")
# Pixels; as in text files: no image is as large.
_LARGEST = 1e6


def load(path: str | os.PathLike[str], kind: str, limit_bytes: int = LIMIT_BYTES) -> dict[str, Any]:
    """Returns the object of a file, which has the lists ``NAMES``.

    Args:
        path: the file.
        kind: of annotations that are expected, for messages.
        limit_bytes: larger files are refused unread.

    Raises:
        InputError: it cannot be read, or is not such a file.
    """
    try:
        content = json.loads(read_text(path, limit_bytes))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}:{error.lineno}: not valid JSON, as {kind} annotations are, or cut off: {error.msg}"
        ) from error
    except RecursionError as error:
        raise InputError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in NAMES):
        raise InputError(f"{path}: expected {kind} annotations, an object with the lists {', '.join(NAMES)}")
    return content


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number; JSON's true and false are ints to Python."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_box(value: Any) -> bool:
    """Whether a value is a list of four finite numbers of pixels."""
    return isinstance(value, list) and len(value) == 4 and all(map(_is_coordinate, value))


def _is_coordinate(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def fail(place: str, entry: Any, expected: str) -> NoReturn:
    """Raises InputError: which entry it is, the beginning of it, and what was expected."""
    raise InputError(f"{place} is {str(entry)[:120]}; expected {expected}")
