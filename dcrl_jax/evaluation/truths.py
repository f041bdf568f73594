"""Annotations in the form of the scorer, from prepared data sets and from annotation files."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dcrl_jax.annotations.types import Annotation
from dcrl_jax.data import records
from dcrl_jax.decoding import upright_size
from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.overlaps import ImageTruth
from dcrl_jax.evaluation.rules import IMAGE_CONDITIONS


class Truths(NamedTuple):
    """The annotations of a split, in its order."""

    images: list[ImageTruth]
    sizes: list[tuple[int, int]]  # width and height in pixels, as annotated


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
    images, sizes = [], []
    for index in range(len(source)):
        record = source[index]
        annotated = record[objects]
        images.append(
            ImageTruth(
                image_id=records.text(record["image_id"]),
                condition=IMAGE_CONDITIONS[int(record["condition"])],
                boxes=np.asarray(annotated["box"], np.float64).reshape(-1, 4),
                labels=[records.text(label) for label in annotated["label"]],
                occlusion=np.asarray(annotated["occlusion"], int),
                ignore=np.asarray(annotated["ignore"], bool),
            )
        )
        sizes.append(upright_size(Image.open(io.BytesIO(record["visible"]))))
    return Truths(images, sizes)


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
        builder = tfds.builder_from_directory(folder)
        source = records.open_split(builder, split)
        features: Any = builder.info.features  # a FeaturesDict
        metadata = builder.info.metadata or {}
        return PreparedTruths(
            {name: read_truths(source, name).images for name in ("objects", "objects_lwir") if name in features},
            metadata.get("annotations", {}).get(split),
            list(metadata.get("warnings", ())),
        )
    except InputError:
        raise
    except Exception as error:  # the parsers below raise all kinds of exceptions
        raise InputError(f"{folder}: not readable as a prepared data set ({error}); prepare it again") from error


def truth_from_annotations(image_id: str, condition: str, annotations: Sequence[Annotation]) -> ImageTruth:
    """Return the annotations of one image in the form of the scorer."""
    return ImageTruth(
        image_id=image_id,
        condition=condition,
        boxes=np.array([annotation.box for annotation in annotations], np.float64).reshape(-1, 4),
        labels=[annotation.label for annotation in annotations],
        occlusion=np.array([annotation.occlusion for annotation in annotations], int),
        ignore=np.array([annotation.ignore for annotation in annotations], bool),
    )
