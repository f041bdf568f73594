"""YOLO text: one object per line, ``class x y w h`` or the polygon ``class x1 y1 x2 y2 x3 y3 ...``.

``class`` is a number, all others are relative to the image's width or height. x and y are the centre of the box. A
polygon becomes the box around it; so do the four corners of a rotated box.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from dcrl_jax.annotations.text import number, numbered_lines
from dcrl_jax.annotations.types import NO_SIZE, OUTSIDE, Annotation, Finding
from dcrl_jax.errors import InputError, first_few

BEYOND = "YOLO value beyond 0..1, box kept as it is"

# Labelling tools round to a few decimals, so values may leave 0..1 by this much: 0.064 pixels at 640 pixels.
_ROUNDING = 1e-4
# Boxes of people at the border may leave the image by half of its size; larger values are pixels or something else.
_SMALLEST, _LARGEST = -0.5, 1.5
_KNOWN_SHOWN = 20


class Parsed(NamedTuple):
    """The content of one file."""

    annotations: list[Annotation]  # of the valid lines in their order, boxes in pixels
    findings: list[Finding]  # boxes left out, of no size or outside the image; values beyond the image
    problems: list[str]  # one ``place:line: problem`` for each malformed line


def parse(text: str, size: tuple[int, int], class_names: Sequence[str], place: str) -> Parsed:
    """Parse one file; problems are not raised, so that callers can collect them.

    Args:
        text: content of the file; empty for an image without objects.
        size: width and height of the annotated image in pixels.
        class_names: names by class number.
        place: the file's name, for messages.
    """
    parsed = Parsed([], [], [])
    for count, line in numbered_lines(text):
        try:
            label, values = _parse_line(line, class_names)
        except InputError as error:
            parsed.problems.append(f"{place}:{count}: {error}")
            continue
        x, y, w, h = _corner_and_size(values)
        if w <= 0 or h <= 0:
            kind, detail = NO_SIZE, f"a box of no size, w = {w:g}, h = {h:g}"
        elif x >= 1 or x + w <= 0 or y >= 1 or y + h <= 0:
            kind, detail = OUTSIDE, "a box completely outside the image"
        else:
            kind, detail = BEYOND, _beyond(values)
            box = (x * size[0], y * size[1], w * size[0], h * size[1])
            parsed.annotations.append(Annotation(label, box))
        if detail:
            parsed.findings.append(Finding(kind, f"{place}:{count}: {detail}"))
    return parsed


def _parse_line(line: str, class_names: Sequence[str]) -> tuple[str, list[float]]:
    """Return the class name and the numbers after the class."""
    fields = line.split()
    # Trackers write the confidence and a whole number; a polygon of three points has decimals.
    if len(fields) == 6 or (len(fields) == 7 and fields[6].isdecimal()):
        raise InputError(
            f"{len(fields)} fields instead of the five `class x y w h`; what follows them, such as a confidence or the "
            "number of a track, is no part of labels: remove it"
        )
    if len(fields) < 5 or len(fields) % 2 == 0:
        raise InputError(f"{len(fields)} fields instead of the five `class x y w h`, or `class x1 y1 x2 y2 x3 y3 ...`")
    try:
        if not re.fullmatch(r"[+-]?\d{1,7}", fields[0], re.ASCII):
            raise ValueError(fields[0])
        class_id = int(fields[0])
        values = [number(field) for field in fields[1:]]
    except ValueError as error:
        raise InputError(f"not a whole number and {len(fields) - 1} numbers: {line.strip()[:80]!r}") from error
    if not 0 <= class_id < len(class_names):
        known = first_few([f"{index} {name}" for index, name in enumerate(class_names)], _KNOWN_SHOWN)
        raise InputError(f"unknown class {class_id}; known are {', '.join(known)}")
    for name, value in zip(_names(values), values, strict=True):
        if not _SMALLEST <= value <= _LARGEST:
            raise InputError(f"{name} = {value:g} is not relative to the image, in 0..1")
    return class_names[class_id], values


def _corner_and_size(values: Sequence[float]) -> tuple[float, float, float, float]:
    """Return the top left corner and the size, relative, of a box or of the box around a polygon."""
    if len(values) == 4:
        x, y, w, h = values
        return x - w / 2, y - h / 2, w, h
    xs, ys = values[::2], values[1::2]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _beyond(values: Sequence[float]) -> str:
    """Return the first value that is beyond the image by more than rounding, or ""."""
    for name, value in zip(_names(values), values, strict=True):
        if not -_ROUNDING <= value <= 1 + _ROUNDING:
            return f"{name} = {value:g} is not in 0..1"
    return ""


def _names(values: Sequence[float]) -> Sequence[str]:
    return "xywh" if len(values) == 4 else [f"{axis}{point + 1}" for point in range(len(values) // 2) for axis in "xy"]
