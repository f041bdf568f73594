"""Images as a person gives them, paths or arrays, to what a network expects; what cannot be one is refused."""

import os
from pathlib import Path

import cv2
import jax
import numpy as np

from dcrl_jax.errors import InputError

Image = str | os.PathLike | np.ndarray | jax.Array


def read_visible(image: Image) -> np.ndarray:
    """An RGB image, uint8 [H, W, 3].

    Args:
        image: a path, or uint8 [H, W, 3], RGB, of NumPy or JAX. A JPEG file is turned as its orientation tag says.

    Raises:
        InputError: it is neither path nor array, cannot be read, is not of 8 bits, or is not RGB: a grey image is no
            colour image (but OpenCV reads a grey PNG with an alpha channel as RGB, and so it passes), and what lies
            below an alpha channel that hides something is not known.
    """
    name, pixels = _pixels(image, "visible")
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels != 3:
        kind = {1: "grey", 2: "grey with an alpha channel", 4: "RGB with an alpha channel"}.get(channels, "something")
        raise InputError(f"{name}: {kind}, {channels} channels; expected the three of an RGB image.")
    return np.ascontiguousarray(pixels)


def read_lwir(image: Image, visible: np.ndarray) -> np.ndarray:
    """A thermal image, uint8 [H, W, 1], registered with a visible one.

    Args:
        image: a path, or uint8 [H, W], [H, W, 1] or [H, W, 3] with three equal channels, of NumPy or JAX.
        visible: of the same pair, uint8 [H, W, 3].

    Raises:
        InputError: it is neither path nor array, cannot be read, is not of 8 bits or not grey, or has another size than
            the visible one.
    """
    name, pixels = _pixels(image, "thermal")
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    # JPEG's rounding may set the channels of a grey image a step apart.
    if pixels.shape[2] == 3 and np.ptp(pixels.astype(np.int16), axis=2).max() <= 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
    if pixels.shape[2] != 1:
        kind = "3 channels that are not the same" if pixels.shape[2] == 3 else f"{pixels.shape[2]} channels"
        raise InputError(
            f"{name}: {kind}; expected a grey thermal image, without the false colours of a display and without an "
            "alpha channel."
        )
    (height, width), expected = pixels.shape[:2], visible.shape[:2]
    if (height, width) != expected:
        raise InputError(
            f"{name}: {width}x{height} pixels, and its visible image {expected[1]}x{expected[0]}; a pair must be "
            "registered and of one size."
        )
    return np.ascontiguousarray(pixels)


def _pixels(image, kind):
    """Name and pixels, uint8 [H, W] or [H, W, C] in the order RGB(A)."""
    if isinstance(image, (np.ndarray, jax.Array)):
        name, pixels = f"{kind} image", np.asarray(image)
        if pixels.ndim not in (2, 3) or 0 in pixels.shape:
            raise InputError(f"{name}: an array of shape {pixels.shape}; expected height, width and channels.")
    elif isinstance(image, (str, os.PathLike)):
        name, pixels = str(image), _read(Path(image))
    else:
        raise InputError(
            f"{kind} image: of type {type(image).__qualname__}; expected a path or a uint8 array of NumPy or JAX "
            "(np.asarray makes one of a PIL image)."
        )
    if pixels.dtype != np.uint8:
        raise InputError(
            f"{name}: {pixels.dtype} values; expected uint8, 0 to 255. Thermal images of more bits must be scaled as "
            "those were that the detector was trained on."
        )
    if pixels.ndim == 3 and pixels.shape[2] == 4 and (pixels[..., 3] == 255).all():
        pixels = pixels[..., :3]  # an alpha channel that hides nothing
    return name, pixels


def _read(path):
    if path.is_dir():
        raise InputError(f"{path}: a folder; expected an image. --mode=detect takes folders.")
    try:
        encoded = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.") from error
    # A camera's orientation tag is followed, or people would lie on their sides. OpenCV does so where an alpha channel
    # may be dropped, and a JPEG has none.
    is_jpeg = encoded.startswith(b"\xff\xd8")
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH if is_jpeg else cv2.IMREAD_UNCHANGED
    try:
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags) if encoded else None
    except cv2.error:  # a header that asks for more pixels than OpenCV allows
        pixels = None
    if pixels is None:
        raise InputError(f"{path}: {len(encoded)} bytes that cannot be read as an image.")
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)
    return pixels
