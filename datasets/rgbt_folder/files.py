"""The pairs of a folder: from a list, from two patterns, or by the names of all images."""

import glob
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets.rgbt_folder.words import SPLIT_OF
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.annotations.types import Finding
from dcrl_jax.errors import InputError, first_few
from dcrl_jax.pairs.by_name import describe_words, pair_by_name
from dcrl_jax.pairs.input_files import IMAGE_SUFFIXES, describe_others, find_files
from dcrl_jax.pairs.lists import read_rows
from dcrl_jax.pairs.of_files import pair_files

NO_PARTNER = {"visible": "visible image without a thermal one", "lwir": "thermal image without a visible one"}
UNCLEAR_PAIR = "images of which it is unclear which are the pair"
UNUSED_FILE = "link, folder or video that is not used"
COLUMNS = ("labels", "split", "condition", "sequence")


class Pair(NamedTuple):
    """The files of a pair."""

    name: str  # what the names of both have in common, with slashes; unique
    visible: Path
    lwir: Path
    visible_name: str  # the path below the folder, with slashes and suffix
    lwir_name: str
    cells: dict[str, str]  # of its line in a list of pairs, by column


class FoundPairs(NamedTuple):
    """The pairs of a folder, and what is left out."""

    pairs: list[Pair]  # sorted by name
    findings: list[Finding]
    source: str  # where the pairs come from, for the user


def find_pairs(root: Path, config: Any) -> FoundPairs:
    """Return the pairs of a folder.

    They are those of the list ``config.pairs``; else of the patterns ``config.visible`` and ``config.lwir``; else of
    all images below the folder, by the naming rule of ``dcrl_jax.pairs``.

    Raises:
        InputError: the list cannot be used, a pattern names nothing, or there is no pair; the message says how files
            are recognised.
    """
    if config.pairs:
        return _pairs_of_list(root, config.pairs)
    if config.visible:
        found = [_find(root, pattern) for pattern in (config.visible, config.lwir)]
        pairing = pair_files(found[0].images, found[1].images)
        source = f"{config.visible} and {config.lwir}"
    else:
        found = [find_files(os.fspath(root))]
        pairing = pair_files(found[0].images)
        source = "by the names of all images"
    if not pairing.pairs:
        raise _no_pair(root, config, found, pairing)
    findings = [Finding(UNUSED_FILE, text) for files in found for text in (*files.problems, *files.notes)]
    findings += [Finding(UNUSED_FILE, f"{file.path}: a video") for files in found for file in files.videos]
    findings += [Finding(UNCLEAR_PAIR, text) for text in pairing.problems]
    # Files of unclear pairs are among the others, too.
    findings += [Finding(kind, os.fspath(path)) for side, kind in NO_PARTNER.items() for path in getattr(pairing, side)]
    pairs, names = [], set()
    for pair in sorted(pairing.pairs):
        visible, lwir = (below(file.path, root) for file in (pair.visible, pair.lwir))
        # Two wildcards or words may give one name.
        name = pair.name if pair.name not in names else visible
        names.add(name)
        pairs.append(Pair(name, pair.visible.path, pair.lwir.path, visible, lwir, {}))
    return FoundPairs(sorted(pairs), findings, source)


def image_ids(pairs: Sequence[Pair]) -> list[str]:
    """Return the name of each pair without the folder of its split, or with it if two pairs would be alike."""
    short = [short_name(pair) for pair in pairs]
    return short if len(set(short)) == len(short) else [pair.name for pair in pairs]


def short_name(pair: Pair) -> str:
    """Return the name of a pair without the folder of its split; several pairs may have it."""
    *folders, stem = pair.name.split("/")
    return "/".join([*(folder for folder in folders if folder.lower() not in SPLIT_OF), stem])


def image_names(pair: Pair) -> tuple[str, str, str]:
    """Return the names by which lists and labels may call a pair: paths without the suffixes of images."""
    return pair.name, without_suffix(pair.visible_name), without_suffix(pair.lwir_name)


def resolve(root: Path, path: Path, cell: str) -> Path:
    """Return the file that a cell of the list ``path`` names: below the folder, or beside the list."""
    plain = cell.replace("\\", "/")  # Windows
    names = [cell, plain, *(unicodedata.normalize(form, plain) for form in ("NFC", "NFD"))]
    candidates = [folder / name for name in names for folder in (root, path.parent)]
    return next((file for file in candidates if os.path.isfile(file)), root / plain)


