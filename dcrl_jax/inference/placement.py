"""How an image of any size gets the size of a network's input, and how boxes get back."""

from typing import NamedTuple

import numpy as np

from dcrl_jax.data.transforms import BLANK_GREY, resize

FITS = ("letterbox", "stretch")

Size = tuple[int, int]  # height and width in pixels


class Region(NamedTuple):
    """The region of the network's input that an image fills, in pixels."""

    x: int
    y: int
    height: int
    width: int


def find_region(fit: str, size: Size, input_size: Size) -> Region:
    """Return the region for an image of a size.

    Args:
        fit: 'letterbox' keeps the proportions and centres the image, 'stretch' fills the input.
        size: of the image.
        input_size: of the network's input.
    """
    (height, width), (full_height, full_width) = size, input_size
    if fit == "stretch":
        return Region(0, 0, full_height, full_width)
    scale = min(full_height / height, full_width / width)
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    return Region((full_width - width) // 2, (full_height - height) // 2, height, width)


def place(image: np.ndarray, region: Region, input_size: Size) -> np.ndarray:
    """Return a black image of the network's size with the image, uint8 [h, w, C], in a region of it."""
    if image.shape[:2] != (region.height, region.width):
        image = resize(image, region.height, region.width)
    if (region.height, region.width) == input_size:
        return image
    canvas = np.zeros((*input_size, image.shape[2]), np.uint8)
    canvas[region.y : region.y + region.height, region.x : region.x + region.width] = image
    return canvas


def blank(channels: int, input_size: Size) -> np.ndarray:
    """Return a missing image as training blanks it, uint8 [H, W, channels]."""
    return np.full((*input_size, channels), BLANK_GREY, np.uint8)


def map_back(boxes: np.ndarray, region: Region, size: Size) -> np.ndarray:
    """Return boxes of the network's input in the image, float32 [n, 4], x1, y1, x2, y2, clipped to the image."""
    height, width = size
    scale = np.array([region.width / width, region.height / height] * 2)
    boxes = (boxes - np.array([region.x, region.y] * 2)) / scale
    return np.clip(boxes, 0, np.array([width, height] * 2)).astype(np.float32)
