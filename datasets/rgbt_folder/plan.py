"""What the files of a folder are for, as far as their names and lists tell; no image is read."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasets.rgbt_folder.files import FoundPairs, below, find_pairs
from datasets.rgbt_folder.matching import MatchedLabels, match_labels
from datasets.rgbt_folder.splits import Splits, split_pairs
from dcrl_jax.annotations.class_names import find_class_names
from dcrl_jax.annotations.files import walk
from dcrl_jax.errors import InputError
from dcrl_jax.registration import Registration, read_registration

_NAMES_SUFFIXES = (".txt", ".names", ".labels", ".yaml", ".yml")


class ClassNames(NamedTuple):
    """The names of YOLO's classes."""

    names: Sequence[str] | None  # by number; None if they are not known
    source: str  # the option, or the file that has them
    problem: str  # why the files that have them cannot be used; an error only if there are YOLO labels


class Plan(NamedTuple):
    """What the files of a folder are for."""

    found: FoundPairs
    labels: MatchedLabels
    splits: Splits
    class_names: ClassNames
    registration: Registration | None
    is_labelled: bool  # whether labels are read
    files: dict[str, Path]  # all files that can change the records, by their names below the folder


def make_plan(root: Path, config: Any) -> Plan:
    """Return what the files of a folder are for.

    Raises:
        InputError: there are no pairs, a list or an option cannot be used, or files contradict each other.
    """
    found = find_pairs(root, config)
    registration = read_registration(config.lwir_to_visible, root)
    splits = split_pairs(root, found.pairs, config)
    class_names = _find_names(root, config)
    others = [path for path in splits.files if path.suffix.lower() != ".json"]  # COCO's lists are labels, too
    others += [root / config.pairs] if config.pairs else []
    others += [root / class_names.source] if class_names.names and not config.class_names else []
    labels = match_labels(root, found.pairs, config, others)
    if isinstance(config.lwir_to_visible, str) and os.path.isfile(root / config.lwir_to_visible):
        others.append(root / config.lwir_to_visible)
    images = [path for pair in found.pairs for path in (pair.visible, pair.lwir)]
    files = {below(path, root): path for path in (*images, *labels.files, *others)}
    return Plan(found, labels, splits, class_names, registration, config.labels != "none", files)


def _find_names(root, config):
    if config.class_names:
        return ClassNames(config.class_names, "the option class_names", "")
    files = {path.relative_to(root).as_posix(): path for path in walk(root, _NAMES_SUFFIXES)}
    try:
        found = find_class_names(files)
    except InputError as error:
        return ClassNames(None, "", f"{error}. Or name the classes: class_names=NAME,NAME (config.data.options).")
    return ClassNames(*found, "") if found else ClassNames(None, "", "")
