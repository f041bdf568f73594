"""What stands in a scene besides people: buildings, trees, bushes, poles, lamps and cars."""

import numpy as np

from datasets.synthetic_rgbt.canvas import Canvas, Material, capsule, ellipse, paint, rectangle
from datasets.synthetic_rgbt.world import World

PLASTER = (
    (0.55, 0.48, 0.38),
    (0.38, 0.2, 0.13),
    (0.45, 0.45, 0.45),
    (0.6, 0.57, 0.5),
    (0.25, 0.22, 0.2),
    (0.4, 0.42, 0.48),
)
LACQUER = (
    (0.6, 0.6, 0.62),
    (0.03, 0.03, 0.035),
    (0.3, 0.31, 0.33),
    (0.4, 0.03, 0.03),
    (0.04, 0.08, 0.25),
    (0.75, 0.75, 0.73),
    (0.1, 0.2, 0.15),
)
LEAVES = ((0.06, 0.14, 0.03), (0.1, 0.18, 0.04), (0.04, 0.1, 0.04), (0.16, 0.15, 0.04))
DARK = (0.015, 0.015, 0.018)
GLASS = (0.05, 0.07, 0.09)


def shade(colour, factor: float) -> tuple[float, float, float]:
    """Returns a reflectance made lighter or darker."""
    return tuple(float(min(0.9, c * factor)) for c in colour)


def pick(rng: np.random.Generator, colours) -> tuple[float, float, float]:
    """Draws one of several reflectances, a little lighter or darker."""
    return shade(colours[rng.integers(len(colours))], rng.uniform(0.75, 1.25))


def paint_backdrop(rng: np.random.Generator, canvas: Canvas, world: World) -> None:
    """Paints what closes the view: a row of trees, and houses in front of it, in place."""
    camera, width = world.camera, canvas.owner.shape[1]
    leaf, z = pick(rng, LEAVES), 90.0
    for x in np.arange(-10, width + 10, 9 * camera.height_px / 128):
        centre = camera.point(0, rng.uniform(1, 4), z)[1]
        radius = rng.uniform(2.5, 4.5) * camera.scale(z)
        light = world.ambient * rng.uniform(0.5, 0.8)
        tree = ellipse(x, centre, radius * 1.3, radius)
        paint(
            canvas,
            tree,
            Material(
                shade(leaf, rng.uniform(0.8, 1.3)), world.air + rng.normal(0.5, 0.7 if world.night else 1.5), light
            ),
        )
    if rng.random() < 0.85:
        x = -rng.uniform(0, 8)
        while x < width:
            z = rng.uniform(35, 80)
            wide = rng.uniform(6, 18) * camera.scale(z)
            if rng.random() < 0.75:
                _paint_house(rng, canvas, world, x, x + wide, z)
            x += wide + rng.uniform(0, 6) * camera.scale(z)


def _wall_temperature(rng: np.random.Generator, world: World) -> float:
    if world.night:
        return world.air + rng.uniform(0.5, 3.5)
    return world.air + (rng.uniform(1, 11) if world.sunny else rng.uniform(0, 6))


def _paint_house(rng, canvas, world, left, right, z):
    camera = world.camera
    storeys = int(rng.integers(1, 6))
    top, bottom = camera.point(0, 3.2 * storeys + 0.8, z)[1], camera.ground(0, z)[1]
    wall, temperature = pick(rng, PLASTER), _wall_temperature(rng, world)
    light = float(world.light((left + right - camera.width_px) / 2 / camera.scale(z), z)) * rng.uniform(0.5, 1.0)
    paint(canvas, rectangle(left, top, right, bottom), Material(wall, temperature, light))
    columns = max(1, int((right - left) / (camera.scale(z) * rng.uniform(2.2, 3.5))))
    step_x, step_y = (right - left) / columns, (bottom - top) / storeys
    for row in range(storeys):
        for column in range(columns):
            x, y = left + (column + 0.25) * step_x, top + (row + 0.25) * step_y
            paint(canvas, rectangle(x, y, x + 0.5 * step_x, y + 0.5 * step_y), _window(rng, world, light, temperature))


