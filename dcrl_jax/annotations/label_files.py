"""The labels of one image in any text format; the content decides the format, not the suffix.

YOLO text (boxes and polygons), Pascal VOC XML, KAIST's text formats and CVC-14's text.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dcrl_jax.annotations.text import read_text
from dcrl_jax.annotations.types import Annotation, Finding

SUFFIXES = (".txt", ".xml")  # files that may hold the labels of one image


class Labels(NamedTuple):
    """The labels of one image."""

    annotations: list[Annotation]  # labels spelled as in the file; boxes x, y, w, h in pixels of the labelled image
    findings: list[Finding]  # what is left out or doubtful
    format: str  # "YOLO", "VOC", "KAIST", "CVC-14", or "" for an empty text file, which is an image without objects


def parse(text: str, place: str, size: tuple[int, int] | None, class_names: Sequence[str] | None) -> Labels:
    """Parse the labels of one image.

    Args:
        text: the file's content.
        place: the file's name, for messages.
        size: width and height of the labelled image in pixels; only YOLO's relative boxes need it.
        class_names: YOLO's names by class number; None if they are not known. Only YOLO's labels need them.

    Raises:
        InputError: the text is malformed or in no known format; names the place, and the line or object.
    """
    raise NotImplementedError


def read(path: Path, size: tuple[int, int] | None, class_names: Sequence[str] | None) -> Labels:
    """Read the labels of one image; for the arguments and errors see ``parse``.

    Raises:
        InputError: also if the file cannot be read.
    """
    return parse(read_text(path), str(path), size, class_names)
