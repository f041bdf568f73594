"""One synthetic RGB-thermal pair: street scenes by day and by night, with people and what passes for people.

By day people have little thermal contrast among sun-heated clutter; by night visible light shows little outside of
pools of lamp light. In each modality some things are shaped like people that the other modality tells from them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from datasets.synthetic_rgbt import canvas as canvases
from datasets.synthetic_rgbt import decoys, ground, people, sensors, surroundings, world
from datasets.synthetic_rgbt.world import Place, World

SUPERSAMPLING = 2
# Visible shares of a person's pixels below which the person is partially or heavily occluded, ignored, not annotated.
PARTIAL_SHARE, HEAVY_SHARE, IGNORED_SHARE, UNSEEN_SHARE = 0.95, 0.65, 0.2, 0.03


class Scene(NamedTuple):
    """A rendered pair and its exact annotations, for P people."""

    visible: np.ndarray  # uint8 [H, W, 3], RGB
    lwir: np.ndarray  # uint8 [H, W]
    is_night: bool
    boxes: np.ndarray  # float32 [P, 4], [x, y, w, h] in pixels; the whole person's, cut off at the image's border
    occlusion: np.ndarray  # int32 [P], 0 none, 1 partial, 2 heavy
    ignore: np.ndarray  # bool [P], true where next to nothing of the person can be seen
    masks: np.ndarray  # bool [P, H, W], pixels that the person would cover if nothing stood before it


def render(seed: int | Sequence[int], index: int, height_px: int, width_px: int) -> Scene:
    """Renders a scene; even indices are days, odd ones nights.

    Args:
        seed: one or several non-negative integers.
        index: the scene's number, not negative; seed and index alone decide what is in the scene, and the image's
            size only how finely it is shown.
        height_px: height of the images.
        width_px: width of the images.
    """
    seeds = [*np.atleast_1d(seed).tolist(), index]
    # Layout and pixels have generators of their own: a larger image then shows the same scene.
    layout, texture, pixels = (np.random.default_rng([*seeds, stream]) for stream in range(3))
    night = index % 2 == 1
    height, width = height_px * SUPERSAMPLING, width_px * SUPERSAMPLING
    conditions = world.draw(layout, night, height, width)
    canvas = canvases.blank(height, width)

    standing = _plan(layout, conditions)
    shadows = np.zeros((height, width), np.uint8)
    if conditions.sunny:
        for item in standing:
            _cast_shadow(shadows, conditions, item)
    ground.paint_sky(texture, canvas, conditions)
    surroundings.paint_backdrop(layout, canvas, conditions)
    ground.paint_ground(texture, canvas, conditions, shadows > 0)
    for side in (-1, 1):
        if layout.random() < 0.3:
            surroundings.paint_street_wall(layout, canvas, conditions, side)

    outlines = []
    for item in sorted(standing, key=lambda item: -item.place.z):
        x, z, height_m = item.place
        light = float(conditions.light(x, z))
        match item.kind:
            case "person":
                outlines.append(people.outline(item.figure, conditions, item.place))
                temperatures = people.body_temperatures(layout, conditions)
                people.paint_figure(canvas, conditions, item.figure, item.place, temperatures, light, len(outlines))
            case "cold":
                decoys.paint_cold_decoy(layout, canvas, conditions, item.place)
            case "hot":
                decoys.paint_hot_decoy(layout, canvas, conditions, item.place)
            case "lamp":
                surroundings.paint_lamp(canvas, conditions, x, z, height_m)
            case "tree":
                surroundings.paint_tree(layout, canvas, conditions, x, z)
            case "bush":
                surroundings.paint_bush(layout, canvas, conditions, x, z)
            case "pole":
                surroundings.paint_pole(layout, canvas, conditions, x, z)
            case "car":
                surroundings.paint_car(layout, canvas, conditions, x, z)

    boxes, occlusion, ignore, masks = _annotate(canvas.owner, outlines, height_px, width_px)
    return Scene(
        sensors.visible_image(pixels, canvas, conditions, height_px, width_px),
        sensors.thermal_image(pixels, canvas, conditions, height_px, width_px),
        night,
        boxes,
        occlusion,
        ignore,
        masks,
    )


class _Item(NamedTuple):
    kind: str
    place: Place
    figure: people.Figure | None = None


def _plan(rng: np.random.Generator, conditions: World) -> list[_Item]:
    """Draws what stands where."""
    camera = conditions.camera
    items = []
    for _ in range(rng.choice(6, p=(0.14, 0.26, 0.25, 0.18, 0.11, 0.06))):
        spot = world.place(rng, camera)
        neighbours = [item.place for item in items]
        if neighbours and rng.random() < 0.25:  # in company
            beside = neighbours[rng.integers(len(neighbours))]
            spot = Place(
                beside.x + rng.choice([-1, 1]) * rng.uniform(0.5, 1.0), beside.z + rng.uniform(-0.5, 0.5), spot.height_m
            )
        items.append(_Item("person", spot, people.figure(rng)))
    targets = list(items)
    for _ in range(rng.choice(3, p=(0.5, 0.4, 0.1))):
        cold = rng.random() < (0.4 if conditions.night else 0.6)
        items.append(_Item("cold" if cold else "hot", world.place(rng, camera)))
    targets += items[len(targets) :]
    # Things that stand before somebody, decoys no less than people.
    for target in targets:
        if rng.random() < 0.12:
            kind = rng.choice(["car", "bush", "pole"])
            z = max(target.place.z * rng.uniform(0.85, 0.97), 3.0)
            reach = {"car": 2.3, "bush": 0.8, "pole": 0.25}[kind]
            items.append(
                _Item(str(kind), Place(target.place.x * z / target.place.z + rng.uniform(-reach, reach), z, 1.4))
            )
    for kind, most, nearest in (("tree", 4, 10.0), ("bush", 3, 12.0), ("pole", 3, 7.0), ("car", 3, 11.0)):
        for _ in range(rng.integers(0, most)):
            z = nearest * (40 / nearest) ** rng.random()
            items.append(
                _Item(
                    kind,
                    Place(rng.uniform(-1.1, 1.1) * camera.half_width_m(z), z, {"car": 1.4, "bush": 1.0}.get(kind, 4.0)),
                )
            )
    lamps = conditions.lamps or [Place(rng.uniform(-6, 6), rng.uniform(9, 35), 0.0) for _ in range(rng.integers(0, 3))]
    items += [_Item("lamp", Place(lamp.x, lamp.z, rng.uniform(4.5, 7))) for lamp in lamps]
    return items


def _cast_shadow(shadows: np.ndarray, conditions: World, item: _Item) -> None:
    """Marks where an object keeps the sun off the ground, in place."""
    camera, (x, z, height_m) = conditions.camera, item.place
    half = {"person": 0.2, "cold": 0.2, "hot": 0.2, "car": 1.2, "bush": 0.7, "tree": 0.15}.get(item.kind, 0.07)
    tip_x, tip_z = x + conditions.sun_side * height_m, z + 0.5 * height_m
    canvases.fill(
        shadows,
        np.array(
            [
                camera.ground(x - half, z),
                camera.ground(x + half, z),
                camera.ground(tip_x + half, tip_z),
                camera.ground(tip_x - half, tip_z),
            ]
        ),
        1,
    )
    if item.kind == "tree":
        crown = camera.ground(tip_x, tip_z)
        canvases.fill(shadows, canvases.ellipse(*crown, 1.6 * camera.scale(tip_z), 0.35 * camera.scale(tip_z)), 1)


def _annotate(owner: np.ndarray, outlines, height_px: int, width_px: int):
    """Measures the people; those of whom nothing can be seen are nobody's annotation."""
    boxes, occlusion, ignore, masks = [], [], [], []
    for number, outline in enumerate(outlines, start=1):
        whole = np.zeros_like(owner)
        for polygon in outline:
            canvases.fill(whole, polygon, 1)
        share = np.count_nonzero(owner == number) / max(np.count_nonzero(whole), 1)
        if share < UNSEEN_SHARE:
            continue
        boxes.append(np.array(cv2.boundingRect(whole), np.float32) / SUPERSAMPLING)
        occlusion.append(0 if share >= PARTIAL_SHARE else 1 if share >= HEAVY_SHARE else 2)
        ignore.append(share < IGNORED_SHARE)
        masks.append(cv2.resize(whole, (width_px, height_px), interpolation=cv2.INTER_AREA) > 0)
    return (
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(occlusion, np.int32),
        np.array(ignore, bool),
        np.array(masks, bool).reshape(-1, height_px, width_px),
    )