def _window(rng, world, light, wall_temperature):
    lit = world.night and rng.random() < 0.25
    emission = tuple(np.array([0.5, 0.36, 0.16]) * rng.uniform(0.15, 1.0)) if lit else (0.0, 0.0, 0.0)
    if not world.night:
        emission = tuple(np.array([0.1, 0.13, 0.16]) * rng.uniform(0.1, 1.2))  # the sky, mirrored
    warmth = rng.uniform(1, 4) if lit else rng.uniform(-3, 1)
    return Material(GLASS, wall_temperature + warmth, light, emission)


def paint_street_wall(rng: np.random.Generator, canvas: Canvas, world: World, side: int) -> None:
    """Paints a row of houses along the view, to the left (-1) or the right (1), in place."""
    camera = world.camera
    x, z, end = side * rng.uniform(5, 9), 70.0, rng.uniform(8, 25)
    sunlit = world.sunny and side * world.sun_side > 0
    while z > end:
        near = max(z - rng.uniform(8, 16), 3.0)
        storeys, base = int(rng.integers(2, 6)), 0.0
        wall = pick(rng, PLASTER)
        temperature = _wall_temperature(rng, world) if sunlit else world.air + rng.uniform(0, 4)
        light = float(world.light(x, (near + z) / 2)) * (1.0 if sunlit or not world.sunny else 0.5)
        height = 3.2 * storeys + 0.8

        def quad(z0, z1, y0, y1, x=x):
            return np.array(
                [camera.point(x, y0, z0), camera.point(x, y1, z0), camera.point(x, y1, z1), camera.point(x, y0, z1)]
            )

        paint(canvas, quad(near, z, base, height), Material(wall, temperature, light))
        for z0 in np.arange(near + 0.8, z - 1.5, rng.uniform(2.4, 3.6)):
            for storey in range(min(storeys, 3)):
                y = 3.2 * storey + 1.0
                paint(canvas, quad(z0, z0 + 1.2, y, y + 1.5), _window(rng, world, light, temperature))
        z = near


def paint_tree(rng: np.random.Generator, canvas: Canvas, world: World, x: float, z: float) -> None:
    """Paints a tree with its foot at (x, z), in place."""
    camera, scale = world.camera, world.camera.scale(z)
    foot, light = camera.ground(x, z), float(world.light(x, z))
    height, radius = rng.uniform(4, 8), rng.uniform(0.1, 0.22)
    trunk_top = foot - (0, height * 0.7 * scale)
    warmth = rng.uniform(-1, 4) if not world.night else rng.uniform(-0.5, 1.5)
    trunk = Material(shade((0.12, 0.08, 0.05), rng.uniform(0.7, 1.6)), world.air + warmth, light)
    paint(canvas, capsule(foot, trunk_top, radius * scale, radius * 0.6 * scale), trunk)
    leaf = pick(rng, LEAVES)
    for _ in range(14):
        angle, reach = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0, 1))
        centre = trunk_top + np.array([np.cos(angle) * 1.3, np.sin(angle) * 0.9 - 0.4]) * reach * height * 0.22 * scale
        size = rng.uniform(0.07, 0.13) * height * scale
        up = 1.0 + 0.35 * np.clip((trunk_top[1] - centre[1]) / (height * 0.3 * scale), -1, 1)
        paint(
            canvas,
            ellipse(*centre, size * 1.2, size),
            Material(
                shade(leaf, up * rng.uniform(0.8, 1.2)),
                world.air + rng.normal(1.2, 0.8 if world.night else 1.8),
                light * (0.35 if world.night else 0.9),
            ),
        )


