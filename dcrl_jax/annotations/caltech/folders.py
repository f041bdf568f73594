"""Search for Caltech's files in a copy of the original archives, in any parent folders.

Videos are ``setXX/VYYY.seq``, original annotations ``setXX/VYYY.vbb``, new ones ``setXX_VYYY_IZZZZZ.jpg.txt``, also
without ``.jpg``.
"""

import re
from pathlib import Path
from typing import NamedTuple

from dcrl_jax.annotations.files import walk
from dcrl_jax.errors import InputError

_VIDEO = re.compile(r"(?:.*/)?(set\d\d)/(V\d{3})\.(seq|vbb)", re.IGNORECASE | re.ASCII)
_TEXT = re.compile(r"(?:.*/)?(set\d\d)_(V\d{3})_(I\d{5})(?:\.jpe?g|\.png)?\.txt", re.IGNORECASE | re.ASCII)


class Files(NamedTuple):
    """The files of a user's copy."""

    seq: dict[str, Path]  # by video
    vbb: dict[str, Path]  # by video
    texts: dict[str, Path]  # by image id
    text_folders: tuple[str, ...]  # folders of the texts, relative to the root
    unused: list[str]  # a line for each .seq and .vbb file that belongs to no video


def index(root: Path) -> Files:
    """Find all files below a folder.

    Raises:
        InputError: two files belong to the same video or frame, or a folder cannot be read.
    """
    files: dict[str, dict[str, Path]] = {"seq": {}, "vbb": {}, "texts": {}}
    folders, unused = set(), []
    for path in walk(root, (".seq", ".vbb", ".txt")):
        relative = path.relative_to(root).as_posix()
        if match := _VIDEO.fullmatch(relative):
            kind, name = match[3].lower(), f"{match[1].lower()}/{match[2].upper()}"
        elif match := _TEXT.fullmatch(relative):
            kind, name = "texts", f"{match[1].lower()}/{match[2].upper()}/{match[3].upper()}"
            folders.add(relative.rpartition("/")[0] or ".")
        else:
            if path.suffix.lower() != ".txt":
                unused.append(f"{path}: its path does not end in setXX/VYYY{path.suffix}")
            continue
        if (first := files[kind].setdefault(name, path)) != path:
            raise InputError(f"{first} and {path} both belong to {name}; keep one of them")
    return Files(**files, text_folders=tuple(sorted(folders)), unused=unused)
