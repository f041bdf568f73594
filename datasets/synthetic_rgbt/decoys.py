"""What is easily taken for a person in one modality and plainly is none in both together.

Cold decoys look like people in visible light and have the temperature of shade. Hot decoys look like people in
thermal and are plain objects in visible light.
"""

import numpy as np

from datasets.synthetic_rgbt.canvas import Canvas, Material, capsule, ellipse, paint, rectangle
from datasets.synthetic_rgbt.people import figure, paint_figure
from datasets.synthetic_rgbt.surroundings import shade
from datasets.synthetic_rgbt.world import Place, World

SIGNAL = ((0.6, 0.04, 0.03), (0.7, 0.55, 0.04), (0.04, 0.2, 0.55), (0.05, 0.4, 0.15), (0.65, 0.65, 0.66))


def paint_cold_decoy(rng: np.random.Generator, canvas: Canvas, world: World, place: Place) -> None:
    """Paints a manikin, a poster, a statue or a dressed post, in place."""
    light = float(world.light(place.x, place.z))
    # By day the ground and people are warmed by the sun; these hang in the shade or are hollow.
    cold = world.air + (rng.uniform(-1.0, 0.5) if world.night else rng.uniform(-6, -2.5))
    kind = rng.random()
    drawn = figure(rng)
    if kind < 0.2:  # a poster on a stand
        foot, size = world.camera.ground(place.x, place.z), place.height_m * world.camera.scale(place.z)
        board = rectangle(foot[0] - 0.3 * size, foot[1] - 1.08 * size, foot[0] + 0.3 * size, foot[1] - 0.0 * size)
        paint(canvas, board, Material(shade(SIGNAL[rng.integers(len(SIGNAL))], rng.uniform(0.6, 1.0)), cold, light))
    elif kind < 0.4:  # a statue
        stone = shade(((0.5, 0.5, 0.48), (0.1, 0.16, 0.13), (0.2, 0.13, 0.07))[rng.integers(3)], rng.uniform(0.8, 1.2))
        drawn = drawn._replace(colours={name: shade(stone, rng.uniform(0.85, 1.1)) for name in drawn.colours})
    paint_figure(canvas, world, drawn, place, dict.fromkeys(drawn.colours, cold), light)


def paint_hot_decoy(rng: np.random.Generator, canvas: Canvas, world: World, place: Place) -> None:
    """Paints a heated pillar, a bin with a chimney, a lit sign with a warm figure, or an animal, in place."""
    foot, size = world.camera.ground(place.x, place.z), place.height_m * world.camera.scale(place.z)
    light = float(world.light(place.x, place.z))
    warm = world.air + rng.uniform(9, 16) if world.night else world.air + rng.uniform(1, 8)

    def at(points):
        return foot + np.array(points, float) * (size, -size)

    kind = rng.random()
    colour = shade(SIGNAL[rng.integers(len(SIGNAL))], rng.uniform(0.7, 1.1))
    if kind < 0.35:  # a pillar with a round top
        half = rng.uniform(0.09, 0.15)
        paint(
            canvas,
            capsule(*at([(0, half), (0, 0.78)]), half * size, half * rng.uniform(0.7, 1.0) * size),
            Material(colour, warm, light),
        )
        glow = tuple(0.5 * c for c in colour) if world.night and rng.random() < 0.7 else (0.0, 0.0, 0.0)
        paint(
            canvas,
            ellipse(*at([(0, 0.92)])[0], 0.07 * size, 0.08 * size),
            Material(shade(colour, 1.3), warm + rng.uniform(0, 5), light, glow),
        )
        for y in (0.3, 0.55):
            paint(
                canvas,
                at([(-half, y), (-half, y + 0.07), (half, y + 0.07), (half, y)]),
                Material((0.75, 0.75, 0.75), warm, light),
            )
    elif kind < 0.6:  # a metal box with a chimney
        half, top = rng.uniform(0.13, 0.2), rng.uniform(0.5, 0.75)
        metal = shade((0.35, 0.36, 0.38), rng.uniform(0.6, 1.5))
        paint(canvas, at([(-half, 0), (-half, top), (half, top), (half, 0)]), Material(metal, warm, light))
        paint(
            canvas,
            at([(-0.06, top), (-0.06, 1), (0.06, 1), (0.06, top)]),
            Material(shade(metal, 0.7), warm + rng.uniform(2, 6), light),
        )
        paint(
            canvas,
            at([(-half * 0.7, top * 0.5), (-half * 0.7, top * 0.8), (half * 0.7, top * 0.8), (half * 0.7, top * 0.5)]),
            Material(shade(metal, 0.5), warm + 1, light),
        )
    elif kind < 0.8:  # a lit sign whose figure is warm
        glow = rng.uniform(0.15, 0.5) if world.night else 0.0
        panel = Material(colour, world.air + rng.uniform(0, 2), light, tuple(glow * c for c in colour))
        paint(canvas, at([(-0.27, -0.02), (-0.27, 1.08), (0.27, 1.08), (0.27, -0.02)]), panel)
        drawn = figure(rng)
        white = dict.fromkeys(drawn.colours, (0.8, 0.8, 0.8))
        paint_figure(
            canvas, world, drawn._replace(colours=white), place, dict.fromkeys(white, warm), light, emission=glow
        )
    else:  # an animal on four legs
        coat = shade(
            ((0.15, 0.08, 0.04), (0.03, 0.03, 0.03), (0.45, 0.38, 0.28))[rng.integers(3)], rng.uniform(0.8, 1.2)
        )
        fur, flip = Material(coat, warm, light), rng.choice([-1.0, 1.0])
        for x in (-0.3, -0.22, 0.22, 0.3):
            paint(
                canvas, capsule(*at([(x, 0.45), (x + rng.uniform(-0.05, 0.05), 0.02)]), 0.045 * size, 0.03 * size), fur
            )
        paint(canvas, capsule(*at([(-0.25, 0.52), (0.25, 0.52)]), 0.13 * size, 0.13 * size), fur)
        paint(canvas, capsule(*at([(flip * 0.3, 0.55), (flip * 0.42, 0.82)]), 0.09 * size, 0.05 * size), fur)
        head = Material(coat, warm + 3, light)
        paint(canvas, capsule(*at([(flip * 0.4, 0.86), (flip * 0.55, 0.8)]), 0.065 * size, 0.04 * size), head)
