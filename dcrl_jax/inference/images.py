"""Reading of images from paths or arrays, with checks that a network can use them."""

import io
import os
import re
from pathlib import Path
from typing import Any, NamedTuple, cast

import cv2
import jax
import numpy as np
import PIL.Image
import PIL.ImageOps

from dcrl_jax.errors import InputError

Image = str | os.PathLike | np.ndarray | jax.Array
# Pillow raises an OSError for truncated data, and the other errors for broken headers.
_UNREADABLE = (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError)
_PAGED_FORMATS = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")  # an MPO file's other images are previews or a second view


class Page(NamedTuple):
    """One of the images of a file, e.g. of a stack of TIFF pages."""

    name: str
    stack: PIL.Image.Image  # open; one thread at a time reads its pages
    index: int


def page_indices(image: PIL.Image.Image) -> list[int]:
    """Return the indices of the images that an open file holds, without previews and masks of others."""
    count = getattr(image, "n_frames", 1) if image.format in _PAGED_FORMATS else 1
    if image.format != "TIFF":
        return list(range(count))
    indices = []
    for index in range(count):
        image.seek(index)
        # NewSubfileType (TIFF 6.0, page 36): bit 0 is a reduced image, bit 2 a mask.
        if not cast(Any, image).tag_v2.get(254, 0) & 0b101:
            indices.append(index)
    image.seek(0)
    return indices


def read_visible(image: Image | Page) -> np.ndarray:
    """Return an RGB image, uint8 [H, W, 3].

    Args:
        image: a path, or uint8 [H, W, 3], RGB, of NumPy or JAX. A file is turned upright as its orientation tag says.

    Raises:
        InputError: the image is neither a path nor an array, cannot be read, does not have 8 bits per channel, or is
            not RGB. Grey images are refused, and so is an alpha channel that hides something, since the pixels below
            it are unknown.
    """
    name, pixels = _pixels(image, "visible")
    channels = pixels.shape[2]
    if channels != 3:
        kind = {1: "grey", 2: "grey with an alpha channel", 4: "RGB with an alpha channel"}.get(channels, "unknown")
        raise InputError(f"{name}: {kind}, {channels} channels; expected the three of an RGB image.")
    return np.ascontiguousarray(pixels)


def read_lwir(image: Image | Page, visible: np.ndarray) -> np.ndarray:
    """Return a thermal image, uint8 [H, W, 1].

    Args:
        image: a path, or uint8 [H, W], [H, W, 1] or [H, W, 3] with three equal channels, of NumPy or JAX.
        visible: the registered visible image, uint8 [H, W, 3].

    Raises:
        InputError: the image is neither a path nor an array, cannot be read, does not have 8 bits per channel, is not
            grey, or differs in size from the visible image.
    """
    name, pixels = _pixels(image, "thermal")
    # JPEG's rounding may make the channels of a grey image differ by a step.
    if pixels.shape[2] == 3 and np.ptp(pixels.astype(np.int16), axis=2).max() <= 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
    if pixels.shape[2] != 1:
        kind = "3 channels that differ" if pixels.shape[2] == 3 else f"{pixels.shape[2]} channels"
        raise InputError(
            f"{name}: {kind}; expected a grey thermal image, without the false colours of a display and without an "
            "alpha channel."
        )
    (height, width), expected = pixels.shape[:2], visible.shape[:2]
    if (height, width) != expected:
        raise InputError(
            f"{name}: {width}x{height} pixels, but its visible image has {expected[1]}x{expected[0]}; the images of a "
            "pair must be registered and of one size."
        )
    return np.ascontiguousarray(pixels)


def _pixels(image, kind):
    """Return the name of an image for messages, and its pixels, uint8 [H, W, C], RGB(A) or grey."""
    if isinstance(image, (np.ndarray, jax.Array)):
        name, pixels = f"{kind} image", np.asarray(image)
        if pixels.ndim not in (2, 3) or 0 in pixels.shape:
            raise InputError(f"{name}: an array of shape {pixels.shape}; expected height, width and channels.")
        dtype = pixels.dtype.name
    elif isinstance(image, Page):
        name, (pixels, dtype) = image.name, _read_page(image)
    elif isinstance(image, (str, os.PathLike)):
        name, (pixels, dtype) = str(image), _read(Path(image))
    else:
        raise InputError(
            f"{kind} image: of type {type(image).__qualname__}; expected a path or a uint8 array of NumPy or JAX "
            "(np.asarray makes one of a PIL image)."
        )
    if dtype != "uint8":
        raise InputError(
            f"{name}: {dtype} values; expected uint8, 0 to 255. Scale thermal images of more bits as the training "
            "images of the detector were scaled."
        )
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.shape[2] in (2, 4) and (pixels[..., -1] == 255).all():
        pixels = pixels[..., :-1]  # an alpha channel that hides nothing
    return name, pixels


def _read(path):
    """Return the pixels of a file, and the dtype of the values that the file holds."""
    if path.is_dir():
        raise InputError(f"{path}: a folder; expected an image. --mode=detect takes folders.")
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.") from error
    try:
        with PIL.Image.open(io.BytesIO(encoded)) as image:
            indices = page_indices(image)
            image.seek(indices[0] if indices else 0)
            decoded = _decode(image) if len(indices) == 1 else None
    except _UNREADABLE as error:
        raise InputError(f"{path}: {len(encoded)} bytes that cannot be read as an image.") from error
    if decoded is None:
        advice = "--mode=detect takes every page; in Python, give arrays." if indices else "Convert it to PNG or JPEG."
        raise InputError(f"{path}: holds {len(indices)} images besides previews; expected one. {advice}")
    return decoded


def _read_page(page):
    try:
        page.stack.seek(page.index)
        return _decode(page.stack)
    except (*_UNREADABLE, EOFError) as error:
        raise InputError(f"{page.name}: a page that cannot be read as an image.") from error


def _decode(image):
    # Pillow drops the low bytes of 16-bit colours; only the raw mode of a tile shows them.
    has_16_bits = any(re.search(";16[BLN]", str(tile[3])) for tile in image.tile)
    image.load()
    image = PIL.ImageOps.exif_transpose(image)
    if image.mode == "1":
        image = image.convert("L")
    elif "transparency" in image.info:
        image = image.convert("LA" if image.mode == "L" else "RGBA")
    elif image.mode not in ("L", "LA", "RGB", "RGBA", "F") and not image.mode.startswith("I"):
        image = image.convert("RGB")  # a palette, CMYK, YCbCr
    pixels = np.array(image)
    return pixels, "uint16" if has_16_bits else pixels.dtype.name
