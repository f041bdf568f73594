"""What every annotation format is read into."""

import zlib
from collections.abc import Sequence
from typing import NamedTuple

# Kinds of findings: an image has no annotations, or none that can be read.
MISSING = "annotation missing"
UNREADABLE = "annotation unreadable"


class Annotation(NamedTuple):
    """One annotated object of one image.

    ``label`` is the annotator's class name. ``box`` is ``(x, y, w, h)`` in pixels of the annotated image, exactly as
    annotated, parts outside the image included; the origin is the top left corner and a box around one pixel is 1
    wide. ``occlusion`` is 0 none, 1 partial, 2 heavy; formats that do not say have 0. ``ignore`` is true where a
    detection is neither right nor wrong.
    """

    label: str
    box: tuple[float, float, float, float]
    occlusion: int = 0
    ignore: bool = False


class Finding(NamedTuple):
    """Something about a file that its reader has to know: nothing is dropped in silence."""

    kind: str  # one of a few; findings are counted by it
    text: str  # the place, and what was found there


def checksum(annotations: Sequence[Sequence[Annotation]]) -> int:
    """A CRC-32 of the boxes and occlusion levels of some images, whatever the order within each, labels left aside.

    Labels differ between copies of one set: COCO files turn ``people`` into persons that are ignored.
    """
    text = "\n".join(
        ";".join(sorted(f"{'{:g} {:g} {:g} {:g}'.format(*one.box)} {one.occlusion}" for one in image))
        for image in annotations
    )
    return zlib.crc32(text.encode())
