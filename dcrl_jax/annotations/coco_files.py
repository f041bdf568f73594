"""COCO's JSON of any data set: one file for many images."""

from pathlib import Path
from typing import NamedTuple

from dcrl_jax.annotations.label_files import Labels


class CocoImage(NamedTuple):
    """One image of a file and its labels."""

    file_name: str
    size: tuple[int, int] | None  # width and height in pixels as the file says; None if it does not
    labels: Labels  # labels are the names of the categories; a crowd is ignored


def is_coco(path: Path) -> bool:
    """Return whether a file is JSON with COCO's lists of images and annotations.

    Raises:
        InputError: the file cannot be read.
    """
    raise NotImplementedError


def read(path: Path) -> list[CocoImage]:
    """Read one file.

    Returns:
        The images in the order of the file.

    Raises:
        InputError: the file cannot be read, or an entry is malformed; names the entry, counted from 1.
    """
    raise NotImplementedError
