"""Reading of images from paths or arrays; ``dcrl_jax/decoding.py`` has the rule of what a network can use."""

import os
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import PIL.Image

from dcrl_jax import decoding
from dcrl_jax.decoding import DEFAULT_RULES, ImageRules
from dcrl_jax.errors import InputError
from dcrl_jax.opening import open_regular
from dcrl_jax.registration import Registration, register_lwir

Image = str | os.PathLike | np.ndarray | jax.Array


class Page(NamedTuple):
    """One of the images of a file, e.g. of a stack of TIFF pages."""

    name: str
    stack: PIL.Image.Image  # open; one thread at a time reads its pages
    index: int


def read_visible(image: Image | Page, rules: ImageRules = DEFAULT_RULES) -> np.ndarray:
    """Return an RGB image, uint8 [H, W, 3].

    Args:
        image: a path, or uint8 [H, W, 3], RGB, of NumPy or JAX. A file is turned upright as its orientation tag says.
        rules: of the detector's training, ``Detector.image_rules``. They may allow grey images, [H, W] or [H, W, 1].

    Raises:
        InputError: the image is neither a path nor an array, cannot be read, or ``decoding.check_visible`` refuses it.
    """
    name, pixels, dtype = _pixels(image, "visible")
    return decoding.check_visible(pixels, dtype, name, rules)


def read_lwir(
    image: Image | Page,
    visible: np.ndarray | None,
    rules: ImageRules = DEFAULT_RULES,
    registration: Registration | None = None,
) -> np.ndarray:
    """Return a thermal image, uint8 [H, W, 1].

    Args:
        image: a path, or [H, W], [H, W, 1] or [H, W, 3] with three equal channels, of NumPy or JAX; uint8, or other
            values if ``rules`` has a range for them.
        visible: the visible image of the pair, uint8 [H, W, 3]; None if there is none.
        rules: of the detector's training, ``Detector.image_rules``.
        registration: where the image lies in its visible image; None if both are registered already.

    Raises:
        InputError: the image is neither a path nor an array, cannot be read, ``decoding.check_lwir`` refuses it, or
            the registration does not fit it.
    """
    name, pixels, dtype = _pixels(image, "thermal")
    size = None if visible is None else (visible.shape[0], visible.shape[1])
    if size and registration:
        pixels = decoding.grey_lwir(pixels, dtype, name)
        try:  # before the values are scaled, as in the preparation of a data set
            pixels = register_lwir(pixels, registration, size[::-1])
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    return decoding.check_lwir(pixels, dtype, name, size, rules)


def _pixels(image, kind):
    """Return the name of an image for messages, its pixels, and the dtype of the values that its file holds."""
    if isinstance(image, (np.ndarray, jax.Array)):
        pixels = np.asarray(image)
        if pixels.ndim not in (2, 3) or 0 in pixels.shape:
            raise InputError(f"{kind} image: an array of shape {pixels.shape}; expected height, width and channels.")
        return f"{kind} image", pixels, pixels.dtype.name
    if isinstance(image, Page):
        return image.name, *decoding.decode_page(image.stack, image.index, image.name)
    if not isinstance(image, (str, os.PathLike)):
        raise InputError(
            f"{kind} image: of type {type(image).__qualname__}; expected a path or a uint8 array of NumPy or JAX "
            "(np.asarray makes one of a PIL image)."
        )
    path = Path(image)
    if os.path.isdir(path):
        raise InputError(f"{path}: a folder; expected an image. --mode=detect takes folders.")
    try:
        with open_regular(path) as file:
            encoded = file.read()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.") from error
    return str(image), *decoding.decode(encoded, str(image))
