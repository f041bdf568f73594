"""Which label files belong to which pairs."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from datasets.rgbt_folder.files import Pair, below, image_names, resolve, without_suffix
from datasets.rgbt_folder.words import CONDITION_OF, SPLIT_OF, meaning_of, split_modality, told_by
from dcrl_jax.annotations import coco_files, label_files
from dcrl_jax.annotations.coco_files import CocoImage
from dcrl_jax.annotations.files import walk
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.annotations.types import Finding
from dcrl_jax.errors import InputError, first_few

NOT_USED = "label file, or another text, of no image that is there"
SURPASSED = "label file that is not used, since the folders of another one agree better"
SEVERAL_PAIRS = "label file whose name several pairs have; put it into the folder of its pair"
# The sides of a pair; "pair" are labels that do not say on which image they were drawn.
SIDES = ("visible", "lwir", "pair")
# Label tools put a list of the classes among the labels.
_CLASS_LISTS = ("classes.txt", "labels.txt")
_ALWAYS_TELL = frozenset((*SPLIT_OF.values(), *CONDITION_OF.values()))


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


class _Match(NamedTuple):
    side: str
    ignored_folders: int  # outer folders of the label file that say something else than the pair's
    file: LabelFile


def match_labels(root: Path, pairs: Sequence[Pair], config: Any, not_labels: Iterable[Path]) -> MatchedLabels:
    """Return the label files of each pair.

    A label file belongs to the pair whose name, or the name of whose visible or thermal file, is its own, and whose
    folders agree with its folders: as sets of words, without words of modality (``infrared``) and content (``labels``).
    If no pair has the same folders, those of the label file may say less, if only one pair fits:
    ``Annotations/190001.xml`` for ``visible/test/190001.jpg``; or its outer folders do not count, ``Anna/train/1.txt``
    for ``train/rgb/1.png``. But a word of a split, or day and night, always counts, so that no image gets the labels of
    another one. Of several label files of a pair, those whose folders agree best are taken.

    The innermost modality word in the path of a label file says on which image it was drawn; without one, it is the
    pair's. An image in a COCO file counts as a label file at the path of its ``file_name``. Cells of the column
    ``labels`` decide for their pairs.

    Args:
        root: the folder.
        pairs: its pairs.
        config: a FolderConfig; ``labels`` and ``label_folder`` count.
        not_labels: files that hold something else: lists, class names.

    Raises:
        InputError: a file of the list is missing, a COCO file is malformed, or a pair has two label files of one side.
    """
    if config.labels == "none":
        return MatchedLabels([{} for _ in pairs], 0, [], [])
    # If the folder is itself one split, its labels may say so.
    owners = _Owners(pairs, _ALWAYS_TELL - {SPLIT_OF.get(root.name.lower()), CONDITION_OF.get(root.name.lower())})
    by_pair: list[list[_Match]] = [[] for _ in pairs]
    findings, files = [], []
    for index, pair in enumerate(pairs):
        if "labels" in pair.cells:
            candidate = _listed(root, pair, config)
            by_pair[index].append(_Match(candidate.side, 0, candidate.file))
            files.append(candidate.file.path)
    skipped = {os.path.abspath(path) for path in (*not_labels, *files)}
    for candidate in _candidates(root, config.label_folder, skipped, owners.kinds):
        found, ignored_folders = owners.find(candidate)
        if len(found) == 1 and "labels" not in pairs[found[0]].cells:
            by_pair[found[0]].append(_Match(candidate.side, ignored_folders, candidate.file))
        elif len(found) > 1:
            names = ", ".join(first_few([pairs[index].name for index in found], 2))
            findings.append(Finding(SEVERAL_PAIRS, f"{candidate.file}: {names}"))
        else:
            findings.append(Finding(NOT_USED, str(candidate.file)))
        if candidate.file.coco or len(found) == 1:
            files.append(candidate.file.path)
    sides = ("visible", "lwir") if config.labels == "both" else (config.labels,)
    chosen = [_choose(matches, sides) for matches in by_pair]
    _check_single(pairs, chosen)
    other_side = 0
    for matches, by_side in zip(by_pair, chosen, strict=True):
        used = [match for matched in by_side.values() for match in matched]
        other_side += bool(matches) and not used
        rest = [match for match in matches if match.side in (*sides, "pair") and match not in used]
        findings += [Finding(SURPASSED, str(match.file)) for match in rest]
    of_pairs = [{side: matched[0].file for side, matched in by_side.items() if matched} for by_side in chosen]
    return MatchedLabels(of_pairs, other_side, findings, sorted(set(files)))


def _listed(root, pair, config):
    """Return the label file that the list of pairs names."""
    path = resolve(root, root / config.pairs, pair.cells["labels"])
    if not os.path.isfile(path):
        raise InputError(f"{path}: no such file; {config.pairs} names it as the labels of {pair.name}.")
    name = PurePosixPath(below(path, root))
    return _Candidate(LabelFile(path), name.parent.parts, without_suffix(name.stem))


class _Owners:
    """The pairs by name, to find the owner of a label file."""

    def __init__(self, pairs: Sequence[Pair], always_tell: frozenset[str]):
        self._always_tell = always_tell
        self._by_stem: dict[str, list[int]] = defaultdict(list)
        self._by_image: dict[str, int] = {}
        self._words: list[frozenset[str]] = []
        for index, pair in enumerate(pairs):
            stems = {name.rpartition("/")[2] for name in image_names(pair)}
            for stem in stems | {split_modality(stem)[0] for stem in stems}:
                self._by_stem[stem].append(index)
            paths = [PurePosixPath(name).parent.parts for name in (pair.visible_name, pair.lwir_name)]
            self._words.append(frozenset().union(*(meaning_of(parts).words for parts in paths)))
            self._by_image |= {pair.visible_name: index, pair.lwir_name: index}
        told = frozenset().union(*self._words)
        # What folders of images do not say, a COCO file or the folder of labels cannot contradict.
        self.kinds = [kind for kind in (SPLIT_OF, CONDITION_OF) if told & set(kind.values())]

    def find(self, candidate: _Candidate) -> tuple[list[int], int]:
        """Return the pairs that a label file may belong to, one if it is clear, and how many outer folders disagree."""
        image = candidate.file.coco and self._find_image(candidate.file.coco.file_name.split("/"))
        if image is not None:
            return [image], 0
        indices = self._by_stem.get(candidate.stem) or self._by_stem.get(split_modality(candidate.stem)[0], [])
        words = meaning_of(candidate.folders).words
        same = [index for index in indices if self._words[index] == words]
        found = same or [index for index in indices if self._words[index] >= words]
        ignored = 0
        while not found and ignored < len(candidate.folders):
            ignored += 1
            words = meaning_of(candidate.folders[ignored:]).words
            words |= meaning_of(candidate.folders[:ignored]).words & self._always_tell
            found = [index for index in indices if self._words[index] == words]
        return found, ignored

    def _find_image(self, parts):
        """Return the pair with the image that a path names, which may begin further up than the folder."""
        for start in range(len(parts)):
            if meaning_of(tuple(parts[:start])).words & self._always_tell:
                return None
            index = self._by_image.get("/".join(parts[start:]))
            is_bare = start + 1 == len(parts)
            if index is not None and (not is_bare or len(self._by_stem[without_suffix(parts[-1])]) == 1):
                return index
        return None


def _candidates(root, label_folder, skipped, kinds):
    """Yield all label files and the images of COCO files."""
    folder = root / label_folder if label_folder else root
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; label_folder is a folder within {root}.")
    # The folder of labels may say the modality, and what folders of images say: split, day or night. Its other words
    # tell no label file from another.
    around = _told_by(PurePosixPath(label_folder or "").parts, kinds)
    for path in walk(folder, (*label_files.SUFFIXES, ".json")):
        if os.path.abspath(path) in skipped or path.name.lower() in _CLASS_LISTS:
            continue
        name = PurePosixPath(below(path, folder))
        folders = (*around, *name.parent.parts)
        if name.suffix.lower() != ".json":
            yield _Candidate(LabelFile(path), folders, without_suffix(name.stem))
        elif coco_files.is_coco(path):
            # COCO's file_name is often bare: the name of the file itself then says these.
            names = (*folders, name.stem)
            hints = _told_by(names, kinds)
            for image in coco_files.read(path):
                name = PurePosixPath(image.file_name)
                yield _Candidate(LabelFile(path, image), (*hints, *name.parent.parts), without_suffix(name.name))


def _told_by(names, kinds):
    """Return the modality and the words of some kinds that names of folders tell."""
    return tuple(filter(None, (meaning_of(names).modality, *(told_by(names, kind) for kind in kinds))))


def _choose(matches, sides):
    """Return the label files of a pair that agree best, by side; labels of the pair are of every side."""
    chosen = {}
    for side in sides:
        candidates = [match for match in matches if match.side in (side, "pair")]
        fewest = min((match.ignored_folders for match in candidates), default=0)
        chosen[side] = [match for match in candidates if match.ignored_folders == fewest]
    first, *others = chosen.values()
    return {"pair": first} if others == [first] else chosen


def _check_single(pairs, chosen):
    """Raise an error if a pair has two label files for one side."""
    problems, example = [], Path("labels")
    for pair, by_side in zip(pairs, chosen, strict=True):
        several = next((matches for matches in by_side.values() if len(matches) > 1), [])
        if several:
            problems.append(f"{pair.name}: {' and '.join(str(match.file) for match in several)}")
            example = several[0].file.path.parent
    raise_if_any(
        problems,
        "pairs with two label files",
        f"Name the folder of those that count: label_folder=FOLDER (config.data.options.label_folder), as {example}.",
    )
