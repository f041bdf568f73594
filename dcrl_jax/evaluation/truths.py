"""Annotations in the form of the scorer, from prepared data sets and from annotation files."""

import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcrl_jax.annotations.repeats import drop_repeats
from dcrl_jax.annotations.types import NO_SIZE, REPEATED, Annotation
from dcrl_jax.data import records
from dcrl_jax.decoding import open_image, upright_size
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.overlaps import ImageTruth
from dcrl_jax.evaluation.rules import IMAGE_CONDITIONS

# The keys of features.json by which TFDS finds a class: of its former format and of both spellings of the present one.
_CLASS_KEYS = ("type", "pythonClassName", "python_class_name")


class Truths(NamedTuple):
    """The annotations of a split, in its order."""

    images: list[ImageTruth]
    sizes: list[tuple[int, int]]  # width and height in pixels, as annotated
    warnings: list[str]  # about repeated annotations; one line, or none


class PreparedTruths(NamedTuple):
    """The annotations of a split of a prepared data set, with notes of the data set."""

    images: dict[str, list[ImageTruth]]  # by feature: ``objects`` and, in paired data, ``objects_lwir``
    source: str | None  # the annotation set, if the data set names it
    warnings: list[str]  # one line each, to print beside every score


def read_truths(source: Sequence[Any], objects: str = "objects") -> Truths:
    """Read a split's annotations and the sizes of the upright images, which are not decoded.

    Args:
        source: records of ``records.open_split``, whose images are encoded bytes.
        objects: the feature with the annotations. Paired data has those of the thermal image in ``objects_lwir``.
    """
    rows, sizes = [], []
    for index in range(len(source)):
        record = source[index]
        annotated = record[objects]
        columns = [np.asarray(annotated[name]).tolist() for name in ("box", "occlusion", "ignore")]
        annotations = [
            Annotation(records.text(label), tuple(box), level, ignore)
            for label, box, level, ignore in zip(annotated["label"], *columns, strict=True)
        ]
        rows.append((records.text(record["image_id"]), IMAGE_CONDITIONS[int(record["condition"])], annotations))
        sizes.append(upright_size(open_image(io.BytesIO(record["visible"]), rows[-1][0])))
    images, warnings = to_truths(rows)
    return Truths(images, sizes, warnings)


def is_prepared(path: Path) -> bool:
    """Return whether a path is the folder of a prepared data set."""
    return (path / "dataset_info.json").is_file()


def read_prepared(folder: Path, split: str) -> PreparedTruths:
    """Read the annotations of a split of a prepared data set.

    Raises:
        InputError: the data set is unreadable or has no such split.
    """
    # Imported here because it takes seconds and only prepared data needs it.
    import tensorflow_datasets as tfds

    try:
        _check_features(folder / "features.json")
        builder = tfds.builder_from_directory(folder)
        source = records.open_split(builder, split)
        features: Any = builder.info.features  # a FeaturesDict
        metadata = builder.info.metadata or {}
        truths = {name: read_truths(source, name) for name in ("objects", "objects_lwir") if name in features}
        return PreparedTruths(
            {name: read.images for name, read in truths.items()},
            metadata.get("annotations", {}).get(split),
            [*metadata.get("warnings", ()), *(f"{name}: {text}" for name in truths for text in truths[name].warnings)],
        )
    except InputError:
        raise
    except Exception as error:  # the parsers below raise all kinds of exceptions
        raise InputError(f"{folder}: not readable as a prepared data set ({error}); prepare it again") from error


def _check_features(file: Path) -> None:
    """Raise ValueError if a data set, which may be anybody's, has features of which TFDS would import the module."""
    classes = []

    def collect(pairs):
        classes.extend(value for key, value in pairs if key in _CLASS_KEYS and isinstance(value, str))

    if file.is_file():
        json.loads(file.read_bytes(), object_pairs_hook=collect)
    if foreign := [name for name in classes if not name.startswith("tensorflow_datasets.")]:
        raise ValueError(f"{file.name} names {foreign[0]}, which is not of TFDS")


def to_truths(images: Iterable[tuple[str, str, Sequence[Annotation]]]) -> tuple[list[ImageTruth], list[str]]:
    """Return annotated images in the form of the scorer, and notes on what is left out.

    Annotations that ``drop_repeats`` finds equal count once: detections could find only one of them. People whose box
    has no size count not at all: no detection could find them.

    Args:
        images: the id, the condition and the annotations of each image.
    """
    truths, repeated, without_size = [], 0, 0
    for image_id, condition, annotations in images:
        sized = [annotation for annotation in annotations if annotation.ignore or min(annotation.box[2:]) > 0]
        unique, _ = drop_repeats(sized, image_id)
        repeated += len(sized) - len(unique)
        without_size += len(annotations) - len(sized)
        truths.append(
            ImageTruth(
                image_id=image_id,
                condition=condition,
                boxes=np.array([annotation.box for annotation in unique], np.float64).reshape(-1, 4),
                labels=[annotation.label for annotation in unique],
                occlusion=np.array([annotation.occlusion for annotation in unique], int),
                ignore=np.array([annotation.ignore for annotation in unique], bool),
            )
        )
    counts = {NO_SIZE: without_size, REPEATED: repeated}
    return truths, [f"{kind}: {count:,}" for kind, count in counts.items() if count]
