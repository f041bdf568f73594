"""The canvas of a scene: per-pixel surface properties, from which the two sensors make images.

Coordinates are canvas pixels, x to the right, y down. Temperatures are degrees Celsius. Reflectances and light are
linear; 1 is white paper in full sun.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np

NOBODY = 0
SCENERY = 255
_FRACTION_BITS = 4


class Canvas(NamedTuple):
    """The surface at each pixel of a canvas of h x w pixels."""

    surface: np.ndarray  # float32 [h, w, 4]: reflectance of red, green, blue; incident light
    radiance: np.ndarray  # float32 [h, w, 4]: emitted red, green, blue; temperature
    owner: np.ndarray  # uint8 [h, w]: number of the person (1...), NOBODY or SCENERY


class Material(NamedTuple):
    """The properties of a uniform patch."""

    reflectance: tuple[float, float, float]
    temperature: float
    light: float = 1.0
    emission: tuple[float, float, float] = (0.0, 0.0, 0.0)


def blank(height_px: int, width_px: int) -> Canvas:
    """Return a black canvas at 0 degrees Celsius without owners."""
    return Canvas(
        np.zeros((height_px, width_px, 4), np.float32),
        np.zeros((height_px, width_px, 4), np.float32),
        np.zeros((height_px, width_px), np.uint8),
    )


def fill(image: np.ndarray, polygon: np.ndarray, value) -> None:
    """Fill a polygon, float ``[N, 2]``, in place; parts outside the image are cut off."""
    cv2.fillPoly(image, [_fixed_point(polygon)], value, shift=_FRACTION_BITS)


def paint(canvas: Canvas, polygon: np.ndarray, material: Material, owner: int = SCENERY) -> None:
    """Cover a polygon, float ``[N, 2]``, with a material, in place; ``owner`` is a person's number or SCENERY."""
    points = [_fixed_point(polygon)]
    cv2.fillPoly(canvas.surface, points, (*material.reflectance, material.light), shift=_FRACTION_BITS)
    cv2.fillPoly(canvas.radiance, points, (*material.emission, material.temperature), shift=_FRACTION_BITS)
    cv2.fillPoly(canvas.owner, points, owner, shift=_FRACTION_BITS)


def _fixed_point(polygon: np.ndarray) -> np.ndarray:
    """Return a polygon in OpenCV's fixed-point coordinates."""
    return (polygon * (1 << _FRACTION_BITS)).astype(np.int32)


_ANGLES = np.linspace(0, 2 * np.pi, 17)[:-1]
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], -1)
_HALF_CIRCLE = np.stack(
    [np.cos(np.linspace(-np.pi / 2, np.pi / 2, 7)), np.sin(np.linspace(-np.pi / 2, np.pi / 2, 7))], -1
)


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Return the corners of an upright rectangle, float ``[4, 2]``."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)


def ellipse(centre, radius_x: float, radius_y: float) -> np.ndarray:
    """Return an ellipse around a point as a polygon, float ``[16, 2]``."""
    return _CIRCLE * (radius_x, radius_y) + centre


def capsule(start, end, start_radius: float, end_radius: float) -> np.ndarray:
    """Return a tapered stroke with round ends as a polygon, float ``[14, 2]``."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    length = max(math.hypot(along_x, along_y), 1e-9)
    cos, sin = along_x / length, along_y / length
    arc = _HALF_CIRCLE @ np.array([[cos, sin], [-sin, cos]])
    return np.concatenate([arc * end_radius + end, arc * -start_radius + start])
