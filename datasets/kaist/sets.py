"""Which of the annotation sets in a copy of KAIST is which, and which of them a config means.

A set is named by what it holds, not by what its folder is called: widely copied "new" test annotations are the
improved ones, and folders of two names may hold the same boxes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dcrl_jax.annotations import coco
from dcrl_jax.annotations.files import walk
from dcrl_jax.annotations.kaist import frames, truths
from dcrl_jax.annotations.kaist.folders import MODALITIES, AnnotationFolder
from dcrl_jax.annotations.kaist.truths import Truths
from dcrl_jax.annotations.types import MISSING, Finding, checksum
from dcrl_jax.errors import InputError

NOT_COCO = "JSON file that is not read"

# The kinds of annotation set that train and test are read from, by the name of the config: how the paper's Table I and
# Fig. 4 pair them. The improved annotations are of the test images alone, the sanitized ones of the training images.
KINDS = {
    "original": {"train": "original", "test": "original"},
    "improved": {"train": "original", "test": "improved"},
    "sanitized": {"train": "sanitized", "test": "improved"},
    "paired": {"train": "paired", "test": "paired"},
}


class AnnotationSet(NamedTuple):
    """What one folder, or one COCO file, holds for the frames of one split."""

    name: str
    kind: str  # "original" (any set without a mark of another kind), "improved", "sanitized" or "paired"
    truths: dict[str | None, Truths]  # by modality; None: of both
    frames: int  # that could be read
    improved_videos: tuple[int, int] | None  # of the test split: equal to the improved boxes in how many of how many

    def describe(self, expected: int) -> str:
        """One line on what it is."""
        formats = sorted(set().union(*(one.formats for one in self.truths.values())))
        text = (
            f"{self.name}: {self.kind}, {' and '.join(formats) or 'no objects'}, {self.frames:,} of {expected:,} frames"
        )
        equal, complete = self.improved_videos or (0, 0)
        if complete:
            text += f", boxes equal to the improved test annotations in {equal} of {complete} videos"
        if not self.frames:
            reasons = (": ".join(one) for read in self.truths.values() for one in read.findings)
            text += f"; {next(reasons, '')}"
        return text


class Choice(NamedTuple):
    """The set that a split is read from."""

    chosen: AnnotationSet
    notes: list[str]  # what the user has to know, one line each


def read_coco_files(root: Path) -> tuple[dict[str, Truths], list[Finding]]:
    """Reads the COCO files below a folder, by name relative to it; other JSON files are in the findings."""
    found, findings = {}, []
    for path in walk(root, (".json",)):
        try:
            found[path.relative_to(root).as_posix()] = coco.read(path)
        except InputError as error:
            findings.append(Finding(NOT_COCO, str(error)))
    return found, findings


def read_sets(
    annotation_folders: Sequence[AnnotationFolder],
    coco_files: Mapping[str, Truths],
    split: str,
    image_ids: Sequence[str],
) -> list[AnnotationSet]:
    """Reads every annotation set that has something on frames of a split."""
    wanted = set(image_ids)
    found = []
    for folder in annotation_folders:
        if not wanted & folder.frames():
            continue
        if folder.is_paired:
            read = {name: truths.read_truths(folder.files[name], image_ids, keep_rows=True) for name in MODALITIES}
            found.append(_annotation_set(folder.name, read, None))
            continue
        files = folder.by_image()
        read = {None: truths.read_truths(files, image_ids)}
        # What a set is does not depend on the frames that are asked for.
        benchmark = [image_id for image_id in frames.split_frames("test") if image_id in files]
        improved = truths.improved_videos(truths.read_truths(files, benchmark).by_id) if split == "test" else None
        found.append(_annotation_set(folder.name, read, improved))
    for name, content in coco_files.items():
        if wanted & content.by_id.keys():
            by_id = {image_id: content.by_id[image_id] for image_id in image_ids if image_id in content.by_id}
            missing = [Finding(MISSING, image_id) for image_id in image_ids if image_id not in by_id]
            read = {None: Truths(by_id, [*content.findings, *missing], content.formats)}
            improved = truths.improved_videos(content.by_id) if split == "test" else None
            found.append(_annotation_set(name, read, improved))
    return found


def _annotation_set(name, read, improved):
    first = next(iter(read.values()))
    if None not in read:
        kind = "paired"
    elif "corners" in first.formats:
        kind = "sanitized"
    elif improved is not None and improved[0] == improved[1] > 0:
        kind = "improved"
    else:
        kind = "original"
    return AnnotationSet(name, kind, read, len(first.by_id), improved)


def choose(sets: Sequence[AnnotationSet], config: str, split: str, expected: int, named: str | None = None) -> Choice:
    """Chooses the set that a config's split is read from.

    Args:
        sets: of ``read_sets``.
        config: a key of KINDS.
        split: ``train`` or ``test``.
        expected: how many frames the split has.
        named: the folder that the user named, where several would do or another one is meant.

    Raises:
        InputError: none fits, several different ones do, or the one that was named is something else.
    """
    wanted = KINDS[config][split]
    option = f"--{split}_annotations=FOLDER"
    listing = "\n".join(f"  {one.describe(expected)}" for one in sets) or "  none that has these frames"
    readable = [one for one in sets if one.frames]
    if named is not None:
        fitting = [one for one in readable if one.name == named.strip("/")]
        if not fitting:
            raise InputError(f"{split} annotations: {named!r} is not one of the sets found:\n{listing}")
        return Choice(fitting[0], _check_named(fitting[0], config, split, wanted))
    fitting = [one for one in readable if one.kind == wanted]
    if not fitting:
        raise InputError(
            f"{split} annotations: config {config!r} needs {wanted} ones. Found:\n{listing}\n"
            f"Add them, name a folder with {option}, or choose another config: {', '.join(KINDS)}."
        )
    if not all(_is_same(one, fitting[0]) for one in fitting[1:]):
        raise InputError(
            f"{split} annotations: several sets could be the {wanted} ones. Name one with {option}:\n{listing}"
        )
    notes = _check_original(fitting[0], split)
    if len(fitting) > 1:
        names = " and ".join(one.name for one in fitting)
        notes.append(f"{split} annotations: {names} hold the same boxes; {fitting[0].name} is read")
    return Choice(fitting[0], notes)


def _check_named(chosen, config, split, wanted):
    if chosen.kind == wanted:
        return _check_original(chosen, split)
    if wanted == "paired" or chosen.kind == "paired":
        raise InputError(f"{split} annotations: {chosen.name} is {chosen.kind}; config {config!r} needs {wanted} ones")
    if wanted == "original" and chosen.kind == "improved":
        raise InputError(
            f"{split} annotations: the boxes of {chosen.name} equal the improved test annotations, so no score on them "
            "is one on the original annotations. Choose config 'improved', or name another folder."
        )
    if wanted == "improved":
        equal, complete = chosen.improved_videos
        return [
            f"{split} annotations: {chosen.name} was named, but its boxes equal the improved test annotations in "
            f"{equal} of {complete} videos only"
        ]
    return [f"{split} annotations: {chosen.name} was named for the {wanted} ones; it looks like {chosen.kind} ones"]


def _check_original(chosen, split):
    """No score is called one on the original annotations without a word where they may be the improved ones."""
    if chosen.kind != "original" or chosen.improved_videos is None:
        return []
    equal, complete = chosen.improved_videos
    if not complete:
        return [
            f"{split} annotations: {chosen.name} has all test frames of no video; whether it is the original or the "
            "improved ones cannot be told"
        ]
    if equal:
        return [
            f"{split} annotations: the boxes of {chosen.name} equal the improved test annotations in {equal} of "
            f"{complete} videos; scores on them are not on the original annotations alone"
        ]
    return []


def _is_same(first, second):
    """Whether two sets have the same boxes and the same people among them."""

    def content(read):
        image_ids = sorted(read.by_id)
        everything = [read.by_id[image_id] for image_id in image_ids]
        people = [[one for one in image if one.label == "person" and not one.ignore] for image in everything]
        return image_ids, checksum(everything), checksum(people)

    return all(content(read) == content(second.truths[modality]) for modality, read in first.truths.items())


def rows_differ(chosen: AnnotationSet) -> dict[str, str]:
    """Frames of a paired set whose two files have different numbers of rows: what belongs together is not known.

    Returns:
        How many rows each has, by image id.
    """
    if chosen.kind != "paired":
        return {}
    visible, lwir = (chosen.truths[modality].by_id for modality in MODALITIES)
    return {
        image_id: f"{len(visible[image_id])} rows for visible, {len(lwir[image_id])} for lwir"
        for image_id in visible
        if image_id in lwir and len(visible[image_id]) != len(lwir[image_id])
    }