def paint_bush(rng: np.random.Generator, canvas: Canvas, world: World, x: float, z: float) -> None:
    """Paints a bush or a piece of hedge, in place."""
    camera, scale, light = world.camera, world.camera.scale(z), float(world.light(x, z))
    foot, leaf = camera.ground(x, z), pick(rng, LEAVES)
    width, height = rng.uniform(0.5, 1.3), rng.uniform(0.6, 1.2)
    for level in (0.35, 0.35, 0.6, 0.6, 0.75, 0.5, 0.3, 0.7):
        centre = foot + np.array([rng.uniform(-0.7, 0.7) * width, -level * height]) * scale
        size = rng.uniform(0.3, 0.4) * height * scale
        material = Material(
            shade(leaf, rng.uniform(0.6, 1.0) + 0.5 * level),
            world.air + rng.normal(1.0, 0.8 if world.night else 1.6),
            light,
        )
        paint(canvas, ellipse(*centre, size * 1.3, size), material)


def paint_pole(rng: np.random.Generator, canvas: Canvas, world: World, x: float, z: float) -> None:
    """Paints a sign post or a bare pole, in place."""
    camera, scale, light = world.camera, world.camera.scale(z), float(world.light(x, z))
    foot, height, radius = camera.ground(x, z), rng.uniform(2.2, 4.5), rng.uniform(0.03, 0.075)
    top = foot - (0, height * scale)
    warmth = rng.uniform(-2, 6) if not world.night else rng.uniform(-2, 1)
    metal = Material(shade((0.3, 0.3, 0.31), rng.uniform(0.4, 1.5)), world.air + warmth, light)
    paint(canvas, rectangle(foot[0] - radius * scale, top[1], foot[0] + radius * scale, foot[1]), metal)
    if rng.random() < 0.5:
        colour = ((0.6, 0.05, 0.05), (0.05, 0.15, 0.5), (0.7, 0.5, 0.05), (0.7, 0.7, 0.7))[rng.integers(4)]
        size = rng.uniform(0.25, 0.4) * scale
        plate = (
            ellipse(*top, size, size)
            if rng.random() < 0.5
            else rectangle(top[0] - size, top[1] - size, top[0] + size, top[1] + size)
        )
        paint(canvas, plate, Material(colour, world.air + warmth - 1, light))
        paint(canvas, ellipse(*top, size * 0.6, size * 0.6), Material((0.7, 0.7, 0.7), world.air + warmth - 1, light))


def paint_lamp(canvas: Canvas, world: World, x: float, z: float, height_m: float) -> None:
    """Paints a street lamp; it shines by night, in place."""
    camera, scale, light = world.camera, world.camera.scale(z), float(world.light(x, z))
    foot = camera.ground(x, z)
    top = foot - (0, height_m * scale)
    side = 1.0 if x < 0 else -1.0
    head = top + np.array([side * 0.9 * scale, 0])
    metal = Material((0.2, 0.2, 0.2), world.air, light)
    paint(canvas, capsule(foot, top, 0.08 * scale, 0.05 * scale), metal)
    paint(canvas, capsule(top, head, 0.05 * scale, 0.05 * scale), metal)
    shine = tuple(3.0 * t for t in world.tint) if world.night else (0.0, 0.0, 0.0)
    warmth = 16.0 if world.night else 2.0
    paint(
        canvas, ellipse(*head, 0.28 * scale, 0.11 * scale), Material((0.6, 0.6, 0.6), world.air + warmth, light, shine)
    )


