"""The common form of all annotation formats."""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

MODALITIES: tuple[str, str] = ("visible", "lwir")  # m = 1, 2 of the paper
# Conditions of an image; a record stores the index. Only NightOwls has dawn.
IMAGE_CONDITIONS = ("day", "night", "dawn")
# Levels of occlusion.
NONE, PARTIAL, HEAVY = 0, 1, 2

# Kinds of findings.
MISSING = "annotation missing"
UNREADABLE = "annotation unreadable"
REPEATED = "annotation twice, counted once"
NO_SIZE = "box of no size"
OUTSIDE = "box outside the image"
OTHER_SIZE = "labels of an image of another size"


class Annotation(NamedTuple):
    """One annotated object of one image."""

    label: str  # the annotator's class name
    # x, y, w, h in pixels of the annotated image, exactly as annotated, parts outside the image included. The origin is
    # the top left corner; a box around one pixel is 1 wide.
    box: tuple[float, float, float, float]
    occlusion: int = NONE  # NONE, PARTIAL or HEAVY; NONE where the format has no such field
    ignore: bool = False  # a detection on it is neither right nor wrong


class Finding(NamedTuple):
    """A problem of a user's file. Whatever a reader leaves out is in a finding."""

    kind: str  # the problem in general, such as MISSING; findings are counted by kind
    text: str  # where the problem is, and its details


def box_text(annotation: Annotation) -> str:
    """Return the label and box of an annotation for a message: ``label x y w h``."""
    return f"{annotation.label[:40]} {' '.join(f'{value:g}' for value in annotation.box)}"


def checksum(annotations: Sequence[Sequence[Annotation]]) -> int:
    """Return the CRC-32 of the boxes and occlusion levels of a sequence of images.

    The order within an image does not matter. Labels are left out because they differ between copies of one set: COCO
    files turn ``people`` into persons with ``ignore``.
    """
    text = "\n".join(
        ";".join(sorted("{:g} {:g} {:g} {:g} {}".format(*annotation.box, annotation.occlusion) for annotation in image))
        for image in annotations
    )
    return zlib.crc32(text.encode())
