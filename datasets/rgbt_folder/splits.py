"""Which pairs train, validate and test."""

import glob
import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from datasets.rgbt_folder.files import Pair, image_names, without_suffix
from datasets.rgbt_folder.options import SPLITS
from datasets.rgbt_folder.sequences import choose_sequences, explain_one_sequence, sequence_names
from datasets.rgbt_folder.words import SPLIT_OF, told_by
from dcrl_jax.annotations import coco_files
from dcrl_jax.annotations.files import walk
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.annotations.text import read_text
from dcrl_jax.annotations.types import Finding
from dcrl_jax.errors import InputError, first_few

NO_SPLIT = "pair of no split, left out"
NO_PAIR = "line of a list that names no pair"


class Splits(NamedTuple):
    """The splits of a folder."""

    of_pairs: list[str | None]  # of each pair; None leaves it out
    source: str  # what decides, for the user
    findings: list[Finding]
    files: list[Path]  # the lists that were read


def split_pairs(root: Path, pairs: Sequence[Pair], config: Any) -> Splits:
    """Return the split of each pair.

    If the options tell what a sequence is, whole sequences are chosen for testing. Else the column ``split`` of the
    list of pairs decides; else the given lists; else folders that are called after a split; else the word of a split in
    the names of folders and files, if all pairs have one; else lists that are called ``train.txt`` and the like, or
    COCO files with such a word in their names; else sequences. Single frames are never chosen: the next frame of a
    video is almost the same image.

    Raises:
        InputError: a list cannot be used, or nothing tells the sequences; the message lists the remedies.
    """
    if config.split in SPLITS:
        return Splits([config.split] * len(pairs), f"all pairs are {config.split}, as the option split says", [], [])
    if config.split == "sequence" or config.sequence or config.sequence_images:
        return _by_sequence(pairs, config)
    if any("split" in pair.cells for pair in pairs):
        return _by_column(root / config.pairs, pairs)
    lists = {split: _given_lists(root, split, pattern) for split, pattern in config.lists().items() if pattern}
    if lists:
        return _by_lists(pairs, lists)
    paths = [PurePosixPath(without_suffix(pair.visible_name)).parts for pair in pairs]
    folders = [[SPLIT_OF[name.lower()] for name in path[:-1] if name.lower() in SPLIT_OF] for path in paths]
    if any(folders):
        return _with_findings([told[-1] if told else None for told in folders], "the folders", pairs)
    told = [told_by(path, SPLIT_OF) for path in paths]  # a folder may be called train_station
    if all(told):
        return _with_findings(told, "words in the names", pairs)
    lists = _lists_by_name(root, pairs)
    return _by_lists(pairs, lists) if lists else _by_sequence(pairs, config)


def advice(splits: Sequence[str]) -> list[str]:
    """Return what to know of a data set that has these splits, one line each."""
    if "test" not in splits and "validation" in splits:
        keys = " and ".join(f"--config.data.{key}_split=validation" for key in ("test", "validation"))
        return [f"no test split: runs score the validation split with {keys}"]
    if "test" not in splits:
        return [
            "no test split: nothing to score on. Use split=sequence to hold out sequences for testing, name the test "
            "images with test_list, or train with slices: --config.data.train_split=train[:80%] and "
            "--config.data.{test,validation}_split=train[80%:]"
        ]
    if "validation" in splits:
        return ["the best checkpoint is chosen on the validation split with --config.data.validation_split=validation"]
    return []


def _with_findings(splits, source, pairs, findings=(), files=()):
    left_out = [Finding(NO_SPLIT, pair.name) for pair, split in zip(pairs, splits, strict=True) if not split]
    return Splits(splits, source, [*findings, *left_out], list(files))


def _by_column(path, pairs):
    cells = [pair.cells.get("split", "") for pair in pairs]
    splits = [SPLIT_OF.get(cell.lower()) for cell in cells]
    problems = [
        f"{pair.name}: split {cell!r}"
        for pair, cell, split in zip(pairs, cells, splits, strict=True)
        if cell and not split
    ]
    raise_if_any(problems, f"{path}", "Expected train, validation or test in the column split.")
    return _with_findings(splits, f"the column split of {path.name}", pairs)


def _given_lists(root, split, pattern):
    names = glob.glob(os.path.join(glob.escape(os.fspath(root)), pattern), recursive=True)
    paths = [Path(name) for name in sorted(names) if os.path.isfile(name)]
    if not paths:
        raise InputError(f"{root}: no file matches {split}_list={pattern!r}, a pattern that starts at the folder.")
    return paths


