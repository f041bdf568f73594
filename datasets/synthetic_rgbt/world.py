"""The conditions of a scene: camera, hour, light and temperatures.

World coordinates are metres: x to the right, z away from the camera, heights above flat ground. Lengths in the image
are shares of its height until they are painted, so that a scene looks the same at every size.
"""

from typing import NamedTuple

import numpy as np

# Median height of a figure, as a share of the image's height.
TYPICAL_SHARE = 0.4


class Camera(NamedTuple):
    """A pinhole camera above flat ground, looking along z."""

    height_px: int  # of the canvas
    width_px: int
    horizon: float  # distance from the top, as a share of the image's height
    eye_m: float  # height of the camera above the ground
    focal: float  # focal length, in image heights
    typical_share: float  # see TYPICAL_SHARE

    def point(self, x: float, y: float, z: float) -> np.ndarray:
        """Return the canvas pixel of a point ``y`` metres above the ground, float ``[2]``."""
        scale = self.scale(z)
        return np.array([self.width_px / 2 + x * scale, self.horizon * self.height_px + (self.eye_m - y) * scale])

    def scale(self, z: float) -> float:
        """Return canvas pixels per metre at a distance ``z``."""
        return self.focal * self.height_px / z

    def half_width_m(self, z: float) -> float:
        """Return half the width of the view at a distance ``z``, in metres."""
        return 0.5 * self.width_px / self.scale(z)


class Lamp(NamedTuple):
    """A street lamp that shines."""

    x: float
    z: float
    strength: float  # light at the lamp's foot, linear
    radius_m: float  # of the lamp's pool of light


class World(NamedTuple):
    """The camera, hour and weather of a scene. Temperatures are degrees Celsius."""

    camera: Camera
    night: bool
    sunny: bool
    ambient: float  # light everywhere, linear
    headlights: float  # light of the camera car's headlights 5 m ahead, linear
    lamps: tuple[Lamp, ...]
    tint: tuple[float, float, float]  # colour of the light
    sun_side: float  # offset of shadows to the right, in metres per metre of height
    air: float
    ground: float  # mean temperature of the ground
    mottle: float  # standard deviation of the ground's temperature over its area
    unrest: float  # standard deviation of the thermal image's smooth noise, on all surfaces

    def light(self, x, z):
        """Return the light on an object at (x, z), linear; arrays broadcast."""
        ahead, aside = np.maximum(z - 5.0, 0.0) / 7.0, x / (0.25 * z + 1)
        total = self.ambient + self.headlights * np.exp(-ahead - aside**2)
        for lamp in self.lamps:
            distance = ((x - lamp.x) ** 2 + (z - lamp.z) ** 2) / lamp.radius_m**2
            total = total + lamp.strength / (1 + distance) ** 1.5
        return total


def draw(
    rng: np.random.Generator, night: bool, height_px: int, width_px: int, typical_share: float = TYPICAL_SHARE
) -> World:
    """Draw the conditions of a scene at random, for a canvas of ``height_px`` x ``width_px`` pixels."""
    horizon, eye_m, focal = rng.uniform(0.34, 0.46), rng.uniform(1.15, 1.7), rng.uniform(1.7, 2.3)
    camera = Camera(height_px, width_px, horizon, eye_m, focal, typical_share)
    return _draw_night(rng, camera) if night else _draw_day(rng, camera)


def _draw_day(rng: np.random.Generator, camera: Camera) -> World:
    sunny = bool(rng.random() < 0.65)
    air = rng.uniform(17, 27)
    return World(
        camera,
        night=False,
        sunny=sunny,
        ambient=rng.uniform(0.8, 1.0) if sunny else rng.uniform(0.45, 0.8),
        headlights=0.0,
        lamps=(),
        tint=(1.0, 0.97, 0.9) if sunny else (0.93, 0.97, 1.0),
        sun_side=rng.uniform(-1.6, 1.6),
        air=air,
        ground=air + (rng.uniform(2.5, 7) if sunny else rng.uniform(1.5, 5)),
        mottle=rng.uniform(2.0, 3.0) if sunny else rng.uniform(1.4, 2.2),
        unrest=rng.uniform(0.8, 1.2),
    )


def _draw_night(rng: np.random.Generator, camera: Camera) -> World:
    lamps = []
    for _ in range(rng.integers(1, 5)):
        z = rng.uniform(5, 35)
        x = rng.uniform(-1, 1) * camera.half_width_m(z)
        lamps.append(Lamp(x, z, rng.uniform(0.1, 0.4), rng.uniform(2.0, 4.5)))
    air = rng.uniform(2, 14)
    return World(
        camera,
        night=True,
        sunny=False,
        ambient=rng.uniform(0.02, 0.09),
        headlights=rng.uniform(0.1, 0.35) if rng.random() < 0.5 else 0.0,
        lamps=tuple(lamps),
        tint=((1.0, 0.82, 0.58), (1.0, 0.95, 0.85), (0.9, 0.95, 1.0))[rng.integers(3)],
        sun_side=0.0,
        air=air,
        ground=air + rng.uniform(0, 2.5),
        mottle=rng.uniform(0.4, 0.9),
        unrest=rng.uniform(0.1, 0.25),
    )


class Place(NamedTuple):
    """The place of an object on the ground, and its height."""

    x: float
    z: float
    height_m: float


def draw_place(rng: np.random.Generator, camera: Camera) -> Place:
    """Draw a place and a height; heights in the image are 0.55 to 2.125 times the camera's typical share.

    People and decoys are drawn alike, so that neither place nor size tells them apart.
    """
    size = 0.0
    while not 0.55 <= size <= 2.125:
        size = np.exp(0.34 * rng.standard_normal())
    height_m = rng.uniform(1.55, 1.9) if rng.random() < 0.9 else rng.uniform(1.1, 1.4)
    z = camera.focal * height_m / (camera.typical_share * size)
    return Place(rng.uniform(-0.95, 0.95) * camera.half_width_m(z), z, height_m)
