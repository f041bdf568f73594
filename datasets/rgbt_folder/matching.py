"""Which label files belong to which pairs."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from datasets.rgbt_folder.files import Pair, image_names, without_suffix
from datasets.rgbt_folder.words import CONDITION_OF, SPLIT_OF, meaning_of, split_modality, told_by
from dcrl_jax.annotations import coco_files, label_files
from dcrl_jax.annotations.coco_files import CocoImage
from dcrl_jax.annotations.files import walk
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.annotations.types import Finding
from dcrl_jax.errors import InputError, first_few

NOT_USED = "label file of no image that is there"
SEVERAL_PAIRS = "label file whose name several pairs have; put it into the folder of its pair"
# The sides of a pair; "pair" are labels that do not say on which image they were drawn.
SIDES = ("visible", "lwir", "pair")


class LabelFile(NamedTuple):
    """A label file, or an image's entry in a COCO file."""

    path: Path
    coco: CocoImage | None = None

    def __str__(self) -> str:
        return f"{self.path}, {self.coco.file_name}" if self.coco else str(self.path)


class MatchedLabels(NamedTuple):
    """The label files of pairs."""

    of_pairs: list[dict[str, LabelFile]]  # of each pair, by side, those that ``config.labels`` asks for
    other_side: int  # pairs that have labels, but not of the side asked for
    findings: list[Finding]
    files: list[Path]  # all files read: those of pairs, and all COCO files


class _Candidate(NamedTuple):
    file: LabelFile
    folders: tuple[str, ...]  # names that say more about it, the innermost one last
    stem: str  # the name of the labelled image, maybe with a modality word

    @property
    def side(self) -> str:
        """Return the side whose image was labelled."""
        return split_modality(self.stem)[1] or meaning_of(self.folders).modality or "pair"


def match_labels(root: Path, pairs: Sequence[Pair], config: Any, not_labels: Iterable[Path]) -> MatchedLabels:
    """Return the label files of each pair.

    A label file belongs to the pair whose name, or the name of whose visible or thermal file, is its own, and whose
    folders agree with its folders: as sets of words, without words of modality (``infrared``) and content (``labels``).
    If no pair has the same folders, those of the label file may say less, if only one pair fits:
    ``Annotations/190001.xml`` for ``visible/test/190001.jpg``. They never say anything else, so that no image gets the
    labels of another split or day. The innermost modality word in the path of a label file says on which image it was
    drawn; without one, it is the pair's. An image in a COCO file counts as a label file at the path of its
    ``file_name``. Cells of the column ``labels`` decide for their pairs.

    Args:
        root: the folder.
        pairs: its pairs.
        config: a FolderConfig; ``labels`` and ``label_folder`` count.
        not_labels: files that hold something else: lists, class names.

    Raises:
        InputError: a file of the list is missing, a COCO file is malformed, or a pair has two label files of one side.
    """
    owners = _Owners(pairs)
    by_pair: list[dict[str, list[LabelFile]]] = [defaultdict(list) for _ in pairs]
    findings = []
    files = []
    for index, pair in enumerate(pairs):
        if "labels" in pair.cells:
            candidate = _listed(root, pair, config)
            by_pair[index][candidate.side].append(candidate.file)
            files.append(candidate.file.path)
    skipped = {os.path.abspath(path) for path in (*not_labels, *files)}
    for candidate in _candidates(root, config.label_folder, skipped):
        found = owners.find(candidate)
        if len(found) == 1 and "labels" not in pairs[found[0]].cells:
            by_pair[found[0]][candidate.side].append(candidate.file)
        elif len(found) > 1:
            names = ", ".join(first_few([pairs[index].name for index in found], 2))
            findings.append(Finding(SEVERAL_PAIRS, f"{candidate.file}: {names}"))
        else:
            findings.append(Finding(NOT_USED, str(candidate.file)))
        if candidate.file.coco or len(found) == 1:
            files.append(candidate.file.path)
    wanted = [_wanted(labels, config.labels) for labels in by_pair]
    _check_single(pairs, wanted, config)
    other_side = sum(bool(labels) and not any(chosen.values()) for labels, chosen in zip(by_pair, wanted, strict=True))
    chosen = [{side: labels[0] for side, labels in by_side.items() if labels} for by_side in wanted]
    return MatchedLabels(chosen, other_side, findings, sorted(set(files)))


