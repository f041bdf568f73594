"""The images that a file, folder or pattern names, and the pairs among them."""

import glob
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from dcrl_jax.errors import InputError

IMAGE_SUFFIXES = (".avif", ".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".ts", ".webm")
# Names of folders (KAIST: visible/, lwir/; MSRS: vi/, ir/), and last words of file names (I00000_visible.png).
MODALITY_WORDS = {
    "visible": ("visible", "vis", "vi", "rgb"),
    "lwir": ("lwir", "thermal", "infrared", "ir", "tir"),
}


class Pair(NamedTuple):
    """The image or images of a scene."""

    name: str  # in the results: the path below the searched folder, without suffix and modality words
    visible: Path
    lwir: Path | None  # None for a detector that sees RGB only


class FoundPairs(NamedTuple):
    """The scenes to detect in, and the images that belong to none of them."""

    pairs: list[Pair]  # sorted by name
    unmatched: list[Path]  # images without a counterpart in the other modality


def is_video(path: str | Path) -> bool:
    """Return whether a path names a video. A pattern names none, whatever it matches."""
    path = Path(path)
    return path.suffix.lower() in VIDEO_SUFFIXES and (path.is_file() or not glob.has_magic(str(path)))


def find_pairs(source: str, lwir_source: str | None, needs_lwir: bool) -> FoundPairs:
    """Return the scenes of the images that a user names, and the images without a counterpart.

    Args:
        source: an image, a folder (searched recursively) or a pattern (``*``, ``?``, ``[...]``, ``**``) of visible
            images. With ``needs_lwir`` and no ``lwir_source``, it names images of both modalities, which
            MODALITY_WORDS tell apart.
        lwir_source: the same for thermal images.
        needs_lwir: whether a scene needs both images; otherwise thermal images in ``source`` are ignored.

    Raises:
        InputError: a source does not exist, has no images or no pairs, or two images have the same name.
    """
    images = [(path, *_name_and_modality(path, root)) for path, root in _images(source)]
    if not needs_lwir:
        visible = _by_name((path, name) for path, name, modality in images if modality != "lwir")
        if not visible:
            raise InputError(f"{source}: thermal images only; this detector takes visible images.")
        return FoundPairs([Pair(name, path, None) for name, path in sorted(visible.items())], [])
    if lwir_source is None:
        visible = _by_name((path, name) for path, name, modality in images if modality != "lwir")
        lwir = _by_name((path, name) for path, name, modality in images if modality == "lwir")
    else:
        visible = _by_name((path, name) for path, name, _ in images)
        lwir = _by_name((path, _name_and_modality(path, root)[0]) for path, root in _images(lwir_source))
        if Path(source).is_file() and Path(lwir_source).is_file():
            # Two single files are a pair, whatever their names.
            lwir = dict(zip(visible, lwir.values(), strict=True))
    names = visible.keys() & lwir.keys()
    if not names:
        examples = ", ".join(str(path) for path in [*list(visible.values())[:2], *list(lwir.values())[:2]])
        words = " and ".join(f"{modality} ({', '.join(words)})" for modality, words in MODALITY_WORDS.items())
        raise InputError(
            f"{source}: {len(visible)} visible and {len(lwir)} thermal images, no two with the same name ({examples}). "
            "The images of a pair have the same name, except for a folder or a last word that tells the modality: "
            f"{words}; or give the thermal images with --lwir."
        )
    unmatched = [path for paths in (visible, lwir) for name, path in paths.items() if name not in names]
    return FoundPairs([Pair(name, visible[name], lwir[name]) for name in sorted(names)], sorted(unmatched))


def _images(source: str) -> list[tuple[Path, Path]]:
    """Return every image that a source names, with the folder to which its name in the results is relative."""
    path = Path(source)
    if path.is_file():
        return [(path, path.parent)]
    if path.is_dir():
        files, root = path.rglob("*"), path
    elif glob.has_magic(source):
        files = map(Path, glob.glob(source, recursive=True))
        root = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
    else:
        raise InputError(f"{source}: no such file or folder.")
    files = sorted(file for file in files if file.is_file())
    images = [(file, root) for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        videos = sum(is_video(file) for file in files)
        content = (
            f"{len(files)} files, {videos} of them videos, which must be given one by one" if files else "no files"
        )
        raise InputError(f"{source}: contains no image ({content}); images end with {', '.join(IMAGE_SUFFIXES)}.")
    return images


def _name_and_modality(path: Path, root: Path) -> tuple[str, str | None]:
    """Return the name of an image in the results, and the modality that its path names, if any."""
    relative = path.relative_to(root)
    folders, modality = [], None
    for folder in relative.parts[:-1]:
        folder_modality = _modality_of(folder)
        modality = folder_modality or modality
        folders += [] if folder_modality else [folder]
    stem = relative.stem
    head, separator, last_word = stem.rpartition("_")
    last_modality = _modality_of(last_word)
    if last_modality and separator:
        stem, modality = head, last_modality
    elif last_modality and modality is None:
        stem, modality = "pair", last_modality  # visible.png and lwir.png
    # The searched folder itself may name the modality.
    return "/".join([*folders, stem]), modality or _modality_of(root.name)


def _modality_of(word: str) -> str | None:
    return next((modality for modality, words in MODALITY_WORDS.items() if word.lower() in words), None)


def _by_name(images: Iterable[tuple[Path, str]]) -> dict[str, Path]:
    by_name = {}
    for path, name in images:
        if name in by_name:
            raise InputError(
                f"{by_name[name]} and {path} have the same name, {name!r}, in the results: give them to separate "
                "commands."
            )
        by_name[name] = path
    return by_name