def paint_car(rng: np.random.Generator, canvas: Canvas, world: World, x: float, z: float) -> None:
    """Paints a car seen from the side or along its axis, parked or just driven, in place."""
    camera, scale, light = world.camera, world.camera.scale(z), float(world.light(x, z))
    foot, colour = camera.ground(x, z), pick(rng, LACQUER)
    driven = rng.random() < 0.5
    sheet = world.air + (
        rng.uniform(-3, 0.5) if world.night else (rng.uniform(3, 18) if world.sunny else rng.uniform(1, 6))
    )
    hot = world.air + rng.uniform(8, 20) if driven else sheet + 1
    glass = Material(GLASS, sheet - rng.uniform(1, 5), light, (0.0, 0.0, 0.0) if world.night else (0.08, 0.1, 0.12))
    flip = rng.choice([-1.0, 1.0])
    wheel_warmth = world.air + (rng.uniform(6, 14) if driven else (0.0 if world.night else 3.0))

    def at(points):
        return foot + np.array(points, float) * (flip * scale, -scale)

    if rng.random() < 0.6:  # from the side, 4.2 m long
        body = at([(-2.1, 0.3), (-2.1, 0.75), (-1.9, 0.9), (1.0, 0.92), (2.0, 0.78), (2.12, 0.5), (2.1, 0.3)])
        cabin = at([(-1.75, 0.88), (-1.3, 1.42), (0.3, 1.45), (1.05, 0.9)])
        paint(
            canvas,
            at([(-2.1, 0.05), (-2.0, 0.35), (2.0, 0.35), (2.1, 0.05)]),
            Material(DARK, world.ground, light * 0.2),
        )
        paint(canvas, cabin, Material(shade(colour, 0.9), sheet + 1.5, light))
        paint(canvas, body, Material(colour, sheet, light))
        paint(canvas, at([(1.0, 0.9), (2.0, 0.78), (2.1, 0.5), (1.1, 0.55)]), Material(shade(colour, 1.05), hot, light))
        paint(canvas, at([(-1.5, 0.92), (-1.2, 1.34), (-0.5, 1.36), (-0.5, 0.92)]), glass)
        paint(canvas, at([(-0.4, 0.92), (-0.4, 1.36), (0.25, 1.36), (0.85, 0.92)]), glass)
        for wheel in (-1.35, 1.3):
            centre = at([(wheel, 0.31)])[0]
            paint(canvas, ellipse(*centre, 0.33 * scale, 0.33 * scale), Material(DARK, wheel_warmth, light))
            paint(
                canvas, ellipse(*centre, 0.17 * scale, 0.17 * scale), Material((0.3, 0.3, 0.3), wheel_warmth + 2, light)
            )
        return
    front = rng.random() < 0.5
    paint(
        canvas,
        at([(-0.85, 0), (-0.85, 0.4), (0.85, 0.4), (0.85, 0)]),
        Material(DARK, hot if driven else world.ground, light * 0.2),
    )
    for wheel in (-0.7, 0.7):
        paint(
            canvas,
            at([(wheel - 0.12, 0), (wheel - 0.12, 0.4), (wheel + 0.12, 0.4), (wheel + 0.12, 0)]),
            Material(DARK, wheel_warmth, light),
        )
    paint(
        canvas,
        at([(-0.72, 0.85), (-0.58, 1.44), (0.58, 1.44), (0.72, 0.85)]),
        Material(shade(colour, 0.9), sheet + 1.5, light),
    )
    paint(canvas, at([(-0.6, 0.9), (-0.5, 1.36), (0.5, 1.36), (0.6, 0.9)]), glass)
    paint(
        canvas,
        at([(-0.9, 0.28), (-0.88, 0.85), (-0.75, 0.93), (0.75, 0.93), (0.88, 0.85), (0.9, 0.28)]),
        Material(colour, sheet, light),
    )
    if front:
        paint(canvas, at([(-0.5, 0.35), (-0.5, 0.62), (0.5, 0.62), (0.5, 0.35)]), Material(DARK, hot, light))
    shining = world.night and driven
    bright = (1.6, 1.5, 1.3) if front else (0.5, 0.02, 0.01)
    for lamp in (-0.68, 0.68):
        centre = at([(lamp, 0.68)])[0]
        glow = bright if shining else (0.0, 0.0, 0.0)
        tone = (0.7, 0.7, 0.7) if front else (0.4, 0.03, 0.03)
        paint(
            canvas,
            ellipse(*centre, 0.14 * scale, 0.1 * scale),
            Material(tone, sheet + (6 if shining else 0), light, glow),
        )
