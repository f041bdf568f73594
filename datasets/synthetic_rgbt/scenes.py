"""One synthetic RGB-thermal pair: a street by day or night, with people and decoys.

By day, people have little thermal contrast among sun-heated objects; by night, the visible image shows little outside
the light of lamps. Each modality shows decoys that only the other modality tells from people. So both modalities are
needed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from datasets.synthetic_rgbt import buildings, decoys, ground, layout, people, sensors, surroundings, world
from datasets.synthetic_rgbt import canvas as canvases
from datasets.synthetic_rgbt.canvas import Canvas
from datasets.synthetic_rgbt.cars import paint_car
from datasets.synthetic_rgbt.standing import stand
from datasets.synthetic_rgbt.world import TYPICAL_SHARE, World

SUPERSAMPLING = 2
# Visible share of a person's pixels below which the person is partially occluded, heavily occluded, ignored, or not
# annotated.
PARTIAL_SHARE, HEAVY_SHARE, IGNORED_SHARE, UNSEEN_SHARE = 0.95, 0.65, 0.2, 0.03


class Annotations(NamedTuple):
    """Exact annotations of the P people of a scene."""

    boxes: np.ndarray  # float32 [P, 4], [x, y, w, h] in pixels; of the complete person, clipped to the image
    occlusion: np.ndarray  # int32 [P], 0 none, 1 partial, 2 heavy
    ignore: np.ndarray  # bool [P], true if less than IGNORED_SHARE of the person is visible
    masks: np.ndarray  # bool [P, H, W], pixels that the person would cover if nothing were in front


class Scene(NamedTuple):
    """A rendered pair and its annotations."""

    visible: np.ndarray  # uint8 [H, W, 3], RGB
    lwir: np.ndarray  # uint8 [H, W]
    is_night: bool
    people: Annotations


def render(
    seed: int | Sequence[int], index: int, height_px: int, width_px: int, typical_share: float = TYPICAL_SHARE
) -> Scene:
    """Render a scene; even indices are days, odd ones nights.

    Args:
        seed: one or several non-negative integers.
        index: the scene's number, not negative. Seed, index and ``typical_share`` determine the content of a scene, so
            images of the same aspect ratio but different sizes show the same scene.
        height_px: height of the images.
        width_px: width of the images.
        typical_share: median height of the people as a share of the image's.
    """
    seeds = [*np.atleast_1d(seed).tolist(), index]
    # Three streams of random numbers, so that the number of pixels does not change the content of the scene.
    things, textures, noise = (np.random.default_rng([*seeds, stream]) for stream in range(3))
    night = index % 2 == 1
    conditions = world.draw(things, night, height_px * SUPERSAMPLING, width_px * SUPERSAMPLING, typical_share)
    items = layout.draw(things, conditions)
    canvas = canvases.blank(conditions.camera.height_px, conditions.camera.width_px)

    ground.paint_sky(textures, canvas, conditions)
    ground.paint_ground(textures, canvas, conditions, layout.shadows(items, conditions))
    buildings.paint_backdrop(things, canvas, conditions)
    for side in (-1, 1):
        if things.random() < 0.3:
            buildings.paint_street_wall(things, canvas, conditions, side)
    outlines = _paint_items(things, canvas, conditions, items)
    return Scene(
        sensors.visible_image(noise, canvas, conditions, height_px, width_px),
        sensors.thermal_image(noise, canvas, conditions, height_px, width_px),
        night,
        _annotate(canvas.owner, outlines, height_px, width_px),
    )


def _paint_items(
    rng: np.random.Generator, canvas: Canvas, conditions: World, items: list[layout.Item]
) -> list[list[np.ndarray]]:
    """Paint the objects from far to near and return the outlines of the people in the order of their owner numbers."""
    outlines = []
    for item in sorted(items, key=lambda item: -item.place.z):
        x, z, height_m = item.place
        match item.kind:
            case "person":
                assert item.figure is not None
                frame = stand(canvas, conditions, x, z, height_m)
                outlines.append(people.outline(item.figure, frame))
                people.paint_figure(frame, item.figure, people.body_temperatures(rng, conditions), len(outlines))
            case "cold":
                decoys.paint_cold_decoy(rng, canvas, conditions, item.place)
            case "hot":
                decoys.paint_hot_decoy(rng, canvas, conditions, item.place)
            case "lamp":
                surroundings.paint_lamp(canvas, conditions, x, z, height_m)
            case "tree":
                surroundings.paint_tree(rng, canvas, conditions, x, z)
            case "bush":
                surroundings.paint_bush(rng, canvas, conditions, x, z)
            case "pole":
                surroundings.paint_pole(rng, canvas, conditions, x, z)
            case "car":
                paint_car(rng, canvas, conditions, x, z)
    return outlines


def _annotate(owner: np.ndarray, outlines: list[list[np.ndarray]], height_px: int, width_px: int) -> Annotations:
    """Return the annotations of the people of whom at least UNSEEN_SHARE is visible."""
    boxes, occlusion, ignore, masks = [], [], [], []
    for number, outline in enumerate(outlines, start=1):
        covered = np.zeros_like(owner)
        for polygon in outline:
            canvases.fill(covered, polygon, 1)
        share = np.count_nonzero(owner == number) / max(np.count_nonzero(covered), 1)
        if share < UNSEEN_SHARE:
            continue
        boxes.append(np.array(cv2.boundingRect(covered), np.float32) / SUPERSAMPLING)
        occlusion.append(0 if share >= PARTIAL_SHARE else 1 if share >= HEAVY_SHARE else 2)
        ignore.append(share < IGNORED_SHARE)
        blocks = covered.reshape(height_px, SUPERSAMPLING, width_px, SUPERSAMPLING)
        masks.append(blocks.any(axis=(1, 3)))
    return Annotations(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(occlusion, np.int32),
        np.array(ignore, bool),
        np.array(masks, bool).reshape(-1, height_px, width_px),
    )
