"""Checks of image files that decode nothing: what the header says, and whether the end is there."""

import os
from pathlib import Path

from PIL import Image

from dcrl_jax.annotations.kaist.frames import HEIGHT_PX, WIDTH_PX

# Where a complete file of a format ends: markers within its last bytes.
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL_BYTES = 1024


def problem_of(path: Path) -> str | None:
    """What is wrong with an image file; None where nothing is."""
    try:
        with path.open("rb") as file, Image.open(file) as image:
            kind, size = image.format, image.size
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            tail = file.read()
    except Exception as error:  # Pillow's parsers raise whatever they stumble upon
        reason = getattr(error, "strerror", None) or "not an image"
        return f"cannot be read ({reason}, {os.path.getsize(path) if path.exists() else 0} bytes)"
    if kind not in _ENDS:
        return f"{kind} image; expected JPEG or PNG"
    if _ENDS[kind] not in tail:
        return "cut off: its end is missing"
    if size != (WIDTH_PX, HEIGHT_PX):
        return f"{size[0]}x{size[1]} pixels; expected {WIDTH_PX}x{HEIGHT_PX}, in which the boxes are annotated"
    return None
