"""The two cameras, which turn a canvas into images."""

import cv2
import numpy as np

from datasets.synthetic_rgbt.canvas import Canvas
from datasets.synthetic_rgbt.world import World


def visible_image(rng: np.random.Generator, canvas: Canvas, world: World, height_px: int, width_px: int) -> np.ndarray:
    """Return the RGB image, uint8 ``[height_px, width_px, 3]``, with glare, sensor noise and a gamma-2 camera curve."""
    surface, radiance = (cv2.resize(layer, (width_px, height_px), interpolation=cv2.INTER_AREA) for layer in canvas[:2])
    linear = surface[..., :3] * (surface[..., 3:] * np.array(world.tint, np.float32)) + radiance[..., :3]
    if world.night:
        # Bright sources bleed into their surroundings through the lens.
        small = cv2.resize(
            np.maximum(linear - 0.5, 0), (width_px // 4 + 1, height_px // 4 + 1), interpolation=cv2.INTER_AREA
        )
        glare = cv2.GaussianBlur(small, (0, 0), 0.03 * height_px)
        linear += 0.35 * cv2.resize(glare, (width_px, height_px))
        read_noise, shot_noise = rng.uniform(0.0015, 0.004), 0.0008
    else:
        read_noise, shot_noise = 0.001, 0.0003
    noise = rng.standard_normal(linear.shape, np.float32)
    linear += noise * np.sqrt(read_noise**2 + shot_noise * np.maximum(linear, 0))
    return np.rint(np.sqrt(np.clip(linear, 0, 1)) * 255).astype(np.uint8)


def _blotches(rng: np.random.Generator, height_px: int, width_px: int) -> np.ndarray:
    """Return smooth noise, float32, with a standard deviation of about 1: sun and wind warm no surface evenly."""
    total = np.zeros((height_px, width_px), np.float32)
    for cells in (16, 36):
        coarse = rng.standard_normal((cells, cells * width_px // height_px + 1), np.float32)
        total += cv2.resize(coarse, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
    return total


def thermal_image(rng: np.random.Generator, canvas: Canvas, world: World, height_px: int, width_px: int) -> np.ndarray:
    """Return the grey image, uint8 ``[height_px, width_px]``, with blur, pixel and column noise, and automatic gain.

    The gain stretches the scene's range of temperatures, but at least a minimal span, to the grey levels. Without the
    minimum, a cold scene without people would be all noise.
    """
    temperature = cv2.resize(canvas.radiance[..., 3], (width_px, height_px), interpolation=cv2.INTER_AREA)
    temperature += world.unrest * _blotches(rng, height_px, width_px)
    temperature = cv2.GaussianBlur(temperature, (0, 0), 0.5 * height_px / 128)
    low, high = np.percentile(temperature[::3, ::3], (2, 99.3))
    low = max(low, world.air - 9)
    minimal_span = 24.0 if world.night else 48.0
    if high - low < minimal_span:
        low -= 0.3 * (minimal_span - (high - low))
        high = low + minimal_span
    grey = 12 + (temperature - low) * (228 / (high - low))
    grey += (rng.uniform(1.2, 2.5) if world.night else rng.uniform(4, 7)) * rng.standard_normal(grey.shape, np.float32)
    grey += 0.8 * rng.standard_normal((1, width_px), np.float32)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