def _lists_by_name(root, pairs):
    """Return the lists that are called after a split and name pairs."""
    lists = defaultdict(list)
    index = _Index(pairs)
    for path in walk(root, (".txt", ".json")):
        is_json = path.suffix.lower() == ".json"
        split = told_by((path.stem,), SPLIT_OF) if is_json else SPLIT_OF.get(path.stem.lower())
        lines = _lines(path) if split and (not is_json or coco_files.is_coco(path)) else []
        found = [index.find(line) for line in lines if line]
        # A label file called so names pairs by chance at most.
        if 2 * sum(len(pairs) == 1 for pairs in found) > len(found):
            lists[str(split)].append((path, {pairs[0] for pairs in found if pairs}))
    for split, found in lists.items():
        if any(pairs != found[0][1] for _, pairs in found):
            names = " and ".join(first_few([os.path.relpath(path, root) for path, _ in found], 3))
            raise InputError(
                f"{root}: {names} name different {split} pairs. Name the list of each split that you want: "
                "train_list=FILE, validation_list=FILE, test_list=FILE."
            )
    return {split: [path for path, _ in found] for split, found in lists.items()}


def _by_lists(pairs, lists):
    """Return the splits of lists, by split."""
    index = _Index(pairs)
    splits: list[str | None] = [None] * len(pairs)
    findings, problems = [], []
    lines = [
        (split, f"{path}:{number}: {line}", line)
        for split, paths in lists.items()
        for path in paths
        for number, line in enumerate(_lines(path), start=1)
        if line
    ]
    for split, place, line in lines:
        found = index.find(line)
        if not found:
            findings.append(Finding(NO_PAIR, f"{split}: {place}"))
        elif len(found) > 1:
            names = ", ".join(first_few([pairs[pair].name for pair in found], 3))
            problems.append(f"{place}: names several pairs, {names}")
        elif splits[found[0]] not in (None, split):
            problems.append(f"{place}: is in the list of the {splits[found[0]]} pairs, too")
        else:
            splits[found[0]] = split
    raise_if_any(problems, "lists of the splits", "Name each pair once, if need be with its folders.")
    files = [path for paths in lists.values() for path in paths]
    names = ", ".join(path.name for path in files)
    if not any(splits):
        unknown = "; ".join(first_few([text for _, text in findings], 3))
        raise InputError(f"{names}: no line names a pair such as {pairs[0].name} ({unknown}).")
    return _with_findings(splits, f"lists: {names}", pairs, findings, files)


class _Index:
    """The pairs by all names that a line of a list may have for them."""

    def __init__(self, pairs: Sequence[Pair]):
        self._pairs: dict[str, set[int]] = defaultdict(set)
        for index, pair in enumerate(pairs):
            for name in image_names(pair):
                for tail in _tails(name):
                    self._pairs[tail].add(index)

    def find(self, line: str) -> list[int]:
        """Return the pairs that a line may name: with or without folders and suffix, or with more words behind it.

        KAIST's lists have the folders of the original, ``set00/V000/I00000``, also for ``set00_V000_I00000``.
        """
        for text in (line, *line.split()[:1], line.replace("/", "_")):
            for tail in _tails(without_suffix(text.replace("\\", "/"))):
                if found := self._pairs.get(tail):
                    return sorted(found)
        return []


def _tails(name):
    """Return a path, and its ends without the first folders."""
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _lines(path):
    if path.suffix.lower() == ".json":
        return [image.file_name for image in coco_files.read(path)]
    return [line.strip() for line in unicodedata.normalize("NFC", read_text(path)).split("\n")]


def _by_sequence(pairs, config):
    names = sequence_names(pairs, config)
    if len(set(names)) < 2:
        raise InputError(explain_one_sequence(pairs))
    chosen = choose_sequences(names, config.test_share, config.split_seed)
    splits = ["test" if name in set(chosen) else "train" for name in names]
    share = splits.count("test") / len(splits)
    source = (
        f"by sequence: {len(chosen):,} of {len(set(names)):,} test ({share:.0%} of the pairs, asked for "
        f"{config.test_share:.0%}, split_seed={config.split_seed}): {', '.join(first_few(chosen, 20))}"
    )
    return _with_findings(splits, source, pairs)
