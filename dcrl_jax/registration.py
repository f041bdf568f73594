"""Registration of a thermal camera that sees another part of a scene than its visible camera, or at another resolution.

Coordinates are continuous, in pixels, with the origin at the upper left corner of an image: the centre of its first
pixel is (0.5, 0.5). Point lists that count pixels from 0, as OpenCV's do, are half a pixel lower: their homography is
``T @ H @ inv(T)`` here, with T the translation by (0.5, 0.5).
"""

import codecs
import functools
import io
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import msgspec
import numpy as np
from ml_collections import ConfigDict

from dcrl_jax.errors import InputError
from dcrl_jax.homography import apply, facing, part_matrix, sample
from dcrl_jax.opening import open_regular

STRETCH = "stretch"
EXPECTED = (
    "expected 'stretch' (both images show the same scene, at two resolutions); the four numbers x1, y1, x2, y2, in "
    "pixels of the thermal image the part that the visible image shows; the nine of a homography by rows, from thermal "
    "to visible pixels; or a file with such numbers (text, .csv, .json, .npy)"
)
_SEPARATORS = re.compile(r"[\s,;()\[\]]+")
_LIMIT_BYTES = 2**20
_LONGEST_SIDE = 32_000  # pixels; OpenCV's remap takes sides below 32,767


class Registration(NamedTuple):
    """Where a thermal image lies in its visible one.

    ``numbers`` is empty if both show the same scene, at two resolutions; or x1, y1, x2, y2, in pixels of the thermal
    image the part that the visible image shows; or the nine values of a homography by rows, from thermal to visible
    pixels.
    """

    numbers: tuple[float, ...]

    def describe(self) -> str:
        """Return what ``read_registration`` takes, as text."""
        return ", ".join(map(repr, self.numbers)) or STRETCH

    def instructions(self) -> str:
        """Return how to register a thermal image, for people who do so by themselves."""
        end = "Pixels have their centres at +0.5; what lies outside the thermal image is 0."
        if not self.numbers:
            return "Resize the thermal image to the size of the visible one."
        if len(self.numbers) == 4:
            x1, y1, x2, y2 = map(_exact, self.numbers)
            return (
                f"The visible image shows the part x1, y1, x2, y2 = {x1}, {y1}, {x2}, {y2} of the thermal image, in "
                f"its pixels: cut it out and resize it to the size of the visible image. {end}"
            )
        rows = "; ".join(" ".join(map(_exact, self.numbers[row : row + 3])) for row in (0, 3, 6))
        return (
            f"Warp the thermal image to the size of the visible one by the homography ({rows}, by rows), which maps "
            f"thermal to visible pixels. {end}"
        )


def read_registration(value: Any, folder: Path) -> Registration | None:
    """Return the registration that an option describes; None if it is None or empty.

    Args:
        value: 'stretch'; 4 or 9 numbers, a sequence or a text with commas or spaces; or the name of a file with the
            numbers: .npy, .json or a text, whose lines may begin with # for a comment.
        folder: the folder that a relative name of a file starts from.

    Raises:
        InputError: the value is something else, the file cannot be read, a number is not finite, the part is empty, or
            the homography cannot be inverted.
    """
    if value is None or (isinstance(value, (str, Sequence)) and not len(value)):
        return None
    if isinstance(value, str):
        if value.strip().lower() == STRETCH:
            return Registration(())
        numbers = _numbers_of(value)
        if numbers is None:
            path = folder / os.path.expanduser(value)
            return _checked(_read_numbers(path), str(path))
        return _checked(numbers, repr(value))
    return _checked(value, repr(value))


def names_file(value: Any) -> bool:
    """Return whether an option of ``read_registration`` is the name of a file."""
    return isinstance(value, str) and bool(value) and value.strip().lower() != STRETCH and _numbers_of(value) is None


