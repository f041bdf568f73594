"""Articulated figures: poses, clothes, and the polygons of their parts.

A figure stands on the origin; x points to the right, y UP, in units of the figure's height. Place and material are not
part of a figure, so that a person, a manikin and a painted sign can share a pose.
"""

from typing import NamedTuple

import numpy as np

from datasets.synthetic_rgbt.canvas import SCENERY, capsule, ellipse
from datasets.synthetic_rgbt.standing import Colour, Standing, pick
from datasets.synthetic_rgbt.world import World

SKIN = ((0.62, 0.42, 0.32), (0.5, 0.31, 0.21), (0.3, 0.17, 0.1), (0.7, 0.5, 0.4), (0.17, 0.09, 0.06))
HAIR = ((0.02, 0.015, 0.01), (0.08, 0.04, 0.02), (0.3, 0.2, 0.08), (0.35, 0.35, 0.35), (0.03, 0.03, 0.03))
SUBDUED = (
    (0.02, 0.02, 0.025),
    (0.04, 0.05, 0.1),
    (0.12, 0.12, 0.13),
    (0.25, 0.2, 0.13),
    (0.07, 0.09, 0.06),
    (0.1, 0.14, 0.25),
)
BRIGHT = (
    (0.55, 0.05, 0.05),
    (0.75, 0.73, 0.7),
    (0.05, 0.2, 0.5),
    (0.7, 0.5, 0.05),
    (0.1, 0.35, 0.15),
    (0.6, 0.25, 0.4),
    (0.7, 0.3, 0.05),
    (0.35, 0.1, 0.4),
)


class Part(NamedTuple):
    """One polygon of a figure; a figure's parts are painted in order."""

    name: str  # key of colours and temperatures: skin, hair, top, bottom, shoes, bag
    polygon: np.ndarray  # float [N, 2]


class Figure(NamedTuple):
    """A posed and dressed figure."""

    parts: tuple[Part, ...]
    colours: dict[str, Colour]  # linear reflectance by part name


def draw_figure(rng: np.random.Generator) -> Figure:
    """Draw a figure with a random pose and random clothes."""
    return Figure(_pose(rng), _clothes(rng))


def _clothes(rng: np.random.Generator) -> dict[str, Colour]:
    return {
        "skin": pick(rng, SKIN),
        "hair": pick(rng, HAIR if rng.random() < 0.8 else BRIGHT),
        "top": pick(rng, BRIGHT if rng.random() < 0.75 else SUBDUED),
        "bottom": pick(rng, BRIGHT if rng.random() < 0.35 else SUBDUED),
        "shoes": pick(rng, BRIGHT if rng.random() < 0.2 else SUBDUED),
        "bag": pick(rng, BRIGHT if rng.random() < 0.4 else SUBDUED),
    }


def _limb(names, root, angles, lengths, radii):
    """Return the upper and the lower part of a limb that hangs from ``root``, and its end point.

    ``angles`` are measured from straight down, in radians.
    """
    middle = root + lengths[0] * np.array([np.sin(angles[0]), -np.cos(angles[0])])
    end = middle + lengths[1] * np.array([np.sin(angles[1]), -np.cos(angles[1])])
    upper = Part(names[0], capsule(root, middle, radii[0], radii[1]))
    lower = Part(names[1], capsule(middle, end, radii[1], radii[2]))
    return upper, lower, end


