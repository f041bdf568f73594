"""The annotation sets of a user's copy of KAIST: their kinds, and the choice for a config.

The boxes decide the kind, not the folder's name: widely copied "new" test annotations are the improved ones, and two
folders may have the same boxes.
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

# By config: the kinds of the training and test annotations, combined as in the paper's Table I and Fig. 4. Improved
# annotations exist only for the test images, sanitized ones only for the training images.
KINDS = {
    "original": {"train": "original", "test": "original"},
    "improved": {"train": "original", "test": "improved"},
    "sanitized": {"train": "sanitized", "test": "improved"},
    "paired": {"train": "paired", "test": "paired"},
}


class AnnotationSet(NamedTuple):
    """The annotations of one folder or COCO file for the frames of one split."""

    name: str  # the folder or file, relative to the root
    kind: str  # "original" (any set not recognised as another kind), "improved", "sanitized" or "paired"
    truths: dict[str | None, Truths]  # by modality; the key None if both share one
    frames: int  # number of readable frames
    improved_videos: tuple[int, int] | None  # ``truths.improved_videos``; None for training and paired sets
    improved_roles: int = 0  # ``truths.improved_roles``, where ``improved_videos`` is not None

    def describe(self, expected: int) -> str:
        """Return a one-line description; ``expected`` is the number of frames of the split."""
        formats = sorted(set().union(*(modality.formats for modality in self.truths.values())))
        text = (
            f"{self.name}: {self.kind}, {' and '.join(formats) or 'no objects'}, {self.frames:,} of {expected:,} frames"
        )
        equal, complete = self.improved_videos or (0, 0)
        if complete:
            text += f", boxes equal to the improved test annotations in {equal} of {complete} videos"
        if self.improved_roles < equal:
            text += f", labels and flags too in {self.improved_roles} of them"
        if not self.frames:
            reasons = (": ".join(finding) for modality in self.truths.values() for finding in modality.findings)
            text += f"; {next(reasons, '')}"
        return text


class Choice(NamedTuple):
    """The annotation set of a split."""

    chosen: AnnotationSet
    notes: list[str]  # warnings about it, one line each


def read_coco_files(root: Path) -> tuple[dict[str, Truths], list[Finding]]:
    """Return the COCO files below a folder, by path relative to it, and findings on the JSON files that are none."""
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
    """Read every annotation set that has frames of a split.

    Args:
        annotation_folders: the folders of the user's copy.
        coco_files: the content of its COCO files by name.
        split: ``train`` or ``test``.
        image_ids: the frames of the split.

    Raises:
        InputError: a set that is not paired has several files for a frame.
    """
    wanted = set(image_ids)
    sets = []
    for folder in annotation_folders:
        if not wanted & folder.frames():
            continue
        if folder.is_paired:
            by_modality = {
                name: truths.read_truths(folder.files[name], image_ids, keep_rows=True) for name in MODALITIES
            }
            sets.append(_annotation_set(folder.name, by_modality, None))
            continue
        files = folder.by_image()
        by_modality = {None: truths.read_truths(files, image_ids)}
        # The benchmark's frames decide the kind of a set, whatever the frames of the config.
        benchmark = [image_id for image_id in frames.split_frames("test") if image_id in files]
        compared = truths.read_truths(files, benchmark).by_id if split == "test" else None
        sets.append(_annotation_set(folder.name, by_modality, compared))
    for name, content in coco_files.items():
        if wanted & content.by_id.keys():
            by_id = {image_id: content.by_id[image_id] for image_id in image_ids if image_id in content.by_id}
            missing = [Finding(MISSING, image_id) for image_id in image_ids if image_id not in by_id]
            by_modality = {None: Truths(by_id, [*content.findings, *missing], content.formats)}
            sets.append(_annotation_set(name, by_modality, content.by_id if split == "test" else None))
    return sets


def _annotation_set(name, by_modality, compared):
    """Return the set; ``compared`` has its annotations of the benchmark's test frames, None for training."""
    improved = None if compared is None else truths.improved_videos(compared)
    first = next(iter(by_modality.values()))
    if None not in by_modality:
        kind = "paired"
    elif "corners" in first.formats:
        kind = "sanitized"
    elif improved is not None and improved[0] == improved[1] > 0:
        kind = "improved"
    else:
        kind = "original"
    roles = 0 if compared is None else truths.improved_roles(compared)
    return AnnotationSet(name, kind, by_modality, len(first.by_id), improved, roles)