def below(path: Path, root: Path) -> str:
    """Return the path of a file relative to a folder, with slashes; it has ``..`` if the file is elsewhere.

    Letters are composed (NFC): macOS writes ``ü`` as two characters, other systems as one.
    """
    name, start = os.fspath(path), os.path.join(root, "")
    # For a hundred thousand files, relpath takes seconds.
    name = name.removeprefix(start) if name.startswith(start) else os.path.relpath(name, root)
    return unicodedata.normalize("NFC", name)


def without_suffix(name: str) -> str:
    """Return a path without the suffix of an image; other ends stay, as in ``2014_05.05``."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in IMAGE_SUFFIXES else name


def _find(root, pattern):
    path = root / pattern
    if path.exists():
        return find_files(os.fspath(path))
    found = find_files(os.path.join(glob.escape(os.fspath(root)), pattern))
    if not found.images:
        raise InputError(
            f"{root}: no image matches {pattern!r}. A pattern starts at the folder; * stands for any part of a name, "
            "**/ for any folders, as in '**/JPEGImages/*_RGB.jpg'."
        )
    return found


def _pairs_of_list(root, name):
    path = root / name
    if not os.path.isfile(path):
        raise InputError(
            f"{path}: no such file; pairs is a CSV list within the folder, with the columns visible, lwir."
        )
    problems, pairs, names, line_of = [], [], set(), {}
    for line, cells in read_rows(path, ("visible", "lwir"), COLUMNS, problems):
        files = [resolve(root, path, cells[side]) for side in ("visible", "lwir")]
        missing = [file for file in files if not os.path.isfile(file)]
        if len(missing) == 2 and not pairs:
            raise InputError(
                f"{path}:{line}: neither {missing[0]} nor {missing[1]} is a file. Paths start at {root} or beside the "
                f"list. A line with the names of columns has visible, lwir; if given {', '.join(COLUMNS)}."
            )
        visible_name, lwir_name = (below(file, root) for file in files)
        first = line_of.setdefault(visible_name, line)
        if first != line:
            problems.append(f"{path}:{line}: {visible_name} is in line {first} already.")
            continue
        common = pair_by_name([visible_name, lwir_name]).pairs
        pair_name = common[0].name if common else without_suffix(visible_name)
        pair_name = visible_name if pair_name in names else pair_name
        names.add(pair_name)
        rest = {column: cells[column] for column in COLUMNS if column in cells}
        pairs.append(Pair(pair_name, files[0], files[1], visible_name, lwir_name, rest))
    raise_if_any(problems, f"{path}", "Correct these lines.")
    if not pairs:
        raise InputError(f"{path}: no pair; expected lines with the paths of a visible and a thermal image.")
    columns = [column for column in COLUMNS if any(column in pair.cells for pair in pairs)]
    source = f"the list {name}, columns {', '.join(('visible', 'lwir', *columns))}"
    return FoundPairs(sorted(pairs, key=lambda pair: pair.name), [], source)


def _no_pair(root, config, found, pairing):
    """Return the error for a folder without a pair."""
    images = sum(len(files.images) for files in found)
    if not images:
        others = [file for files in found for file in (*files.others, *files.videos)]
        content = describe_others(others) if others else "no files"
        return InputError(f"{root}: no image ({content}). Expected a folder of visible and thermal images.")
    lines = [f"{root}: {len(pairing.visible):,} visible and {len(pairing.lwir):,} thermal images, but no pair."]
    for side, paths in (("visible", pairing.visible), ("thermal", pairing.lwir)):
        folders = Counter(below(path.parent, root) for path in paths)
        texts = [
            f"{count:,} in {folder}/, such as {_example(paths, root, folder)}" for folder, count in folders.items()
        ]
        lines += [f"  {side} by its name: {text}" for text in first_few(texts, 4)]
    lines += [f"  {problem}" for problem in first_few(pairing.problems, 4)]
    lines.append(
        "The names of a pair are equal, except for a folder or a word that tells the modality: "
        f"{describe_words()}. Or name the images: visible='FOLDER or PATTERN' and lwir=..., for which equal wildcards "
        "make a pair; or give a CSV list, pairs=FILE.csv, with the columns visible, lwir."
    )
    return InputError("\n".join(lines))


def _example(paths, root, folder):
    return next(path.name for path in paths if below(path.parent, root) == folder)
