"""The objects of a pair, from its label files, and what each label becomes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from datasets.rgbt_folder.matching import LabelFile
from dcrl_jax.annotations import label_files
from dcrl_jax.annotations.labels import IGNORE, PERSON
from dcrl_jax.annotations.types import OTHER_SIZE, Annotation, Finding
from dcrl_jax.errors import InputError, first_few
from dcrl_jax.registration import Registration, map_boxes

# Labels that become ``person`` unless the option person_labels names others.
PERSON_LABELS = ("person", "persons", "pedestrian", "pedestrians", "human", "humans")
# The label of people where no other label is theirs (M3FD); where one is, a group (KAIST).
GROUP = "people"
OTHER_PERSON = "other person"  # what ``person`` becomes if person_labels has other labels only
SAME_OBJECT = 0.5  # least IoU of the boxes of one object in both images

Size = tuple[int, int]  # width and height in pixels


class PairLabels(NamedTuple):
    """The labels of one pair."""

    annotations: list[Annotation]  # labels as in the files; boxes in pixels of the visible image
    findings: list[Finding]
    formats: list[str]  # of each file


def read_labels(
    files: Mapping[str, LabelFile],
    size: Size,
    lwir_size: Size,
    registration: Registration | None,
    class_names: Sequence[str] | None,
) -> PairLabels:
    """Read the label files of a pair.

    Args:
        files: by side, see ``matching.SIDES``. Labels of the side ``lwir`` are in pixels of the thermal image; if there
            are also labels of the visible image, both are merged.
        size: of the visible image.
        lwir_size: of the thermal image.
        registration: of the thermal camera; None if both images show the same.
        class_names: YOLO's names by number; None if they are not known.

    Raises:
        InputError: a file cannot be read or is malformed; NoClassNames if only the names of YOLO's classes lack.
    """
    annotations: dict[str, list[Annotation]] = {}
    findings, formats = [], []
    for side, file in files.items():
        own_size = lwir_size if side == "lwir" else size
        labels = _with_size(file, own_size) if file.coco else label_files.read(file.path, own_size, class_names)
        annotations[side] = labels.annotations
        if side == "lwir" and registration and labels.annotations:
            boxes = np.array([annotation.box for annotation in labels.annotations], np.float64)
            mapped = map_boxes(boxes, registration, lwir_size, size).tolist()
            annotations[side] = [
                annotation._replace(box=tuple(box)) for annotation, box in zip(labels.annotations, mapped, strict=True)
            ]
        findings += labels.findings
        formats.append("COCO" if file.coco else labels.format or "empty file")
    first, *others = annotations.values() or [[]]
    return PairLabels(merge(first, others[0]) if others else first, findings, formats)


def merge(visible: Sequence[Annotation], lwir: Sequence[Annotation]) -> list[Annotation]:
    """Return the objects that either image shows.

    Two boxes of one label with an IoU of at least 0.5 are one object, one to one, the best first; the visible box
    stays. All other boxes are objects of their own.
    """
    overlaps = [
        (_iou(one.box, other.box), i, j)
        for i, one in enumerate(visible)
        for j, other in enumerate(lwir)
        if (one.label, one.ignore) == (other.label, other.ignore)
    ]
    taken_visible, taken_lwir = set(), set()
    for iou, i, j in sorted(overlaps, key=lambda overlap: (-overlap[0], overlap[1:])):
        if iou >= SAME_OBJECT and i not in taken_visible and j not in taken_lwir:
            taken_visible.add(i)
            taken_lwir.add(j)
    return [*visible, *(annotation for j, annotation in enumerate(lwir) if j not in taken_lwir)]


def choose_meanings(counts: Mapping[str, int], config: Any) -> dict[str, str]:
    """Return what each label becomes: ``person``, ``ignore``, or the label itself, which is background.

    The case of labels does not matter. Without ``config.person_labels``, those of ``PERSON_LABELS`` are people;
    ``people`` is if none of them is there, as in M3FD, else it is a label of groups, as in KAIST.

    Args:
        counts: the number of objects by label.
        config: a FolderConfig; ``person_labels`` and ``ignore_labels`` count.

    Raises:
        InputError: no label is a person's.
    """
    people = {label.lower() for label in config.person_labels or PERSON_LABELS}
    if not config.person_labels and not any(label.lower() in people for label in counts):
        people = {GROUP}
    ignored = {label.lower() for label in config.ignore_labels}
    meanings = {label: OTHER_PERSON if label == PERSON else label for label in counts}
    for label in counts:
        if label.lower() in people:
            meanings[label] = PERSON
        elif label.lower() in ignored or "*" in ignored:
            meanings[label] = IGNORE
    if PERSON not in meanings.values():
        ordered = sorted(counts, key=lambda label: (-counts[label], label))
        found = ", ".join(first_few([f"{label} ({counts[label]:,})" for label in ordered], 20)) or "no object at all"
        asked = ", ".join(config.person_labels) or ", ".join((*PERSON_LABELS, GROUP))
        raise InputError(
            f"no label of the folder is a person's. Found: {found}. Expected one of: {asked}. Name the labels of "
            "people with person_labels=LABEL,LABEL (config.data.options.person_labels)."
        )
    return meanings


def unknown_labels(counts: Mapping[str, int], config: Any) -> list[str]:
    """Return the labels that options name and no object has."""
    found = {label.lower() for label in counts} | {"*"}
    return [label for label in (*config.person_labels, *config.ignore_labels) if label.lower() not in found]


def apply_meanings(annotations: Sequence[Annotation], meanings: Mapping[str, str]) -> list[Annotation]:
    """Return annotations with the labels that they become; an ignore region is ignored."""
    named = ((annotation, meanings[annotation.label]) for annotation in annotations)
    return [
        annotation._replace(label=label, ignore=annotation.ignore or label == IGNORE) for annotation, label in named
    ]


def _with_size(file, size):
    """Return the labels of an image in a COCO file, with a finding if the file says that it has another size."""
    said = file.coco.size
    if said in (None, size):
        return file.coco.labels
    text = f"{file}: {said[0]}x{said[1]} pixels, but the image has {size[0]}x{size[1]}"
    return file.coco.labels._replace(findings=[*file.coco.labels.findings, Finding(OTHER_SIZE, text)])


def _iou(box, other):
    widths, heights = (
        min(box[axis] + box[axis + 2], other[axis] + other[axis + 2]) - max(box[axis], other[axis]) for axis in (0, 1)
    )
    shared = max(0.0, widths) * max(0.0, heights)
    union = box[2] * box[3] + other[2] * other[3] - shared
    return shared / union if union > 0 else 0.0
