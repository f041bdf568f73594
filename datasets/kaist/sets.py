"""The annotation sets of a KAIST copy: the kind of each, and the choice of a config.

The kind is recognised by the boxes, not by the folder's name: widely copied "new" test annotations are the improved
ones, and two folders may have the same boxes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dcrl_jax.annotations import coco
from dcrl_jax.annotations.files import walk
from dcrl_jax.annotations.kaist import frames, truths
from dcrl_jax.annotations.kaist.folders import AnnotationFolder
from dcrl_jax.annotations.kaist.truths import Truths
from dcrl_jax.annotations.labels import PERSON
from dcrl_jax.annotations.types import MISSING, MODALITIES, Finding, checksum
from dcrl_jax.errors import InputError

NOT_COCO = "JSON file that is not read"

# By config: the kinds of annotation set of training and test, paired as in the paper's Table I and Fig. 4. Improved
# annotations exist only for the test images, sanitized ones only for the training images.
KINDS = {
    "original": {"train": "original", "test": "original"},
    "improved": {"train": "original", "test": "improved"},
    "sanitized": {"train": "sanitized", "test": "improved"},
    "paired": {"train": "paired", "test": "paired"},
}


class AnnotationSet(NamedTuple):
    """The annotations of one folder or COCO file for the frames of one split."""

    name: str
    kind: str  # "original" (any set not recognised as another kind), "improved", "sanitized" or "paired"
    truths: dict[str | None, Truths]  # by modality; None: one for both
    frames: int  # number of readable frames
    improved_videos: tuple[int, int] | None  # only of the test: videos equal to the improved boxes, and complete videos

    def describe(self, expected: int) -> str:
        """Return a one-line description; ``expected`` is the number of frames of the split."""
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
    """The annotation set of a split."""

    chosen: AnnotationSet
    notes: list[str]  # warnings about it, one line each


def read_coco_files(root: Path) -> tuple[dict[str, Truths], list[Finding]]:
    """Read the COCO files below a folder, by name relative to it; the findings list other JSON files."""
    coco_files, findings = {}, []
    for path in walk(root, (".json",)):
        try:
            coco_files[path.relative_to(root).as_posix()] = coco.read(path)
        except InputError as error:
            findings.append(Finding(NOT_COCO, str(error)))
    return coco_files, findings


def read_sets(
    annotation_folders: Sequence[AnnotationFolder],
    coco_files: Mapping[str, Truths],
    split: str,
    image_ids: Sequence[str],
) -> list[AnnotationSet]:
    """Read every annotation set that has frames of a split."""
    wanted = set(image_ids)
    sets = []
    for folder in annotation_folders:
        if not wanted & folder.frames():
            continue
        if folder.is_paired:
            read = {name: truths.read_truths(folder.files[name], image_ids, keep_rows=True) for name in MODALITIES}
            sets.append(_annotation_set(folder.name, read, None))
            continue
        files = folder.by_image()
        read = {None: truths.read_truths(files, image_ids)}
        # The kind of a set does not depend on the frames of the config.
        benchmark = [image_id for image_id in frames.split_frames("test") if image_id in files]
        improved = truths.improved_videos(truths.read_truths(files, benchmark).by_id) if split == "test" else None
        sets.append(_annotation_set(folder.name, read, improved))
    for name, content in coco_files.items():
        if wanted & content.by_id.keys():
            by_id = {image_id: content.by_id[image_id] for image_id in image_ids if image_id in content.by_id}
            missing = [Finding(MISSING, image_id) for image_id in image_ids if image_id not in by_id]
            read = {None: Truths(by_id, [*content.findings, *missing], content.formats)}
            improved = truths.improved_videos(content.by_id) if split == "test" else None
            sets.append(_annotation_set(name, read, improved))
    return sets


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
    """Choose the annotation set of a config's split.

    Args:
        sets: of ``read_sets``.
        config: a key of KINDS.
        split: ``train`` or ``test``.
        expected: number of frames of the split.
        named: the folder that the user named, if any.

    Raises:
        InputError: no set matches, several different sets match, or the named set is missing or of another kind.
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
    """Return a warning if test annotations that pass for the original ones may be the improved ones."""
    if chosen.kind != "original" or chosen.improved_videos is None:
        return []
    equal, complete = chosen.improved_videos
    if not complete:
        return [
            f"{split} annotations: {chosen.name} has all test frames of no video, so it cannot be told whether these "
            "are the original or the improved annotations"
        ]
    if equal:
        return [
            f"{split} annotations: the boxes of {chosen.name} equal the improved test annotations in {equal} of "
            f"{complete} videos; scores on them are not on the original annotations only"
        ]
    return []


def _is_same(first, second):
    """Return whether two sets have the same boxes and the same people."""

    def content(read):
        image_ids = sorted(read.by_id)
        everything = [read.by_id[image_id] for image_id in image_ids]
        people = [[one for one in image if one.label == PERSON and not one.ignore] for image in everything]
        return image_ids, checksum(everything), checksum(people)

    return all(content(read) == content(second.truths[modality]) for modality, read in first.truths.items())


def rows_differ(chosen: AnnotationSet) -> dict[str, str]:
    """Return the frames of a paired set whose two files differ in their number of rows, by image id.

    Such rows cannot be paired. The value is a text with both numbers.
    """
    if chosen.kind != "paired":
        return {}
    visible, lwir = (chosen.truths[modality].by_id for modality in MODALITIES)
    return {
        image_id: f"{len(visible[image_id])} rows for visible, {len(lwir[image_id])} for lwir"
        for image_id in visible
        if image_id in lwir and len(visible[image_id]) != len(lwir[image_id])
    }
