"""CVC-14's text: one person per line, ``x y w h mandatory 0 0 0 0 id 0``, eleven whole numbers, in pixels.

x and y are the centre of the box. ``mandatory`` is 1, or 0 for a person that need not be found. ``id`` is the same for
a person in the visible and the thermal image. The file of an image without people is empty.
"""

import re

from dcrl_jax.annotations.labels import PERSON
from dcrl_jax.annotations.text import number, numbered_lines
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.errors import InputError

# Some files have two spaces between the numbers.
_LINE = re.compile(r"\s*[+-]?\d{1,7}(\s+[+-]?\d{1,7}){10}\s*", re.ASCII)


def is_line(line: str) -> bool:
    """Return whether a line is of this format.

    YOLO's polygons of five points also have eleven numbers; their coordinates are at most 1.
    """
    return _LINE.fullmatch(line) is not None and any(int(field) > 1 for field in line.split()[:4])


def parse(text: str) -> list[Annotation]:
    """Parse one file.

    Raises:
        InputError: a malformed line; names its number, counted from 1.
    """
    annotations = []
    for count, line in numbered_lines(text):
        try:
            if not _LINE.fullmatch(line):
                raise ValueError(line)
            x, y, w, h, mandatory, *_ = map(number, line.split())
        except ValueError as error:
            raise InputError(
                f"line {count}: {line.strip()[:80]!r} is not CVC-14's eleven whole numbers x y w h 1 0 0 0 0 id 0"
            ) from error
        if mandatory not in (0, 1):
            raise InputError(f"line {count}: the fifth number, mandatory, is {mandatory:g}; expected 0 or 1")
        annotations.append(Annotation(PERSON, (x - w / 2, y - h / 2, w, h), ignore=not mandatory))
    return annotations