def _pose(rng: np.random.Generator) -> tuple[Part, ...]:
    side = rng.uniform(0, 1)  # 0 seen from the front or back, 1 from the side
    facing = rng.choice([-1.0, 1.0])
    walking = rng.random() < 0.75
    stride = (rng.uniform(0.25, 0.55) if walking else rng.uniform(0.0, 0.08)) * (0.2 + 0.8 * side)
    phase = rng.uniform(0, 2 * np.pi)
    build = rng.uniform(0.85, 1.25)

    swing = stride * np.sin(phase)
    hip_half = build * (0.055 - 0.03 * side)
    shoulder_half = build * (0.115 - 0.06 * side)
    lean = facing * side * rng.uniform(0, 0.03)
    hip_y, shoulder_y = 0.49, 0.8

    legs, arms = [], []
    for sign in (-1, 1):
        thigh = facing * sign * swing + sign * 0.04 * (1 - side)
        # A leg that swings forward bends at the knee, but only while it is off the ground.
        bend = facing * stride * max(0.0, sign * np.cos(phase)) * 1.3
        root = np.array([sign * hip_half, hip_y])
        radii = np.array([0.062, 0.046, 0.032]) * build
        upper, lower, ankle = _limb(("bottom", "bottom"), root, (thigh, thigh - bend), (0.235, 0.225), radii)
        toe = ankle + np.array([facing * (0.015 + 0.05 * side), -0.012])
        legs.append([upper, lower, Part("shoes", capsule(ankle, toe, 0.028, 0.022))])

        shoulder_angle = -facing * sign * swing * 0.9 + sign * rng.uniform(0.05, 0.2) * (1 - side)
        elbow_angle = shoulder_angle + facing * rng.uniform(0.1, 0.5) * (0.3 + 0.7 * side)
        if rng.random() < 0.12:
            elbow_angle = shoulder_angle + facing * rng.uniform(1.5, 2.4)  # holds a telephone, points at something
        root = np.array([lean + sign * shoulder_half, shoulder_y - 0.01])
        sleeves = "top" if rng.random() < 0.75 else "skin"
        radii = np.array([0.04, 0.034, 0.025]) * build
        upper, lower, hand = _limb(("top", sleeves), root, (shoulder_angle, elbow_angle), (0.155, 0.145), radii)
        arms.append([upper, lower, Part("skin", ellipse(hand, 0.024, 0.026))])

    waist = build * (0.085 - 0.02 * side)
    chest = shoulder_half + 0.035
    coat = rng.random() < 0.3
    hem_y, hem = (rng.uniform(0.26, 0.42), waist * rng.uniform(1.1, 1.5)) if coat else (0.46, waist)
    torso = np.array(
        [
            [lean - 0.03, 0.845],
            [lean + 0.03, 0.845],
            [lean + chest, shoulder_y],
            [lean * 0.5 + waist, 0.6],
            [hem, hem_y],
            [-hem, hem_y],
            [lean * 0.5 - waist, 0.6],
            [lean - chest, shoulder_y],
        ]
    )
    head = np.array([lean * 1.5 + facing * side * 0.012, 0.925])
    face = head + np.array([facing * side * 0.014, -0.012])
    from_behind = side < 0.5 and rng.random() < 0.5
    head_parts = [
        Part("skin", capsule(head - (0, 0.09), head - (0, 0.03), 0.03, 0.03)),
        Part("hair", ellipse((head[0], head[1] + 0.008), 0.054, 0.066)),
    ]
    if not from_behind:
        head_parts.append(Part("skin", ellipse(face, 0.044, 0.054)))

    bag = []
    kind = rng.random()
    if kind < 0.2:  # a rucksack, seen from the side or from behind
        centre = np.array([lean - facing * side * (waist + 0.045), 0.7])
        bag = [Part("bag", ellipse(centre, 0.045 + 0.04 * (1 - side), 0.1))]
    elif kind < 0.38:  # a bag in the hand or on the shoulder
        centre = np.array([rng.choice([-1, 1]) * (shoulder_half + 0.06), rng.uniform(0.36, 0.52)])
        bag = [Part("bag", ellipse(centre, rng.uniform(0.04, 0.06), rng.uniform(0.05, 0.075)))]

    far, near = (0, 1) if facing > 0 else (1, 0)
    over = bag if from_behind else []
    under = [] if from_behind else bag
    return (*arms[far], *legs[far], *legs[near], *under, Part("top", torso), *head_parts, *arms[near], *over)


def outline(figure: Figure, frame: Standing) -> list[np.ndarray]:
    """Return the polygons of a figure's parts on the canvas, float ``[N, 2]`` each.

    The frame's unit is the figure's height.
    """
    return [frame.at(part.polygon) for part in figure.parts]


def paint_figure(
    frame: Standing, figure: Figure, temperatures: dict[str, float], owner: int = SCENERY, emission: float = 0.0
) -> None:
    """Paint a figure, in place.

    Args:
        frame: the figure's frame; its unit is the figure's height.
        figure: pose and clothes.
        temperatures: degrees Celsius by part name.
        owner: number of the person, or SCENERY.
        emission: emitted light as a share of the reflectance.
    """
    for number, part in enumerate(figure.parts):
        colour = figure.colours[part.name]
        # The parts differ a little in tone, so that a dark coat is not one flat patch.
        tone = 0.88 + 0.06 * (number * 7 % 5)
        frame.polygon(part.polygon, colour, temperatures[part.name], tone, tuple(emission * c for c in colour), owner)


def body_temperatures(rng: np.random.Generator, world: World) -> dict[str, float]:
    """Draw the surface temperatures of a clothed person, in degrees Celsius by part name.

    By night, skin is much warmer than the surroundings, and clothes are clearly warmer. By day, clothes have a
    temperature between those of the air and the ground, like the surroundings, and skin is hardly warmer.
    """
    if world.night:
        clothes, skin = world.air + rng.uniform(4, 11), world.air + rng.uniform(9, 16)
        spread, bag = 1.2, world.air + rng.uniform(1, 5)
    else:
        clothes = world.air + rng.random() * (world.ground - world.air) + rng.normal(0.0, 0.5)
        skin = clothes + rng.uniform(0.0, 1.5)
        spread, bag = 0.7, clothes + rng.normal(0, 1.5)
    return {
        "skin": skin,
        "hair": 0.6 * skin + 0.4 * clothes,
        "top": clothes + rng.normal(0, spread),
        "bottom": clothes + rng.normal(-0.5, spread),
        "shoes": clothes + rng.normal(-2.0 if world.night else 0.0, spread),
        "bag": bag,
    }
