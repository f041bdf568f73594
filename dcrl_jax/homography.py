"""Homographies from one image to another. Coordinates are those of ``dcrl_jax.registration``."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

Size = tuple[int, int]  # width and height of an image in pixels
# A part of a thousand times the thermal image would have a million samples for a pixel. These take 1 GB.
_MAX_SAMPLES = 2**24


class Samples(NamedTuple):
    """Where to read the first image to get the second one."""

    x: np.ndarray  # float32 [k h, k w], pixels of the first image as OpenCV counts them, k samples for a pixel
    y: np.ndarray
    is_outside: np.ndarray  # bool [h, w], pixels of the second image whose centre the first one does not show


def apply(matrix: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mapped coordinates and the third coordinate, which is not positive beyond the horizon.

    Args:
        matrix: [3, 3].
        x: coordinates of any shape.
        y: the same.
    """
    rows = [a * x + b * y + c for a, b, c in matrix]
    with np.errstate(divide="ignore", invalid="ignore"):
        return rows[0] / rows[2], rows[1] / rows[2], rows[2]


def part_matrix(part: Sequence[float], size: Size) -> np.ndarray:
    """Return the homography, float64 [3, 3], that enlarges a part, x1, y1, x2, y2, to an image of a size."""
    x1, y1, x2, y2 = part
    x_scale, y_scale = size[0] / (x2 - x1), size[1] / (y2 - y1)
    return np.array([[x_scale, 0, -x1 * x_scale], [0, y_scale, -y1 * y_scale], [0, 0, 1]])


def facing(matrix: np.ndarray, first_size: Size, size: Size) -> np.ndarray | None:
    """Return the homography with the sign that makes the third coordinate positive within the first image.

    None if it is not positive in all of the image, or the image lies outside the second one.
    """
    corners = np.array([(x, y) for x in (0, first_size[0]) for y in (0, first_size[1])], np.float64).T
    if matrix[2] @ [*corners.mean(axis=1), 1] < 0:
        matrix = -matrix
    x, y, depth = apply(matrix, *corners)
    is_seen = (depth > 0).all() and x.max() > 0 and y.max() > 0 and x.min() < size[0] and y.min() < size[1]
    return matrix if is_seen else None


def sample(matrix: np.ndarray, first_size: Size, size: Size, longest: int) -> Samples:
    """Return where to read the first image; where it is shown smaller, there are several samples for a pixel.

    Args:
        matrix: the result of ``facing``.
        first_size: of the first image.
        size: of the second image.
        longest: the most samples on a side.
    """
    inverse = np.linalg.inv(matrix)

    def grid(per_pixel):
        columns, rows = ((np.arange(length * per_pixel) + 0.5) / per_pixel for length in size)
        return apply(inverse, *np.meshgrid(columns, rows))

    x, y, depth = grid(1)
    is_inside = (x >= 0) & (x <= first_size[0]) & (y >= 0) & (y <= first_size[1]) & (depth > 0)
    steps = [np.median(np.hypot(np.diff(x, axis=axis), np.diff(y, axis=axis))) for axis in (0, 1) if x.shape[axis] > 1]
    most = min(longest // max(size), math.isqrt(_MAX_SAMPLES // math.prod(size)))
    per_pixel = max(1, min(math.ceil(max(steps, default=1) - 0.01), most))
    if per_pixel > 1:
        x, y, _ = grid(per_pixel)
    low, high = -1e6, 1e6  # far outside; float32 holds them
    x, y = (np.clip(np.nan_to_num(values - 0.5), low, high).astype(np.float32) for values in (x, y))
    return Samples(x, y, ~is_inside)
