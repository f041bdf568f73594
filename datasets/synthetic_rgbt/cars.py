"""Cars, parked or just driven, seen from the side, the front or the back."""

import numpy as np

from datasets.synthetic_rgbt.canvas import Canvas
from datasets.synthetic_rgbt.standing import NO_GLOW, pick, shade, stand
from datasets.synthetic_rgbt.world import World

LACQUER = (
    (0.6, 0.6, 0.62),
    (0.03, 0.03, 0.035),
    (0.3, 0.31, 0.33),
    (0.4, 0.03, 0.03),
    (0.04, 0.08, 0.25),
    (0.75, 0.75, 0.73),
    (0.1, 0.2, 0.15),
)
BLACK = (0.015, 0.015, 0.018)
GLASS = (0.05, 0.07, 0.09)
MIRRORED_SKY = (0.08, 0.1, 0.12)


def paint_car(rng: np.random.Generator, canvas: Canvas, world: World, x: float, z: float) -> None:
    """Paint a car with its middle at (x, z) in metres, in place.

    Sheet metal becomes colder than the air by night and hot in the sun. A car that was just driven has a hot engine and
    warm wheels, and its lights are on by night.
    """
    paint_from = _paint_from_the_side if rng.random() < 0.6 else _paint_along_its_axis
    frame = stand(canvas, world, x, z, mirrored=rng.random() < 0.5)
    driven = rng.random() < 0.5
    if world.night:
        sheet = world.air + rng.uniform(-3, 0.5)
    else:
        sheet = world.air + (rng.uniform(3, 18) if world.sunny else rng.uniform(1, 6))
    engine = world.air + rng.uniform(8, 20) if driven else sheet + 1
    wheels = world.air + (rng.uniform(6, 14) if driven else (0.0 if world.night else 3.0))
    panes = sheet - rng.uniform(1, 5)
    lights_on = world.night and driven
    paint_from(rng, world, frame, pick(rng, LACQUER), sheet, engine, wheels, panes, lights_on)


def _paint_from_the_side(rng, world, frame, colour, sheet, engine, wheels, panes, lights_on):
    sky = NO_GLOW if world.night else MIRRORED_SKY
    frame.polygon(((-2.1, 0.05), (-2.0, 0.35), (2.0, 0.35), (2.1, 0.05)), BLACK, world.ground, 0.2)
    frame.polygon(((-1.75, 0.88), (-1.3, 1.42), (0.3, 1.45), (1.05, 0.9)), shade(colour, 0.9), sheet + 1.5)
    body = ((-2.1, 0.3), (-2.1, 0.75), (-1.9, 0.9), (1.0, 0.92), (2.0, 0.78), (2.12, 0.5), (2.1, 0.3))
    frame.polygon(body, colour, sheet)
    frame.polygon(((1.0, 0.9), (2.0, 0.78), (2.1, 0.5), (1.1, 0.55)), shade(colour, 1.05), engine)
    frame.polygon(((-1.5, 0.92), (-1.2, 1.34), (-0.5, 1.36), (-0.5, 0.92)), GLASS, panes, glow=sky)
    frame.polygon(((-0.4, 0.92), (-0.4, 1.36), (0.25, 1.36), (0.85, 0.92)), GLASS, panes, glow=sky)
    for wheel in (-1.35, 1.3):
        frame.disc(wheel, 0.31, 0.33, 0.33, BLACK, wheels)
        frame.disc(wheel, 0.31, 0.17, 0.17, (0.3, 0.3, 0.3), wheels + 2)
    if lights_on:
        frame.disc(2.05, 0.66, 0.09, 0.09, (0.7, 0.7, 0.7), engine, glow=(1.6, 1.5, 1.3))
        frame.disc(-2.05, 0.7, 0.07, 0.09, (0.4, 0.03, 0.03), sheet + 4, glow=(0.5, 0.02, 0.01))


def _paint_along_its_axis(rng, world, frame, colour, sheet, engine, wheels, panes, lights_on):
    sky = NO_GLOW if world.night else MIRRORED_SKY
    from_the_front = rng.random() < 0.5
    frame.box(-0.85, 0, 0.85, 0.4, BLACK, max(engine - 6, world.ground), 0.2)
    for wheel in (-0.7, 0.7):
        frame.box(wheel - 0.12, 0, wheel + 0.12, 0.4, BLACK, wheels)
    frame.polygon(((-0.72, 0.85), (-0.58, 1.44), (0.58, 1.44), (0.72, 0.85)), shade(colour, 0.9), sheet + 1.5)
    frame.polygon(((-0.6, 0.9), (-0.5, 1.36), (0.5, 1.36), (0.6, 0.9)), GLASS, panes, glow=sky)
    body = ((-0.9, 0.28), (-0.88, 0.85), (-0.75, 0.93), (0.75, 0.93), (0.88, 0.85), (0.9, 0.28))
    frame.polygon(body, colour, sheet)
    if from_the_front:
        frame.box(-0.5, 0.35, 0.5, 0.62, BLACK, engine)
    glass, shine = ((0.7, 0.7, 0.7), (1.6, 1.5, 1.3)) if from_the_front else ((0.4, 0.03, 0.03), (0.5, 0.02, 0.01))
    for lamp in (-0.68, 0.68):
        warmth = 6 if lights_on else 0
        frame.disc(lamp, 0.68, 0.14, 0.1, glass, sheet + warmth, glow=shine if lights_on else NO_GLOW)
