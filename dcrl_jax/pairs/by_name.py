"""Which visible and thermal files belong together, by their names."""

import functools
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from dcrl_jax.annotations.modality_words import MODALITY_OF, MODALITY_WORDS
from dcrl_jax.errors import first_few

# In a folder of its modality, a file may begin or end with its initial (RGBT234: visible/00001v, infrared/00001i).
_INITIALS = {
    "visible": re.compile(r"^v(?=\d+$)|(?<=\d)v$", re.I),
    "lwir": re.compile(r"^[it](?=\d+$)|(?<=\d)[it]$", re.I),
}
# Roboflow names each image 1_jpg.rf.HASH.jpg, with another hash in each export.
_ROBOFLOW = re.compile(r"(_(jpe?g|png|bmp|webp|tiff?))?\.rf\.\w+$", re.I)


class NamedPair(NamedTuple):
    """The names of two files that belong together."""

    name: str  # what the names have in common: the path without suffix and modality words
    visible: str
    lwir: str


class Pairing(NamedTuple):
    """The pairs among files, and the rest."""

    pairs: list[NamedPair]  # sorted by name, which is unique
    visible: list[str]  # files without a partner whose names do not say that they are thermal, sorted
    lwir: list[str]  # files without a partner whose names say that they are thermal, sorted
    problems: list[str]  # sets of files of which it is unclear which are the pair; the lists above have the files


def pair_by_name(names: Iterable[str], lwir_names: Iterable[str] | None = None) -> Pairing:
    """Return the pairs among files. Only the names count; no file is read.

    The names of a pair are equal but for suffix and modality words: first those of ``Words.certain``, which are a
    folder or the end of a file's name after ``_``; then, among files without a partner, all words, also between
    ``_ - .`` or spaces anywhere in a folder or file, and with a number (``rgb_1/`` and ``thermal_1/``). Letters may be
    composed in two ways, as macOS does. Of files that are still without a partner, Roboflow's hash does not count.

    Args:
        names: distinct paths relative to one folder, with slashes and suffixes. They are of both modalities, or of
            visible files only if ``lwir_names`` is given.
        lwir_names: the paths of the thermal files, relative to another folder. Then no word tells the modality.
    """
    if lwir_names is None:
        files = [(None, name) for name in names]
    else:
        files = [*(("visible", name) for name in names), *(("lwir", name) for name in lwir_names)]
    pairs, problems = {}, []
    rest = {modality: [] for modality in MODALITY_WORDS}
    for read in (_read_certain, _read_with_partner, _read_initial, _read_roboflow):
        keyed = defaultdict(lambda: defaultdict(list))
        for file in files:
            reading = read(*file)
            keyed[reading.key][reading.modality].append((reading.rank, file))
        taken = set()
        for key, group in keyed.items():
            if not (group["visible"] and group["lwir"]):
                continue
            best = [_lowest_ranked(group[modality]) for modality in rest]
            if max(map(len, best)) > 1:
                problems.append(_describe_unclear(key, best))
            else:
                visible, lwir = best[0][0], best[1][0]
                name = visible if key in pairs else key
                pairs[name] = NamedPair(name, visible, lwir)
            for modality, chosen in zip(rest, map(set, best), strict=True):
                taken.update(file for _, file in group[modality])
                rest[modality] += [file[1] for _, file in group[modality] if file[1] not in chosen]
        files = [file for file in files if file not in taken]
    for side, name in files:
        rest[_read_certain(side, name).modality or "visible"].append(name)
    return Pairing(sorted(pairs.values()), sorted(rest["visible"]), sorted(rest["lwir"]), problems)


def is_thermal_folder(name: str) -> bool:
    """Return whether a folder's name says that its files are thermal."""
    return MODALITY_OF.get(name.lower()) == "lwir"


def describe_words() -> str:
    """Return the words of both modalities, for a message."""
    return " and ".join(f"{name} ({', '.join(words.certain)})" for name, words in MODALITY_WORDS.items())


