"""Which images a person means by a file, a folder or a pattern, and which visible and thermal ones are pairs."""

import glob
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from dcrl_jax.errors import InputError

IMAGE_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
VIDEO_ENDINGS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
# As folders (KAIST: visible/, lwir/; MSRS: vi/, ir/) and as the last word of a name (I00000_visible.png).
MODALITY_WORDS = {
    "visible": ("visible", "vis", "vi", "rgb"),
    "lwir": ("lwir", "thermal", "infrared", "ir", "tir"),
}


class Pair(NamedTuple):
    """One scene: a visible image, and where a teacher looks at it the registered thermal one."""

    name: str  # of the results: the path in the folder that was given, without ending and words of a modality
    visible: Path
    lwir: Path | None


class FoundPairs(NamedTuple):
    """What there is to detect in, and what was left aside."""

    pairs: list[Pair]  # by name
    unmatched: list[Path]  # images without their counterpart in the other modality


def is_video(path: str | Path) -> bool:
    """Whether a path names a video, by its ending; a pattern names none, whatever it finds."""
    path = Path(path)
    return path.suffix.lower() in VIDEO_ENDINGS and (path.is_file() or not glob.has_magic(str(path)))


def find_pairs(given: str, given_lwir: str | None, needs_lwir: bool) -> FoundPairs:
    """The images that are meant by what a person gave.

    Args:
        given: an image, a folder (searched with its subfolders) or a pattern (``*``, ``?``, ``[...]``, ``**``) of
            visible images; with ``needs_lwir`` and no ``given_lwir`` of images of both modalities, told apart by
            MODALITY_WORDS.
        given_lwir: the same of thermal images.
        needs_lwir: whether a scene needs both; if not, thermal images in ``given`` are passed over.

    Raises:
        InputError: nothing is there, no image is among it, no two images make a pair, or two have the same name.
    """
    found = [(path, *_name_and_modality(path, root)) for path, root in _images(given)]
    if not needs_lwir:
        found = [(path, name) for path, name, modality in found if modality != "lwir"]
        if not found:
            raise InputError(f"{given}: thermal images alone; this detector looks at visible ones.")
        return FoundPairs([Pair(name, path, None) for name, path in sorted(_by_name(found).items())], [])
    if given_lwir is None:
        visible = _by_name((path, name) for path, name, modality in found if modality != "lwir")
        lwir = _by_name((path, name) for path, name, modality in found if modality == "lwir")
    else:
        visible = _by_name((path, name) for path, name, _ in found)
        lwir = _by_name((path, _name_and_modality(path, root)[0]) for path, root in _images(given_lwir))
        if len(visible) == len(lwir) == 1 and Path(given).is_file() and Path(given_lwir).is_file():
            # Two files that were named need no common name.
            (name,) = visible
            lwir = {name: next(iter(lwir.values()))}
    both = visible.keys() & lwir.keys()
    if not both:
        shown = ", ".join(f"{path}" for path in [*list(visible.values())[:2], *list(lwir.values())[:2]])
        words = " and ".join(f"{modality} ({', '.join(names)})" for modality, names in MODALITY_WORDS.items())
        raise InputError(
            f"{given}: {len(visible)} visible and {len(lwir)} thermal images, no two of one name ({shown}). A pair has "
            f"the same name but for a folder or a last word that says which is which: {words}; or give the thermal "
            "images by --lwir."
        )
    unmatched = [path for images in (visible, lwir) for name, path in images.items() if name not in both]
    return FoundPairs([Pair(name, visible[name], lwir[name]) for name in sorted(both)], sorted(unmatched))


def _images(given: str) -> list[tuple[Path, Path]]:
    """Every image that is meant, and the folder that its name is relative to."""
    path = Path(given)
    if path.is_file():
        return [(path, path.parent)]
    if path.is_dir():
        files, root = path.rglob("*"), path
    elif glob.has_magic(given):
        files = map(Path, glob.glob(given, recursive=True))
        root = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    else:
        raise InputError(f"{given}: no such file or folder.")
    files = sorted(file for file in files if file.is_file())
    images = [(file, root) for file in files if file.suffix.lower() in IMAGE_ENDINGS]
    if not images:
        videos = sum(is_video(file) for file in files)
        held = f"{len(files)} files, {videos} of them videos, which are given one by one" if files else "no files"
        raise InputError(f"{given}: no image in it ({held}); images end with {', '.join(IMAGE_ENDINGS)}.")
    return images


def _name_and_modality(path: Path, root: Path) -> tuple[str, str | None]:
    relative = path.relative_to(root)
    folders, modality = [], None
    for folder in relative.parts[:-1]:
        meant = _modality_of(folder)
        modality = meant or modality
        folders += [] if meant else [folder]
    stem = relative.stem
    head, separator, last = stem.rpartition("_")
    meant = _modality_of(last)
    if meant and separator:
        stem, modality = head, meant
    # A folder of one modality that was itself given says so too, as does a pair named visible.png and lwir.png.
    if modality is None and (meant or _modality_of(root.name)):
        modality = meant or _modality_of(root.name)
        stem = "pair" if meant else stem
    return "/".join([*folders, stem]), modality


def _modality_of(word: str) -> str | None:
    return next((modality for modality, words in MODALITY_WORDS.items() if word.lower() in words), None)


def _by_name(found: Iterable[tuple[Path, str]]) -> dict[str, Path]:
    by_name = {}
    for path, name in found:
        if name in by_name:
            raise InputError(f"{by_name[name]} and {path} have one name, {name!r}, in the results: give them apart.")
        by_name[name] = path
    return by_name
