"""Objects along a street: trees, bushes, poles and lamps."""

import numpy as np

from datasets.synthetic_rgbt.canvas import Canvas
from datasets.synthetic_rgbt.standing import NO_GLOW, pick, shade, stand
from datasets.synthetic_rgbt.world import World

LEAVES = ((0.06, 0.14, 0.03), (0.1, 0.18, 0.04), (0.04, 0.1, 0.04), (0.16, 0.15, 0.04))
BARK = (0.12, 0.08, 0.05)
METAL = (0.3, 0.3, 0.31)
SIGNS = ((0.6, 0.05, 0.05), (0.05, 0.15, 0.5), (0.7, 0.5, 0.05), (0.7, 0.7, 0.7))


def paint_tree(rng: np.random.Generator, canvas: Canvas, world: World, x: float, z: float) -> None:
    """Paint a tree at (x, z) in metres, in place."""
    frame = stand(canvas, world, x, z)
    height, radius = rng.uniform(4, 8), rng.uniform(0.1, 0.22)
    fork = 0.7 * height
    trunk = world.air + (rng.uniform(-0.5, 1.5) if world.night else rng.uniform(-1, 4))
    frame.stroke((0, 0), (0, fork), radius, 0.6 * radius, shade(BARK, rng.uniform(0.7, 1.6)), trunk)
    leaf = pick(rng, LEAVES)
    crown_tone, spread = (0.35, 0.8) if world.night else (0.9, 1.8)
    for _ in range(14):
        angle, reach = rng.uniform(0, 2 * np.pi), 0.22 * height * np.sqrt(rng.uniform(0, 1))
        up = (0.4 - 0.9 * np.sin(angle)) * reach
        size = rng.uniform(0.07, 0.13) * height
        colour = shade(leaf, rng.uniform(0.8, 1.2) * (1 + 0.35 * np.clip(up / (0.3 * height), -1, 1)))
        temperature = world.air + rng.normal(1.2, spread)
        frame.disc(1.3 * np.cos(angle) * reach, fork + up, 1.2 * size, size, colour, temperature, crown_tone)


def paint_bush(rng: np.random.Generator, canvas: Canvas, world: World, x: float, z: float) -> None:
    """Paint a bush at (x, z) in metres, in place."""
    frame, leaf = stand(canvas, world, x, z), pick(rng, LEAVES)
    width, height = rng.uniform(0.5, 1.3), rng.uniform(0.6, 1.2)
    for level in (0.35, 0.35, 0.6, 0.6, 0.75, 0.5, 0.3, 0.7):
        size = rng.uniform(0.3, 0.4) * height
        colour = shade(leaf, rng.uniform(0.6, 1.0) + 0.5 * level)
        temperature = world.air + rng.normal(1.0, 0.8 if world.night else 1.6)
        frame.disc(rng.uniform(-0.7, 0.7) * width, level * height, 1.3 * size, size, colour, temperature)


def paint_pole(rng: np.random.Generator, canvas: Canvas, world: World, x: float, z: float) -> None:
    """Paint a pole at (x, z) in metres, with or without a traffic sign, in place."""
    frame = stand(canvas, world, x, z)
    height, radius = rng.uniform(2.2, 4.5), rng.uniform(0.03, 0.075)
    temperature = world.air + (rng.uniform(-2, 1) if world.night else rng.uniform(-2, 6))
    frame.box(-radius, 0, radius, height, shade(METAL, rng.uniform(0.4, 1.5)), temperature)
    if rng.random() < 0.5:
        colour, size = SIGNS[rng.integers(len(SIGNS))], rng.uniform(0.25, 0.4)
        if rng.random() < 0.5:
            frame.disc(0, height, size, size, colour, temperature - 1)
        else:
            frame.box(-size, height - size, size, height + size, colour, temperature - 1)
        frame.disc(0, height, 0.6 * size, 0.6 * size, (0.7, 0.7, 0.7), temperature - 1)


def paint_lamp(canvas: Canvas, world: World, x: float, z: float, height_m: float) -> None:
    """Paint a street lamp at (x, z) in metres, which shines by night, in place."""
    frame = stand(canvas, world, x, z, mirrored=x > 0)
    frame.stroke((0, 0), (0, height_m), 0.08, 0.05, shade(METAL, 0.7), world.air)
    frame.stroke((0, height_m), (0.9, height_m), 0.05, 0.05, shade(METAL, 0.7), world.air)
    glow, warmth = (tuple(3.0 * channel for channel in world.tint), 16.0) if world.night else (NO_GLOW, 2.0)
    frame.disc(0.9, height_m, 0.28, 0.11, (0.6, 0.6, 0.6), world.air + warmth, glow=glow)
