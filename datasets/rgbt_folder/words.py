"""The words in names of folders that say what a file is: its modality, its split, day or night, images or labels."""

import functools
import re
from typing import NamedTuple

from dcrl_jax.annotations.modality_words import MODALITY_WORDS

_MODALITY_OF = {word: name for name, words in MODALITY_WORDS.items() for word in words.certain + words.with_partner}
SPLIT_OF = {
    word: split
    for split, words in {
        "train": ("train", "training", "trainset"),
        "validation": ("val", "valid", "validation", "valset"),
        "test": ("test", "testing", "testset", "newtest"),
    }.items()
    for word in words
}
CONDITION_OF = {
    **dict.fromkeys(("day", "daytime", "daylight"), "day"),
    **dict.fromkeys(("night", "nighttime", "nightime"), "night"),
}
# Words of folders that only say that the files are images or labels. CVC-14 has FramesPos, FLIR has JPEGImages.
_CONTENT = frozenset(
    word
    for words in (
        "ann anns annot annots annotation annotations gt groundtruth label labels bbox bboxes box boxes object objects",
        "coco json pascal txt voc xml yolo detection",
        "data dataset frame frames framespos framesneg image images img imgs imagesets main jpegimages",
        "bild bilder beschriftung beschriftungen annotationen",
    )
    for word in words.split()
)


class Meaning(NamedTuple):
    """What the folders of a file say."""

    words: frozenset[str]  # that tell the file from others: without those of modality and content
    modality: str | None  # of the innermost folder that tells it


def words_of(text: str) -> list[str]:
    """Return the words of a folder's or file's name in lower case; a number behind a word is a word of its own."""
    return re.findall(r"[^\W\d_]+|\d+", text.lower())


@functools.lru_cache(10_000)
def meaning_of(folders: tuple[str, ...]) -> Meaning:
    """Return what the names of folders say, of which the last is the innermost one.

    Words of one meaning are equal: ``val`` and ``validation``, ``day`` and ``daytime``.
    """
    words, modality = set(), None
    for folder in folders:
        whole = folder.lower()
        # Words with a separator in them, and single letters, are the name of a folder as a whole.
        if whole in _MODALITY_OF:
            modality = _MODALITY_OF[whole]
            continue
        parts = words_of(folder)
        told = {_MODALITY_OF[part] for part in parts if len(part) > 1 and part in _MODALITY_OF}
        if len(told) == 1:
            modality = told.pop()
        words.update(_plain(part) for part in parts if not (len(part) > 1 and part in _MODALITY_OF))
    return Meaning(frozenset(words - _CONTENT), modality)


def split_modality(stem: str) -> tuple[str, str | None]:
    """Return the name of a file without the modality word after its last ``_``, and the modality, else None."""
    head, separator, last = stem.rpartition("_")
    modality = _MODALITY_OF.get(last.lower()) if separator and head else None
    return (head, modality) if modality else (stem, None)


def told_by(names: tuple[str, ...], meanings: dict[str, str]) -> str | None:
    """Return what the innermost of some names says that has words of exactly one meaning."""
    for name in reversed(names):
        told = {meanings[word] for word in words_of(name) if word in meanings}
        if len(told) == 1:
            return told.pop()
    return None


def _plain(word):
    return SPLIT_OF.get(word) or CONDITION_OF.get(word) or word