def registration_of(data: ConfigDict) -> Registration | None:
    """Return the registration that a config's ``data`` keys name, ``data.options.lwir_to_visible``.

    Raises:
        InputError: see ``read_registration``; a file's name starts from ``data.manual_dir``.
    """
    return read_registration(data.options.get("lwir_to_visible"), Path(data.manual_dir or ""))


def keep_numbers(data: ConfigDict) -> None:
    """Replace a file in ``data.options.lwir_to_visible`` by the numbers in it, so that a checkpoint keeps them.

    Raises:
        InputError: see ``registration_of``.
    """
    if not isinstance(data.options.get("lwir_to_visible"), str):
        return
    try:
        registration = registration_of(data)
    except InputError as error:
        hint = "" if data.manual_dir else " The name of a file starts from config.data.manual_dir, which is not set."
        raise InputError(f"config.data.options.{error}{hint}") from error
    if registration:
        data.options.lwir_to_visible = registration.describe()


def register_lwir(pixels: np.ndarray, registration: Registration, size: tuple[int, int]) -> np.ndarray:
    """Return a thermal image as its visible camera would see it.

    Values between pixels are interpolated; where the thermal image has more pixels than the visible one, they are
    averaged. What lies outside the thermal image is 0.

    Args:
        pixels: the thermal image, [h, w] or [h, w, C], of any number type.
        registration: of its camera.
        size: width and height of the visible image.

    Returns:
        [height, width] or [height, width, C], of the same number type.

    Raises:
        InputError: the registration puts no part of an image of this size into the visible one, or an image is longer
            than OpenCV can map.
    """
    height, width = pixels.shape[:2]
    if not registration.numbers and (width, height) == tuple(size):
        return pixels
    if max(width, height, *size) > _LONGEST_SIDE:
        raise InputError(f"lwir_to_visible: an image with a side of more than {_LONGEST_SIDE} pixels; make it smaller.")
    samples = _samples(registration, (width, height), tuple(size))
    # OpenCV knows no others that decoding gives.
    values = pixels if pixels.dtype in (np.uint8, np.uint16, np.float32) else pixels.astype(np.float64)
    values = cv2.remap(values, samples.x, samples.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if values.shape[:2] != (size[1], size[0]):
        values = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    if np.issubdtype(pixels.dtype, np.integer) and values.dtype != pixels.dtype:
        values = np.round(values)
    values = values.astype(pixels.dtype, copy=False).reshape(size[1], size[0], *pixels.shape[2:])
    values[samples.is_outside] = 0
    return values


def map_boxes(
    boxes: np.ndarray, registration: Registration, lwir_size: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Return boxes of a thermal image in its visible image: the smallest upright boxes around their mapped corners.

    Args:
        boxes: [n, 4], x, y, width, height in pixels of the thermal image.
        registration: of its camera.
        lwir_size: width and height of the thermal image.
        size: width and height of the visible image.

    Returns:
        float64 [n, 4], x, y, width, height in pixels of the visible image, not clipped to it.

    Raises:
        InputError: as ``register_lwir``; or a box reaches beyond the horizon of the homography.
    """
    x, y, box_width, box_height = np.asarray(boxes, np.float64).reshape(-1, 4).T
    matrix = _matrix(registration, lwir_size, size)
    corners = [apply(matrix, x + i * box_width, y + j * box_height) for i in (0, 1) for j in (0, 1)]
    # Boxes of all formats are that near to their image; further away is the horizon.
    if not all(((depth > 0) & (np.abs(x) <= 1e6) & (np.abs(y) <= 1e6)).all() for x, y, depth in corners):
        raise InputError(f"lwir_to_visible {registration.describe()}: a box reaches beyond its horizon.")
    xs, ys = (np.stack(values) for values in list(zip(*corners, strict=True))[:2])
    left, top = xs.min(axis=0), ys.min(axis=0)
    return np.stack([left, top, xs.max(axis=0) - left, ys.max(axis=0) - top], axis=1)


# The images of a data set have few sizes.
@functools.lru_cache(4)
def _samples(registration, lwir_size, size):
    return sample(_matrix(registration, lwir_size, size), lwir_size, size, _LONGEST_SIDE)


def _matrix(registration, lwir_size, size):
    """Return the homography from thermal to visible pixels whose third coordinate is positive in the thermal image."""
    numbers = registration.numbers or (0, 0, *lwir_size)
    matrix = np.array(numbers, np.float64).reshape(3, 3) if len(numbers) == 9 else part_matrix(numbers, size)
    # Any multiple is the same homography, and those by powers of 2 give the same bits.
    matrix = np.ldexp(matrix, -np.frexp(np.abs(matrix).max())[1])
    matrix = facing(matrix, lwir_size, size)
    if matrix is None:
        raise InputError(
            f"lwir_to_visible {registration.describe()}: a thermal image of {lwir_size[0]}x{lwir_size[1]} pixels does "
            f"not lie in its visible image of {size[0]}x{size[1]}; {EXPECTED}."
        )
    return matrix


def _exact(number):
    """Return a number as text with all its digits, since six of a homography are too few."""
    return repr(number).removesuffix(".0")


def _numbers_of(text):
    """Return the numbers of a text; None if it has anything else, such as 1_0, which Python reads as 10."""
    if not text.isascii() or "_" in text:
        return None
    try:
        return [float(word) for word in _SEPARATORS.split(text) if word] or None
    except ValueError:
        return None


def _read_numbers(path):
    try:
        with open_regular(path) as file:
            content = file.read(_LIMIT_BYTES + 1)
        if len(content) > _LIMIT_BYTES:
            raise ValueError(f"more than {_LIMIT_BYTES:,} bytes")
        if path.suffix.lower() == ".npy":
            return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        if path.suffix.lower() == ".json":
            # NumPy would take true among numbers as 1.
            return msgspec.json.decode(content.removeprefix(codecs.BOM_UTF8), type=list[float | list[float]])
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"lwir_to_visible {path}: {error.strerror or error}; {EXPECTED}.") from error
    except msgspec.ValidationError as error:
        raise InputError(f"lwir_to_visible {path}: not only numbers ({error}); {EXPECTED}.") from error
    except Exception as error:  # NumPy's parser raises all kinds of exceptions
        raise InputError(f"lwir_to_visible {path}: cannot be read ({error}); {EXPECTED}.") from error
    numbers = _numbers_of("\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#")))
    if numbers is None:
        raise InputError(f"lwir_to_visible {path}: not only numbers; {EXPECTED}.")
    return numbers


def _checked(values, name):
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        array = np.empty(0)
    if not array.size or array.dtype.kind not in "iuf":
        raise InputError(f"lwir_to_visible {name}: not only numbers; {EXPECTED}.")
    if array.size not in (4, 9):
        hint = " To an affine matrix of six numbers, add the third row 0, 0, 1." if array.size == 6 else ""
        raise InputError(f"lwir_to_visible {name}: {array.size} numbers; {EXPECTED}.{hint}")
    numbers = tuple(array.astype(np.float64).reshape(-1).tolist())
    if not all(map(math.isfinite, numbers)):
        raise InputError(f"lwir_to_visible {name}: numbers that are not finite; {EXPECTED}.")
    if len(numbers) == 4 and (numbers[2] - numbers[0] <= 1 or numbers[3] - numbers[1] <= 1):
        raise InputError(
            f"lwir_to_visible {name}: x1, y1, x2, y2 of a part of {numbers[2] - numbers[0]:g} x "
            f"{numbers[3] - numbers[1]:g} pixels; expected pixels of the thermal image, with x1 < x2 and y1 < y2."
        )
    if len(numbers) == 9 and np.linalg.matrix_rank(np.reshape(numbers, (3, 3))) < 3:
        raise InputError(f"lwir_to_visible {name}: a singular matrix, which maps an area to a line; {EXPECTED}.")
    return Registration(numbers)