def _listed(root, pair, config):
    """Return the label file that the list of pairs names."""
    name = PurePosixPath(pair.cells["labels"].replace("\\", "/"))
    path = root / name
    if not path.is_file():
        raise InputError(f"{path}: no such file; {config.pairs} names it as the labels of {pair.name}.")
    return _Candidate(LabelFile(path), name.parent.parts, without_suffix(name.stem))


class _Owners:
    """The pairs by name, to find the owner of a label file."""

    def __init__(self, pairs: Sequence[Pair]):
        self._by_stem: dict[str, list[int]] = defaultdict(list)
        self._by_image: dict[str, int] = {}
        folders = []
        for index, pair in enumerate(pairs):
            for stem in {name.rpartition("/")[2] for name in image_names(pair)}:
                self._by_stem[stem].append(index)
            paths = [PurePosixPath(name).parent.parts for name in (pair.visible_name, pair.lwir_name)]
            folders.append(frozenset().union(*(meaning_of(parts).words for parts in paths)))
            self._by_image |= {pair.visible_name: index, pair.lwir_name: index}
        # Folders around everything tell nothing.
        self._common = frozenset.intersection(*folders) if folders else frozenset()
        self._words = [words - self._common for words in folders]

    def find(self, candidate: _Candidate) -> list[int]:
        """Return the pairs that a label file may belong to; one if it is clear."""
        image = candidate.file.coco and self._find_image(candidate.file.coco.file_name.replace("\\", "/").split("/"))
        if image is not None:
            return [image]
        indices = self._by_stem.get(candidate.stem) or self._by_stem.get(split_modality(candidate.stem)[0], [])
        words = meaning_of(candidate.folders).words - self._common
        same = [index for index in indices if self._words[index] == words]
        return same or [index for index in indices if self._words[index] >= words]

    def _find_image(self, parts):
        """Return the pair with the image that a path names, which may begin further up than the folder."""
        for start in range(len(parts)):
            index = self._by_image.get("/".join(parts[start:]))
            is_bare = start + 1 == len(parts)
            if index is not None and (not is_bare or len(self._by_stem[without_suffix(parts[-1])]) == 1):
                return index
        return None


def _candidates(root, label_folder, skipped):
    """Yield all label files and the images of COCO files."""
    folder = root / label_folder if label_folder else root
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; label_folder is a folder within {root}.")
    # The folder of labels may say the modality, but its other words tell no label file from another.
    modality = meaning_of(PurePosixPath(label_folder or "").parts).modality
    around = (modality,) if modality else ()
    for path in walk(folder, (*label_files.SUFFIXES, ".json")):
        if os.path.abspath(path) in skipped:
            continue
        folders = (*around, *path.relative_to(folder).parent.parts)
        if path.suffix.lower() != ".json":
            yield _Candidate(LabelFile(path), folders, without_suffix(path.stem))
        elif coco_files.is_coco(path):
            # COCO's file_name is often bare: the name of the file itself then says the split and the modality.
            names = (*folders, path.stem)
            told = (told_by(names, SPLIT_OF), told_by(names, CONDITION_OF), meaning_of(names).modality)
            hints = tuple(filter(None, told))
            for image in coco_files.read(path):
                name = PurePosixPath(image.file_name.replace("\\", "/"))
                yield _Candidate(LabelFile(path, image), (*hints, *name.parent.parts), without_suffix(name.name))


def _wanted(labels, asked):
    """Return the label files of the side that is asked for; labels of the pair are of every side."""
    if asked == "both":
        return {side: labels.get(side, []) for side in SIDES}
    return {asked: [*labels.get(asked, []), *labels.get("pair", [])]}


def _check_single(pairs, wanted, config):
    """Raise an error if a pair has two label files for one side."""
    problems = []
    for pair, by_side in zip(pairs, wanted, strict=True):
        both = by_side.get("pair", []) and [file for files in by_side.values() for file in files]
        for files in (*by_side.values(), both):
            if len(files) > 1:
                problems.append(f"{pair.name}: {' and '.join(map(str, files))}")
                break
    raise_if_any(
        problems,
        "pairs with two label files",
        "Give the folder of those that count: label_folder=FOLDER (config.data.options.label_folder), such as "
        f"label_folder={_folder_of(wanted, problems)}.",
    )


def _folder_of(wanted, problems):
    files = [file for by_side in wanted for labels in by_side.values() if len(labels) > 1 for file in labels]
    return "labels" if not problems or not files else files[0].path.parent
