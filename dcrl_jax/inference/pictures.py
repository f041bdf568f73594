"""The annotated pictures of a run over files: JPEG images, with names of their own."""

import os
from pathlib import Path

import cv2
import numpy as np

from dcrl_jax.files import atomic_path

JPEG_QUALITY = 92
JPEG_SIDE = 65_500  # pixels that a JPEG image may have on a side
LONGEST_NAME = 230  # bytes; file systems take 255, and suffixes follow


def picture_names(names: list[str]) -> dict[str, str]:
    """Return a distinct file name for the annotated JPEG image of each name."""
    pictures, taken = {}, set()
    is_jpeg = {name: name.lower().endswith((".jpg", ".jpeg")) for name in names}
    for name in sorted(names, key=is_jpeg.__getitem__, reverse=True):
        folder, file = os.path.split(name)
        if len(os.fsencode(file)) > LONGEST_NAME:
            file = f"{os.fsdecode(os.fsencode(file)[:LONGEST_NAME])}~"
        picture = os.path.join(folder, file if is_jpeg[name] and file[-1] != "~" else f"{file}.jpg")
        while picture in taken:
            picture += ".jpg"
        pictures[name] = picture
        taken.add(picture)
    return pictures


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture, uint8 [H, W, 3] RGB, completely or not at all; one too long for JPEG becomes smaller."""
    step = -(-max(picture.shape) // JPEG_SIDE)
    bgr = cv2.cvtColor(picture[::step, ::step], cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    with atomic_path(path) as new:
        new.write_bytes(encoded)
