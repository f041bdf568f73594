"""Search for files in a user's copy of a data set."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from dcrl_jax.errors import InputError


def walk(root: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Yield all files below a folder with one of the suffixes, sorted by name within each folder.

    Links are followed; hidden files and folders are not.

    Raises:
        InputError: a folder cannot be read.
    """

    def fail(error):
        raise InputError(f"{error.filename}: this folder cannot be read ({error.strerror})") from error

    for folder, folders, names in os.walk(root, onerror=fail, followlinks=True):
        parent = Path(folder)
        # os.walk enters only the folders that stay in this list.
        folders[:] = sorted(name for name in folders if not (name.startswith(".") or _leads_up(parent / name)))
        for name in sorted(names):
            if name.lower().endswith(tuple(suffixes)) and not name.startswith("."):
                yield parent / name


def _leads_up(folder):
    """Return whether a folder is a link to a folder that contains it; following such a link would never end."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())