class _Reading(NamedTuple):
    """What a name says by one of the rules."""

    modality: str | None
    key: str  # the name without suffix and modality words
    rank: int  # of several files with one key and modality, the lowest is taken


def _read_certain(side: str | None, name: str) -> _Reading:
    """Read the words of ``Words.certain``; a name without any is that of a visible file."""
    folders, stem = _split(name)
    kept, modality = [], None
    for folder in folders:
        folder_modality = MODALITY_OF.get(folder.lower())
        modality = folder_modality or modality
        kept += [] if folder_modality else [folder]
    head, separator, last_word = stem.rpartition("_")
    last_modality = MODALITY_OF.get(last_word.lower())
    if last_modality and separator:
        stem, modality = head, last_modality
    elif last_modality and modality is None:
        stem, modality = "pair", last_modality  # visible.png and lwir.png
    return _Reading(side or modality or "visible", "/".join([*kept, stem]), int(modality is None))


def _read_with_partner(side: str | None, name: str) -> _Reading:
    """Read all words; the innermost one decides."""
    return _read_all_words(side, *_split(name))


def _read_all_words(side, folders, stem):
    parts = [*map(_read_folder, folders), _read_part(stem)]
    modality, rank = next(((m, rank) for _, m, rank in reversed(parts) if m), (None, 0))
    kept = [text for text, _, _ in parts]
    return _Reading(side or modality, "/".join([*filter(None, kept[:-1]), kept[-1] or "pair"]), rank)


def _read_initial(side: str | None, name: str) -> _Reading:
    """Read all words, and the initial of the modality that a folder names."""
    reading = _read_with_partner(side, name)
    if not reading.modality:
        return reading
    folder, slash, stem = reading.key.rpartition("/")
    return reading._replace(key=folder + slash + _INITIALS[reading.modality].sub("", stem))


def _read_roboflow(side: str | None, name: str) -> _Reading:
    """Read all words of a name without Roboflow's hash."""
    folders, stem = _split(name)
    return _read_all_words(side, folders, _ROBOFLOW.sub("", stem))


def _split(name):
    """Return the folders and the stem of a path."""
    *folders, file = unicodedata.normalize("NFC", name).split("/")
    return folders, os.path.splitext(file)[0]


def _read_part(part):
    """Return a folder's name or a stem without its modality words, and the modality and rank of the last of them."""
    words = [_RANKS[re.sub("[-. ]", "_", match["word"].lower())] for match in _ANY_WORD.finditer(part)]
    if len({modality for modality, _ in words}) != 1:  # none, or both as in rgb_thermal
        return part, None, 0
    # A number keeps a separator: run_1_ir2 is not run_12_ir.
    return _ANY_WORD.sub(lambda match: match["number"] and f"_{match['number']}", part).lstrip("_-. "), *words[-1]


_read_folder = functools.lru_cache(1000)(_read_part)


def _lowest_ranked(ranked_files):
    lowest = min(rank for rank, _ in ranked_files)
    return [name for rank, (_, name) in ranked_files if rank == lowest]


def _describe_unclear(key, best):
    visible, lwir = (" and ".join(first_few(sorted(names), 3)) for names in best)
    return f"{visible} (visible), {lwir} (thermal): both have the name {key!r}; it is unclear which are the pair."


_RANKS = {
    word: (modality, rank)
    for modality, words in MODALITY_WORDS.items()
    for rank, word in enumerate(words.certain + words.with_partner)
}
# A single letter is a folder or the end of a name, and has no number.
_ALTERNATIVES = "|".join(
    word.replace("_", "[-_. ]") + ("(?=$)" if len(word) == 1 else "") for word in sorted(_RANKS, key=len, reverse=True)
)
_ANY_WORD = re.compile(rf"(?:^|[-_. ]+)(?P<word>{_ALTERNATIVES})(?P<number>\d*)(?=[-_. ]|$)", re.I)
