"""Pairs without labels, from which a student learns too: its teacher's detections stand in for their annotations."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dcrl_jax import parallel
from dcrl_jax.annotations.labels import IGNORE, PERSON
from dcrl_jax.data import pipeline, sources
from dcrl_jax.data.records import text
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.evaluate import detect_split, parallelize, split_batches
from dcrl_jax.evaluation.overlaps import ImageDetections
from dcrl_jax.evaluation.truths import read_truths
from dcrl_jax.files import write_atomically
from dcrl_jax.training.step import FrozenTeacher

# The teacher's detections in the student's workdir: by image id, rows of x, y, width, height, score.
DETECTIONS_FILE = "unlabelled.json"
# A detection from the first score on is a person, one from the second score on a region to ignore.
PERSON_SCORE, IGNORE_SCORE = 0.5, 0.1
MIN_SIDE_PX = 1.0  # of the rest of a box that the border of the image cuts off


class AnnotatedRecords(Sequence):
    """The records of a split with detections in place of their annotations.

    Detections of at least ``PERSON_SCORE`` become people, others of at least ``IGNORE_SCORE`` regions to ignore, the
    best ``max_boxes`` of an image.
    """

    def __init__(self, source: Sequence[Any], detections: Mapping[str, ImageDetections], max_boxes: int):
        """Take the records of ``open_split``, and the detections by image id in pixels of the images."""
        self._source, self.detections, self._max_boxes = source, detections, max_boxes

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Any:
        record = self._source[index]
        return record | {"objects": self.objects_of(text(record["image_id"]))}

    def objects_of(self, image_id: str) -> dict[str, Any]:
        """Return the objects of an image in the form of ``datasets.records``."""
        boxes, scores = self.detections[image_id]
        kept = np.flatnonzero((scores >= IGNORE_SCORE) & np.all(boxes[:, 2:] >= MIN_SIDE_PX, axis=1))
        kept = kept[np.argsort(-scores[kept], kind="stable")][: self._max_boxes]
        is_person = scores[kept] >= PERSON_SCORE
        return {
            "box": boxes[kept].astype(np.float32),
            "label": [PERSON if person else IGNORE for person in is_person],
            "occlusion": np.zeros(len(kept), np.int32),
            "ignore": ~is_person,
        }


class JoinedRecords(Sequence):
    """The records of one sequence after those of another."""

    def __init__(self, first: Sequence[Any], second: Sequence[Any]):
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def __getitem__(self, index: int) -> Any:
        own = len(self._first)
        return self._first[index] if index < own else self._second[index - own]


def open_unlabelled(config: ConfigDict, teacher: FrozenTeacher, saved: Path | None) -> AnnotatedRecords:
    """Return the pairs of ``data.unlabelled`` with the detections of a student's teacher as their annotations.

    Args:
        config: the student's config.
        teacher: its teacher, which looks at the pairs unless ``saved`` has its detections.
        saved: the file of ``save_detections`` that a resumed run has; None if the run is new.

    Raises:
        InputError: the folder holds no pairs, or the saved detections cannot be read or are of other pairs.
    """
    builder = sources.prepare(folder_data(config.data))
    print(f"unlabelled {sources.describe(builder)}", flush=True)
    pairs = pipeline.open_split(builder, "train")
    image_ids = [text(pairs[index]["image_id"]) for index in range(len(pairs))]
    detections = _read(saved, image_ids) if saved else _detect(pairs, config, teacher)
    annotated = AnnotatedRecords(pairs, detections, config.data.max_boxes)
    labels = [label for image_id in image_ids for label in annotated.objects_of(image_id)["label"]]
    people, ignored = labels.count(PERSON), labels.count(IGNORE)
    print(f"unlabelled pairs: the teacher sees {people:,} people, and {ignored:,} regions to ignore", flush=True)
    return annotated


def save_detections(records: AnnotatedRecords, path: Path) -> None:
    """Write the detections that stand in for annotations, for a resumed run and for the user."""
    rows = {name: np.column_stack([found.boxes, found.scores]).tolist() for name, found in records.detections.items()}
    write_atomically(path, json.dumps(rows, indent=0) + "\n")


def folder_data(data: ConfigDict) -> ConfigDict:
    """Return the ``data`` keys of the folder of pairs without labels, whose cameras are those of the labelled ones."""
    own = data.copy_and_resolve_references()
    with own.unlocked():
        own.name, own.manual_dir = "rgbt_folder", data.unlabelled
        own.options = ConfigDict({"name": "unlabelled", "labels": "none", "split": "train"})
        if data.options.get("lwir_to_visible"):
            own.options.lwir_to_visible = data.options.lwir_to_visible
    return own


def _detect(pairs, config, teacher) -> Mapping[str, ImageDetections]:
    mesh = parallel.device_mesh()
    detector = parallelize(teacher.network, mesh)
    batches = split_batches(pairs, config, mesh, detector.modalities)
    params = parallel.replicate(teacher.params, mesh)
    return detect_split(detector, params, batches, read_truths(pairs), teacher.network.input_size).detections


def _read(path: Path, image_ids: Sequence[str]) -> dict[str, ImageDetections]:
    try:
        rows = json.loads(path.read_bytes())
        arrays = {name: np.array(values, np.float64).reshape(-1, 5) for name, values in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: the teacher's detections of this run's first start cannot be read ({error}). Restore the file, "
            "or start a new --workdir."
        ) from error
    if sorted(arrays) != sorted(image_ids):
        raise InputError(
            f"{path} has the teacher's detections on {len(rows):,} pairs, but config.data.unlabelled now holds "
            f"{len(image_ids):,}, or others. Restore the folder, or start a new --workdir."
        )
    return {name: ImageDetections(array[:, :4], array[:, 4]) for name, array in arrays.items()}
