"""Decoys: objects that look like a person in one modality, but not in the other.

Cold decoys look like people in the visible image and are too cold in the thermal image. Hot decoys look like people in
the thermal image and are ordinary objects in the visible image.
"""

import numpy as np

from datasets.synthetic_rgbt.canvas import Canvas
from datasets.synthetic_rgbt.people import Figure, draw_figure, paint_figure
from datasets.synthetic_rgbt.standing import NO_GLOW, Standing, pick, shade, stand
from datasets.synthetic_rgbt.world import Place, World

SIGNAL = ((0.6, 0.04, 0.03), (0.7, 0.55, 0.04), (0.04, 0.2, 0.55), (0.05, 0.4, 0.15), (0.65, 0.65, 0.66))
STONE = ((0.5, 0.5, 0.48), (0.1, 0.16, 0.13), (0.2, 0.13, 0.07))
STEEL = ((0.35, 0.36, 0.38), (0.25, 0.25, 0.24), (0.5, 0.5, 0.5))
COAT = ((0.15, 0.08, 0.04), (0.03, 0.03, 0.03), (0.45, 0.38, 0.28))
WHITE = (0.75, 0.75, 0.75)


def paint_cold_decoy(rng: np.random.Generator, canvas: Canvas, world: World, place: Place) -> None:
    """Paint a poster of a person, a statue or a manikin, in place."""
    frame = stand(canvas, world, place.x, place.z, place.height_m)
    # Hollow plastic, paper and stone warm up slowly: they stay colder than people and most sun-warmed surfaces.
    temperature = world.air + (rng.uniform(-1.0, 0.5) if world.night else rng.uniform(-6, -2.5))
    drawn, kind = draw_figure(rng), rng.random()
    if kind < 0.2:
        frame.box(-0.3, 0, 0.3, 1.08, pick(rng, SIGNAL), temperature)
    elif kind < 0.4:
        stone = pick(rng, STONE)
        drawn = Figure(drawn.parts, {name: shade(stone, rng.uniform(0.85, 1.1)) for name in drawn.colours})
    paint_figure(frame, drawn, dict.fromkeys(drawn.colours, temperature))


def paint_hot_decoy(rng: np.random.Generator, canvas: Canvas, world: World, place: Place) -> None:
    """Paint a heated pillar, a cabinet with a chimney, a lit sign with a warm figure, or an animal, in place."""
    frame = stand(canvas, world, place.x, place.z, place.height_m, mirrored=rng.random() < 0.5)
    temperature = world.air + (rng.uniform(6, 14) if world.night else rng.uniform(1, 8))
    decoys = (_paint_pillar, _paint_cabinet, _paint_lit_sign, _paint_animal)
    paint_decoy = decoys[rng.choice(len(decoys), p=(0.33, 0.22, 0.3, 0.15))]
    paint_decoy(rng, world, frame, temperature)


def _paint_pillar(rng, world, frame: Standing, temperature: float):
    """Paint a pillar of a person's height and width, with a round top and two white bands."""
    colour, half = pick(rng, SIGNAL), rng.uniform(0.09, 0.15)
    frame.stroke((0, half), (0, 0.78), half, half * rng.uniform(0.7, 1.0), colour, temperature)
    glow = shade(colour, 0.5) if world.night and rng.random() < 0.7 else NO_GLOW
    frame.disc(0, 0.92, 0.07, 0.08, shade(colour, 1.3), temperature + rng.uniform(0, 5), glow=glow)
    for y in (0.3, 0.55):
        frame.box(-half, y, half, y + 0.07, WHITE, temperature)


def _paint_cabinet(rng, world, frame: Standing, temperature: float):
    """Paint a metal box with a chimney in the place of a head."""
    metal, half, top = pick(rng, STEEL), rng.uniform(0.13, 0.2), rng.uniform(0.5, 0.75)
    frame.box(-half, 0, half, top, metal, temperature)
    frame.box(-0.7 * half, 0.5 * top, 0.7 * half, 0.8 * top, shade(metal, 0.5), temperature + 1)
    frame.box(-0.06, top, 0.06, 1, shade(metal, 0.7), temperature + rng.uniform(2, 6))


def _paint_lit_sign(rng, world, frame: Standing, temperature: float):
    """Paint a coloured board with a white figure that is as warm as a person."""
    colour, glow = pick(rng, SIGNAL[:4]), rng.uniform(0.15, 0.5) if world.night else 0.0
    frame.box(-0.27, -0.02, 0.27, 1.08, colour, world.air + rng.uniform(0, 2), glow=shade(colour, glow))
    drawn = draw_figure(rng)
    white = Figure(drawn.parts, dict.fromkeys(drawn.colours, WHITE))
    paint_figure(frame, white, dict.fromkeys(white.colours, temperature), emission=glow)


def _paint_animal(rng, world, frame: Standing, temperature: float):
    """Paint a four-legged animal from the side; the frame's unit is about the animal's length."""
    coat = pick(rng, COAT)
    for x in (-0.3, -0.22, 0.22, 0.3):
        frame.stroke((x, 0.45), (x + rng.uniform(-0.05, 0.05), 0.02), 0.045, 0.03, coat, temperature)
    frame.stroke((-0.25, 0.52), (0.25, 0.52), 0.13, 0.13, coat, temperature)
    frame.stroke((0.3, 0.55), (0.42, 0.82), 0.09, 0.05, coat, temperature)
    frame.stroke((0.4, 0.86), (0.55, 0.8), 0.065, 0.04, coat, temperature + 3)
