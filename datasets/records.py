"""The one record schema of every data set.

A record is one registered RGB-thermal pair, or one RGB image, with its annotations:

======================  =======================================================================================
``image_id``            text, unique in its data set; names the image in results files and messages
``visible``             encoded RGB image, uint8 ``[H, W, 3]``
``lwir``                encoded long-wave infrared image of the same scene and size. Grey files are stored as they
                        are and decode to one channel or to three equal ones: take the first. RGB-only sets have none
``condition``           0 day, 1 night (``CONDITIONS``); 2 dawn, in NightOwls alone
``objects``             sequence, maybe empty, of
  ``box``               float32 ``[4]``: ``[x, y, w, h]`` in pixels of the stored images, exactly as annotated;
                        the origin is the top left corner, a box around one pixel is 1 wide
  ``label``             text, the annotator's class: ``person``, ``people`` (a group), ``person?``, ``cyclist``...
  ``occlusion``         0 none, 1 partial, 2 heavy
  ``ignore``            true where a detection is neither right nor wrong, whatever the label says
``objects_lwir``        only where each image was annotated by itself (KAIST's paired annotations): as ``objects``,
                        which then are those of the visible image. Row i of both is the same object; one that a
                        modality does not show has the label ``unpaired`` there
======================  =======================================================================================

Which labels count as pedestrians, and which heights and occlusions are scored, is decided by who reads the records.
Builders hand images over as paths or as encoded bytes in ``io.BytesIO``, so that files are stored untouched and
nothing needs TensorFlow. Readers get the encoded bytes with ``decoders={"visible": SkipDecoding(), ...}``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from dcrl_jax.annotations.types import Annotation

CONDITIONS = ("day", "night")
CONDITIONS_AND_DAWN = (*CONDITIONS, "dawn")


def features(
    paired: bool = False, lwir: bool = True, conditions: Sequence[str] = CONDITIONS
) -> tfds.features.FeaturesDict:
    """Returns the features every builder declares; see the module's table for shapes, types and units.

    Args:
        paired: whether the record has ``objects_lwir``.
        lwir: whether it has a thermal image.
        conditions: the names of ``condition``; ``CONDITIONS_AND_DAWN`` is the other choice.
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
    """Returns the annotations of one image as ``objects`` of a record."""
    return [one._asdict() | {"box": np.array(one.box, np.float32)} for one in annotations]
