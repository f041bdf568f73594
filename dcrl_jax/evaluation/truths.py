"""The annotations of a prepared split, as the scorer takes them; needs no JAX."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dcrl_jax.data.records import text
from dcrl_jax.evaluation.miss_rate import ImageTruth
from dcrl_jax.evaluation.rules import IMAGE_CONDITIONS


class Truths(NamedTuple):
    """The annotations of a split, in its order."""

    images: list[ImageTruth]
    sizes: list[tuple[int, int]]  # width and height in pixels, as annotated


def read_truths(source: Sequence[Any], objects: str = "objects") -> Truths:
    """Read a split's annotations and image sizes; images are not decoded.

    Args:
        source: of ``records.open_split``: records whose images are encoded bytes.
        objects: the feature that holds the annotations; ``objects_lwir`` in paired data for those of the thermal image,
            whose visible ones then are in ``objects``.
    """
    images, sizes = [], []
    for index in range(len(source)):
        record = source[index]
        annotated = record[objects]
        images.append(
            ImageTruth(
                image_id=text(record["image_id"]),
                condition=IMAGE_CONDITIONS[int(record["condition"])],
                boxes=np.asarray(annotated["box"], np.float64).reshape(-1, 4),
                labels=[text(label) for label in annotated["label"]],
                occlusion=np.asarray(annotated["occlusion"], int),
                ignore=np.asarray(annotated["ignore"], bool),
            )
        )
        sizes.append(Image.open(io.BytesIO(record["visible"])).size)
    return Truths(images, sizes)
