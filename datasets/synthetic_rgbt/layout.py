"""Random layouts: the objects of a scene, their places and their shadows."""

from typing import NamedTuple

import numpy as np

from datasets.synthetic_rgbt import canvas as canvases
from datasets.synthetic_rgbt.people import Figure, draw_figure
from datasets.synthetic_rgbt.world import Camera, Place, World, draw_place

PEOPLE_SHARES = (0.14, 0.26, 0.25, 0.18, 0.11, 0.06)  # of the scenes with 0, 1, 2... people: 2.0 on average
DECOY_SHARES = (0.6, 0.35, 0.05)  # of the scenes with 0, 1 and 2 decoys
HEIGHT_M = {"tree": 5.0, "bush": 1.0, "pole": 3.5, "car": 1.4}
HALF_WIDTH_M = {"tree": 0.15, "bush": 0.7, "pole": 0.05, "car": 1.2, "lamp": 0.08}
_FIGURE_HALF_WIDTH_M = 0.2


class Item(NamedTuple):
    """One object of a scene."""

    kind: str  # person, cold (decoy), hot (decoy), tree, bush, pole, car, lamp
    place: Place
    figure: Figure | None = None  # None except for a person


def draw(rng: np.random.Generator, world: World) -> list[Item]:
    """Draw the objects of a scene at random; people come first."""
    camera = world.camera
    people = _draw_people(rng, camera)
    decoys = []
    for _ in range(rng.choice(len(DECOY_SHARES), p=DECOY_SHARES)):
        cold = rng.random() < 0.4
        decoys.append(Item("cold" if cold else "hot", draw_place(rng, camera)))
    # Decoys are hidden as often as people, so that an object in front is no hint.
    hiding = [_draw_in_front(rng, item.place) for item in (*people, *decoys) if rng.random() < 0.12]
    return [*people, *decoys, *hiding, *_draw_scenery(rng, camera), *_draw_lamps(rng, world)]


def _draw_people(rng, camera):
    people = []
    for _ in range(rng.choice(len(PEOPLE_SHARES), p=PEOPLE_SHARES)):
        x, z, height_m = draw_place(rng, camera)
        if people and rng.random() < 0.25:  # walks beside another person
            beside = people[rng.integers(len(people))].place
            x, z = beside.x + rng.choice([-1, 1]) * rng.uniform(0.5, 1.0), beside.z + rng.uniform(-0.5, 0.5)
        people.append(Item("person", Place(x, z, height_m), draw_figure(rng)))
    return people


def _draw_in_front(rng, behind: Place):
    """Draw an object that may hide what is at a place."""
    kind = str(rng.choice(["car", "bush", "pole"]))
    z = behind.z * rng.uniform(0.85, 0.97)
    reach_m = {"car": 2.3, "bush": 0.8, "pole": 0.25}[kind]
    return Item(kind, Place(behind.x * z / behind.z + rng.uniform(-reach_m, reach_m), z, HEIGHT_M[kind]))


def _draw_scenery(rng, camera: Camera):
    items = []
    for kind, most, nearest_m in (("tree", 3, 10.0), ("bush", 2, 12.0), ("pole", 2, 7.0), ("car", 2, 11.0)):
        for _ in range(rng.integers(0, most + 1)):
            z = nearest_m * (40 / nearest_m) ** rng.random()
            items.append(Item(kind, Place(rng.uniform(-1.1, 1.1) * camera.half_width_m(z), z, HEIGHT_M[kind])))
    return items


def _draw_lamps(rng, world: World):
    if world.night:
        feet = [(lamp.x, lamp.z) for lamp in world.lamps]
    else:
        feet = [(rng.uniform(-6, 6), rng.uniform(9, 35)) for _ in range(rng.integers(0, 3))]
    return [Item("lamp", Place(x, z, rng.uniform(4.5, 7))) for x, z in feet]


def shadows(items: list[Item], world: World) -> np.ndarray:
    """Return where an object shades the ground, bool ``[h, w]`` on the canvas."""
    camera = world.camera
    mask = np.zeros((camera.height_px, camera.width_px), np.uint8)
    for item in items if world.sunny else ():
        x, z, height_m = item.place
        half = HALF_WIDTH_M.get(item.kind, _FIGURE_HALF_WIDTH_M)
        tip_x, tip_z = x + world.sun_side * height_m, z + 0.5 * height_m
        corners = ((x - half, z), (x + half, z), (tip_x + half, tip_z), (tip_x - half, tip_z))
        canvases.fill(mask, np.array([camera.point(x, 0.0, z) for x, z in corners]), 1)
        if item.kind == "tree":
            centre, scale = camera.point(tip_x, 0.0, tip_z), camera.scale(tip_z)
            canvases.fill(mask, canvases.ellipse(centre, 1.6 * scale, 0.35 * scale), 1)
    return mask > 0
