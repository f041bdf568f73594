"""The record schema of all data sets.

A record is one registered RGB-thermal pair, or one RGB image, with its annotations:

======================  =======================================================================================
``image_id``            text, unique in its data set; names the image in results files and messages
``visible``             encoded RGB image, uint8 ``[H, W, 3]``
``lwir``                encoded long-wave infrared image of the same scene and size. Grey files are stored as they
                        are and decode to one channel or to three equal ones. RGB-only data sets have no ``lwir``
``condition``           index into ``IMAGE_CONDITIONS``: 0 day, 1 night, 2 dawn (only NightOwls)
``objects``             sequence, may be empty, of
  ``box``               float32 ``[4]``: ``[x, y, w, h]`` in pixels of the stored images, exactly as annotated;
                        the origin is the top left corner, a box around one pixel is 1 wide
  ``label``             text, the annotator's class: ``person``, ``people`` (a group), ``person?``, ``cyclist``...
  ``occlusion``         0 none, 1 partial, 2 heavy
  ``ignore``            true if a detection on the object is neither right nor wrong, whatever its label
``objects_lwir``        only if each image has its own annotations (KAIST's paired ones): as ``objects``, which then
                        are those of the visible image. Row i of both is the same object; an object that a modality
                        does not show has the label ``unpaired`` in that modality
======================  =======================================================================================

The reader of a record decides which labels, heights and occlusions count. Builders pass images as paths or as encoded
bytes in ``io.BytesIO``, so that files are stored unchanged and nothing needs TensorFlow. Readers get the encoded bytes
with ``decoders={"visible": SkipDecoding(), ...}``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from dcrl_jax.annotations.types import IMAGE_CONDITIONS, Annotation

CONDITIONS = IMAGE_CONDITIONS[:2]


def features(
    paired: bool = False, lwir: bool = True, conditions: Sequence[str] = CONDITIONS
) -> tfds.features.FeaturesDict:
    """Return the TFDS features of a data set; the module's table has shapes, types and units.

    Args:
        paired: whether records have ``objects_lwir``.
        lwir: whether records have a thermal image.
        conditions: the names of ``condition``: ``CONDITIONS``, or ``IMAGE_CONDITIONS`` with dawn.
    """

    def sequence():
        return tfds.features.Sequence(
            {
                "box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                "label": tfds.features.Text(),
                "occlusion": tfds.features.Scalar(dtype=np.int32),
                "ignore": tfds.features.Scalar(dtype=np.bool_),
            }
        )

    return tfds.features.FeaturesDict(
        {
            "image_id": tfds.features.Text(),
            "visible": tfds.features.Image(shape=(None, None, 3)),
            **({"lwir": tfds.features.Image(shape=(None, None, 3))} if lwir else {}),
            "condition": tfds.features.ClassLabel(names=list(conditions)),
            "objects": sequence(),
            **({"objects_lwir": sequence()} if paired else {}),
        }
    )


def objects(annotations: Sequence[Annotation]) -> list[dict[str, Any]]:
    """Return the annotations of one image in the form of a record's ``objects``."""
    return [annotation._asdict() | {"box": np.array(annotation.box, np.float32)} for annotation in annotations]