def choose(sets: Sequence[AnnotationSet], config: str, split: str, expected: int, named: str | None = None) -> Choice:
    """Choose the annotation set of a config's split.

    Args:
        sets: the sets from ``read_sets``.
        config: a key of KINDS.
        split: ``train`` or ``test``.
        expected: number of frames of the split.
        named: the folder that the user named; None to recognise the set.

    Raises:
        InputError: no set matches, several different sets match, or the named set is missing or of another kind.
    """
    wanted = KINDS[config][split]
    option = f"--{split}_annotations=FOLDER"
    listing = "\n".join(f"  {candidate.describe(expected)}" for candidate in sets) or "  none that has these frames"
    readable = [candidate for candidate in sets if candidate.frames]
    if named is not None:
        chosen = next((candidate for candidate in readable if candidate.name == named.strip("/")), None)
        if chosen is None:
            raise InputError(f"{split} annotations: {named!r} is not one of the sets found:\n{listing}")
        return Choice(chosen, _check_named(chosen, config, split, wanted))
    matching = [candidate for candidate in readable if candidate.kind == wanted]
    if not matching:
        raise InputError(
            f"{split} annotations: config {config!r} needs {wanted} ones. Found:\n{listing}\n"
            f"Add them, name a folder with {option}, or choose another config: {', '.join(KINDS)}."
        )
    if not all(_is_same(candidate, matching[0]) for candidate in matching[1:]):
        raise InputError(
            f"{split} annotations: several sets could be the {wanted} ones. Name one with {option}:\n{listing}"
        )
    chosen = matching[0]
    notes = _check_original(chosen, split) + _check_improved(chosen, split)
    if len(matching) > 1:
        names = " and ".join(candidate.name for candidate in matching)
        notes.append(f"{split} annotations: {names} hold the same boxes; {chosen.name} is read")
    return Choice(chosen, notes)


def _check_named(chosen, config, split, wanted):
    """Return the warnings about a set that the user named; raise InputError if the config cannot use it."""
    if chosen.kind == wanted:
        return _check_original(chosen, split) + _check_improved(chosen, split)
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


def _check_improved(chosen, split):
    """Return a warning, in a list, if only the boxes of a set are the improved ones, so that other people count."""
    equal, complete = chosen.improved_videos or (0, 0)
    if chosen.kind != "improved" or chosen.improved_roles == equal:
        return []
    return [
        f"{split} annotations: the boxes of {chosen.name} equal the improved test annotations in {equal} of {complete} "
        f"videos, but labels and ignore flags only in {chosen.improved_roles}; other people count, so scores are not "
        "comparable with those on the improved annotations"
    ]


def _check_original(chosen, split):
    """Return a warning, in a list, if a set of kind "original" may have improved test annotations."""
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

    def content(by_id):
        image_ids = sorted(by_id)
        images = [by_id[image_id] for image_id in image_ids]
        people = [[row for row in image if row.label == PERSON and not row.ignore] for image in images]
        return image_ids, checksum(images), checksum(people)

    return all(content(first.truths[name].by_id) == content(second.truths[name].by_id) for name in first.truths)


def find_unpairable(chosen: AnnotationSet) -> dict[str, str]:
    """Return the frames whose two files have different numbers of rows, so that rows cannot be paired.

    Returns:
        By image id, a text with both numbers. Empty if the set is not paired.
    """
    if chosen.kind != "paired":
        return {}
    visible, lwir = (chosen.truths[modality].by_id for modality in MODALITIES)
    return {
        image_id: f"{len(visible[image_id])} rows for visible, {len(lwir[image_id])} for lwir"
        for image_id in visible
        if image_id in lwir and len(visible[image_id]) != len(lwir[image_id])
    }
