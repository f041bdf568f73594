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


def sequence_names(pairs: Sequence[Pair], config: Any) -> list[str]:
    """Return the name of each pair's sequence.

    It is the cell of the column ``sequence``; else what ``config.sequence`` finds in the name without the folder of the
    split, its groups if it has some; else the folders of the name; else the name without its last number. The last two
    rules count only if they tell at least two sequences. With ``config.sequence_images``, each sequence is cut into
    blocks of so many images in the order of their names.

    Raises:
        InputError: ``config.sequence`` does not find anything in a name.
    """
    names = _plain_sequences(pairs, config)
    if not config.sequence_images:
        return names
    counts, blocks = Counter(), []
    for name in names:  # pairs are sorted by name
        blocks.append(f"{name or 'images'}#{counts[name] // config.sequence_images + 1}")
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
    """Return the message for a folder of which all pairs are one sequence."""
    examples = ", ".join(pair.name for pair in pairs[:3])
    return (
        f"all {len(pairs):,} pairs are of one sequence by their names ({examples}), so none can be "
        "held out for testing: frames of one video are nearly alike, and a detector that trained on some of them "
        "scores too well on the others. Say what is a sequence, or which pairs test:\n"
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
    if len(set(folders)) > 1:
        return folders
    numbered = [f"{folder}/{_before_number(pair.name)}".strip("/") for folder, pair in zip(folders, pairs, strict=True)]
    return numbered if len(set(numbered)) > 1 else folders


def _telling(name):
    """Return the folders of a pair's name that may be sequences: not those of a split, day and night, or content."""
    folders = name.split("/")[:-1]
    told = {*SPLIT_OF.values(), *CONDITION_OF.values()}
    return [folder for folder in folders if meaning_of((folder,)).words - told]


def _before_number(name):
    stem = name.rpartition("/")[2]
    number = list(_LAST_NUMBER.finditer(stem))
    return stem[: number[-1].start()] if number else stem


def _match(expression, name):
    match = re.search(expression, name)
    if match is None:
        raise InputError(f"rgbt_folder: sequence={expression!r} finds nothing in the name {name!r} of a pair.")
    return "/".join(text or "" for text in match.groups()) or match[0]
