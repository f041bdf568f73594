"""YOLO text annotations: one object per line, ``class x y w h``, relative to the image size.

x and y are the centre of the box.
"""

import math
from collections.abc import Sequence

from dcrl_jax.annotations.types import Annotation
from dcrl_jax.errors import InputError

# Labelling tools round to a few decimals, so values may leave 0..1 by this much: 0.064 pixels at 640 pixels.
ROUNDING = 1e-4


def parse(
    text: str, width: int, height: int, class_names: Sequence[str], place: str
) -> tuple[list[Annotation], list[str]]:
    """Return the annotations and the problems of one file; problems are not raised, so that callers can collect them.

    Args:
        text: content of the file; empty for an image without objects.
        width: width of the annotated image in pixels.
        height: height of the annotated image in pixels.
        class_names: names by class number.
        place: the file's name, for messages.

    Returns:
        The annotations of the valid lines in their order, boxes in pixels, and one ``place:line: problem`` for each
        other line.
    """
    annotations, problems = [], []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            annotations.append(_parse_line(line, width, height, class_names))
        except InputError as error:
            problems.append(f"{place}:{number}: {error}")
    return annotations, problems


def _parse_line(line: str, width: int, height: int, class_names: Sequence[str]) -> Annotation:
    fields = line.split()
    if len(fields) != 5:
        raise InputError(f"{len(fields)} fields instead of the five `class x y w h`")
    try:
        class_id = int(fields[0])
        x, y, w, h = values = [float(field) for field in fields[1:]]
    except ValueError as error:
        raise InputError(f"not a whole number and four numbers: {line.strip()!r}") from error
    if not 0 <= class_id < len(class_names):
        known = ", ".join(f"{number} {name}" for number, name in enumerate(class_names))
        raise InputError(f"unknown class {class_id}; known are {known}")
    for name, value in zip("xywh", values, strict=True):
        if not (math.isfinite(value) and -ROUNDING <= value <= 1 + ROUNDING):
            raise InputError(f"{name} = {value:g} is not relative to the image, in 0..1")
    if w <= 0 or h <= 0:
        raise InputError(f"a box of no size, w = {w:g}, h = {h:g}")
    if x - w / 2 >= 1 or x + w / 2 <= 0 or y - h / 2 >= 1 or y + h / 2 <= 0:
        raise InputError("a box completely outside the image")
    return Annotation(class_names[class_id], ((x - w / 2) * width, (y - h / 2) * height, w * width, h * height))
