"""The sequences of a folder, such as videos, and the choice of those that test."""

import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from datasets.rgbt_folder.files import Pair, short_name
from datasets.rgbt_folder.words import CONDITION_OF, SPLIT_OF, meaning_of
from dcrl_jax.errors import InputError

_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")
# A time of day, after its date, or a long number: often that of a frame, of which a second has up to thirty.
_TIME = re.compile(r"\d{9,}|\d{4}([-_. T]?\d\d){4,}")
_PAIRS_OF_TIME = 100


def sequence_names(pairs: Sequence[Pair], config: Any) -> list[str]:
    """Return the name of each pair's sequence.

    It is the cell of the column ``sequence``; else what ``config.sequence`` finds in the name without the folder of the
    split, its groups if it has some; else the folders of the name; else the name without its last number. The last two
    rules count only if they tell at least two sequences, and most pairs are not alone in theirs; times in names count
    only if there are a hundred pairs to each, since they may be those of frames. With ``config.sequence_images``, each
    sequence is cut into blocks of so many images, in the order of the numbers in their names.

    Raises:
        InputError: ``config.sequence`` does not find anything in a name.
    """
    names = _plain_sequences(pairs, config)
    if not config.sequence_images:
        return names
    counts, blocks = Counter(), [""] * len(names)
    for index in sorted(range(len(pairs)), key=lambda index: _with_numbers(pairs[index].name)):
        name = names[index]
        blocks[index] = f"{name or 'images'}#{counts[name] // config.sequence_images + 1}"
        counts[name] += 1
    return blocks


def choose_sequences(names: Sequence[str], share: float, seed: int) -> list[str]:
    """Return sequences whose share of all images is near ``share``, at least one of two; sorted.

    Sequences come in the random order of ``seed``; one is taken if that brings the share nearer.
    """
    counts = Counter(names)
    ordered = random.Random(seed).sample(sorted(counts), len(counts))
    target, total, chosen = share * len(names), 0, []
    for name in ordered:
        is_nearer = abs(total + counts[name] - target) < abs(total - target)
        if is_nearer and len(chosen) < len(counts) - 1:
            chosen.append(name)
            total += counts[name]
    return sorted(chosen or [min(ordered, key=counts.__getitem__)])


def explain_one_sequence(pairs: Sequence[Pair]) -> str:
    """Return the message for a folder whose names tell no sequences."""
    examples = ", ".join(pair.name for pair in pairs[:3])
    return (
        f"the names of the {len(pairs):,} pairs ({examples}) do not tell sequences, of which some could be held out "
        "for testing: frames of one video are nearly alike, and a detector that trained on some of them scores too "
        "well on the others. Say what is a sequence, or which pairs test:\n"
        "  sequence=REGEX               the part of a pair's name that names its sequence, such as '^..' for LLVIP's "
        "190001\n"
        "  sequence_images=N            blocks of N consecutive images are sequences; neighbours of two blocks are "
        "alike\n"
        "  pairs=FILE.csv               a list with the column split or sequence\n"
        "  train_list, test_list=FILE   lists of pairs; or put the images into folders train and test\n"
        "  split=train or split=test    all pairs in one split, to score on other data, or to score only"
    )


def _plain_sequences(pairs, config):
    if any("sequence" in pair.cells for pair in pairs):
        return [pair.cells.get("sequence", "") for pair in pairs]
    if config.sequence:
        return [_match(config.sequence, short_name(pair)) for pair in pairs]
    folders = ["/".join(_telling(pair.name)) for pair in pairs]
    stems = [_before_number(pair.name) for pair in pairs]
    timed = [f"{folder}/{stem}".strip("/") for folder, stem in zip(folders, stems, strict=True)]
    numbered = [f"{folder}/{_TIME.sub('', stem)}".strip("/") for folder, stem in zip(folders, stems, strict=True)]
    for names, least in ((folders, 1), (timed, _PAIRS_OF_TIME), (numbered, 1)):
        counts = Counter(names).values()
        are_sequences = 2 * sum(count == 1 for count in counts) <= len(names) >= least * len(counts)
        if len(counts) > 1 and are_sequences:
            return names
    return [""] * len(pairs)


def _telling(name):
    """Return the folders of a pair's name that may be sequences: not those of a split, day and night, or content."""
    told = {*SPLIT_OF.values(), *CONDITION_OF.values()}
    return [folder for folder in name.split("/")[:-1] if meaning_of((folder,)).words - told]


def _before_number(name):
    stem = name.rpartition("/")[2]
    number = _LAST_NUMBER.search(stem)
    return stem[: number.start()] if number else stem


def _with_numbers(name):
    """Return a key that sorts ``frame_9`` before ``frame_10``."""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"([0-9]+)", name))]


def _match(expression, name):
    match = re.search(expression, name)
    if match is None:
        raise InputError(f"rgbt_folder: sequence={expression!r} finds nothing in the name {name!r} of a pair.")
    return "/".join(text or "" for text in match.groups()) or match[0]
