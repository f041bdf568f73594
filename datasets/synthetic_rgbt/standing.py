"""The coordinate frame of an object that stands on the ground, and painting in it."""

from typing import NamedTuple

import numpy as np

from datasets.synthetic_rgbt.canvas import SCENERY, Canvas, Material, capsule, ellipse, paint
from datasets.synthetic_rgbt.world import World

Colour = tuple[float, float, float]
NO_GLOW = (0.0, 0.0, 0.0)


def shade(colour: Colour, factor: float) -> Colour:
    """Return a lighter or darker reflectance."""
    red, green, blue = (float(min(0.9, c * factor)) for c in colour)
    return red, green, blue


def pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    """Draw one of several reflectances, a little lighter or darker."""
    return shade(colours[rng.integers(len(colours))], rng.uniform(0.75, 1.25))


class Standing(NamedTuple):
    """An object's frame: the origin is its foot; x points to the right, y up, in the object's unit of length.

    The methods paint on the canvas, in place. ``tone`` multiplies the object's light; temperatures are degrees Celsius.
    """

    canvas: Canvas
    foot: np.ndarray  # float [2], canvas pixel
    unit_x: float  # the unit of length in canvas pixels; negative if the object is mirrored
    unit: float  # the unit of length in canvas pixels
    light: float  # that falls on the object, linear

    def at(self, points) -> np.ndarray:
        """Return canvas pixels of points ``[N, 2]`` or ``[2]`` of the object."""
        return self.foot + np.asarray(points, float) * (self.unit_x, -self.unit)

    def polygon(self, points, colour: Colour, temperature: float, tone=1.0, glow=NO_GLOW, owner=SCENERY) -> None:
        """Paint a polygon, ``[N, 2]``."""
        paint(self.canvas, self.at(points), Material(colour, temperature, self.light * tone, glow), owner)

    def box(self, left, bottom, right, top, colour: Colour, temperature: float, tone=1.0, glow=NO_GLOW) -> None:
        """Paint an upright rectangle."""
        corners = ((left, bottom), (left, top), (right, top), (right, bottom))
        self.polygon(corners, colour, temperature, tone, glow)

    def disc(self, x, y, radius_x, radius_y, colour: Colour, temperature: float, tone=1.0, glow=NO_GLOW) -> None:
        """Paint an ellipse."""
        outline = ellipse(self.at((x, y)), radius_x * self.unit, radius_y * self.unit)
        paint(self.canvas, outline, Material(colour, temperature, self.light * tone, glow))

    def stroke(self, start, end, start_radius, end_radius, colour: Colour, temperature: float, tone=1.0) -> None:
        """Paint a tapered stroke with round ends."""
        outline = capsule(self.at(start), self.at(end), start_radius * self.unit, end_radius * self.unit)
        paint(self.canvas, outline, Material(colour, temperature, self.light * tone))


def stand(canvas: Canvas, world: World, x: float, z: float, unit_m: float = 1.0, mirrored: bool = False) -> Standing:
    """Return the frame of an object on the ground at (x, z) in metres; ``unit_m`` is its unit of length in metres."""
    unit = unit_m * world.camera.scale(z)
    return Standing(canvas, world.camera.point(x, 0.0, z), -unit if mirrored else unit, unit, float(world.light(x, z)))
