"""Search for files in a user's copy of a data set."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from dcrl_jax.errors import InputError


def walk(root: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Yield all files below a folder with one of the suffixes, sorted by name within each folder.

    Links are followed, and every folder is searched once; hidden files and folders are not.

    Raises:
        InputError: a folder cannot be read.
    """

    def fail(error):
        raise InputError(f"{error.filename}: this folder cannot be read ({error.strerror})") from error

    seen, starts = set(), [root]
    while starts:  # the root, and then links, so that a file has the name of its own folder
        for folder, folders, names in os.walk(starts.pop(0), onerror=fail):
            parent, real = Path(folder), os.path.realpath(folder)
            # os.walk enters only the folders that stay in this list, and no links.
            folders[:] = sorted(name for name in folders if not name.startswith(".") and real not in seen)
            links = (parent / name for name in folders)
            starts += [link for link in links if link.is_symlink() and not _leads_up(link)]
            for name in () if real in seen else sorted(names):
                if name.lower().endswith(tuple(suffixes)) and not name.startswith("."):
                    yield parent / name
            seen.add(real)


def _leads_up(folder):
    """Return whether a folder is a link to a folder that contains it; following such a link would never end."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())
