"""The class names of YOLO labels, which have only numbers."""

from collections.abc import Mapping
from pathlib import Path


def find_class_names(files: Mapping[str, Path]) -> tuple[list[str], str] | None:
    """Return the class names by number and the name of the file that has them, or None if no file has class names.

    Args:
        files: the files of a folder by their path relative to it, with ``/``. Files with other names than those of
            lists of classes are skipped.

    Raises:
        InputError: a file is malformed, or two files disagree; names them.
    """
    raise NotImplementedError
