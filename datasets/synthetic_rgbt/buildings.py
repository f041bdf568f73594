"""The background: distant trees and houses, and rows of houses along a street."""

import numpy as np

from datasets.synthetic_rgbt.canvas import Canvas, Material, ellipse, paint, rectangle
from datasets.synthetic_rgbt.standing import NO_GLOW, pick, shade
from datasets.synthetic_rgbt.world import World

PLASTER = (
    (0.55, 0.48, 0.38),
    (0.38, 0.2, 0.13),
    (0.45, 0.45, 0.45),
    (0.6, 0.57, 0.5),
    (0.25, 0.22, 0.2),
    (0.4, 0.42, 0.48),
)
FOREST = ((0.06, 0.14, 0.03), (0.1, 0.18, 0.04), (0.04, 0.1, 0.04), (0.16, 0.15, 0.04))
GLASS = (0.05, 0.07, 0.09)
STOREY_M = 3.2


def paint_backdrop(rng: np.random.Generator, canvas: Canvas, world: World) -> None:
    """Paint a row of distant trees and, in most scenes, houses in front of them, in place."""
    camera, (height, width) = world.camera, canvas.owner.shape
    leaf, z = pick(rng, FOREST), 90.0
    spread = 0.7 if world.night else 1.5
    for x in np.arange(-0.05 * height, width + 0.05 * height, 0.07 * height):
        radius = rng.uniform(2.5, 4.5) * camera.scale(z)
        tree = ellipse((x, camera.point(0, rng.uniform(1, 4), z)[1]), radius * 1.3, radius)
        colour, light = shade(leaf, rng.uniform(0.8, 1.3)), world.ambient * rng.uniform(0.5, 0.8)
        paint(canvas, tree, Material(colour, world.air + rng.normal(0.5, spread), light))
    if rng.random() < 0.15:
        return
    x = -0.03 * height
    while x < width:
        z = rng.uniform(35, 80)
        house_width = rng.uniform(6, 18) * camera.scale(z)
        if rng.random() < 0.75:
            _paint_house(rng, canvas, world, x, x + house_width, z)
        x += house_width + rng.uniform(0, 6) * camera.scale(z)


def paint_street_wall(rng: np.random.Generator, canvas: Canvas, world: World, side: int) -> None:
    """Paint a row of houses along the direction of view, on the left (``side`` -1) or the right (1), in place."""
    camera = world.camera
    x, z, end = side * rng.uniform(5, 9), 70.0, rng.uniform(8, 25)
    in_sun = side * world.sun_side > 0
    while z > end:
        near = max(z - rng.uniform(8, 16), 3.0)
        storeys = int(rng.integers(2, 6))
        temperature = _wall_temperature(rng, world, in_sun)
        light = float(world.light(x, (near + z) / 2)) * (0.5 if world.sunny and not in_sun else 1.0)

        def quad(z0, z1, y0, y1):
            corners = ((y0, z0), (y1, z0), (y1, z1), (y0, z1))
            return np.array([camera.point(x, *corner) for corner in corners])

        paint(canvas, quad(near, z, 0, STOREY_M * storeys + 0.8), Material(pick(rng, PLASTER), temperature, light))
        for window_z in np.arange(near + 0.8, z - 1.5, rng.uniform(2.4, 3.6)):
            for storey in range(min(storeys, 3)):
                sill = STOREY_M * storey + 1.0
                outline = quad(window_z, window_z + 1.2, sill, sill + 1.5)
                paint(canvas, outline, _window(rng, world, light, temperature))
        z = near


def _paint_house(rng, canvas, world, left, right, z):
    """Paint a house with lines of windows from canvas column ``left`` to ``right``, at distance ``z`` in metres."""
    camera = world.camera
    storeys = int(rng.integers(1, 6))
    top, bottom = camera.point(0, STOREY_M * storeys + 0.8, z)[1], camera.point(0, 0, z)[1]
    temperature = _wall_temperature(rng, world, in_sun=True)
    light = float(world.light((left + right - camera.width_px) / 2 / camera.scale(z), z)) * rng.uniform(0.5, 1.0)
    paint(canvas, rectangle(left, top, right, bottom), Material(pick(rng, PLASTER), temperature, light))
    columns = max(1, int((right - left) / (camera.scale(z) * rng.uniform(2.2, 3.5))))
    step_x, step_y = (right - left) / columns, (bottom - top) / storeys
    for row in range(storeys):
        for column in range(columns):
            x, y = left + (column + 0.25) * step_x, top + (row + 0.25) * step_y
            outline = rectangle(x, y, x + 0.5 * step_x, y + 0.5 * step_y)
            paint(canvas, outline, _window(rng, world, light, temperature))


def _wall_temperature(rng, world, in_sun):
    if world.night:
        return world.air + rng.uniform(0.5, 3.5)
    if world.sunny and in_sun:
        return world.air + rng.uniform(1, 11)
    return world.air + rng.uniform(0, 5)


def _window(rng, world, light, wall_temperature):
    lit = world.night and rng.random() < 0.25
    if lit:
        glow = shade((0.5, 0.36, 0.16), rng.uniform(0.15, 1.0))
    else:  # by day the glass mirrors the sky
        glow = NO_GLOW if world.night else shade((0.1, 0.13, 0.16), rng.uniform(0.1, 1.2))
    return Material(GLASS, wall_temperature + (rng.uniform(1, 4) if lit else rng.uniform(-3, 1)), light, glow)
