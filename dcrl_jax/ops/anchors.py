"""Anchors of the region proposal stage, in NumPy because they are constants of the compiled program."""

import numpy as np

from dcrl_jax.errors import InputError


def anchor_heights_px(count: int, smallest_px: float, largest_px: float) -> np.ndarray:
    """Return heights in geometric progression, float32 [count], from ``smallest_px`` to ``largest_px`` pixels.

    Raises:
        InputError: the count is below 1, or not 0 < ``smallest_px`` <= ``largest_px``.
    """
    if count < 1 or not 0 < smallest_px <= largest_px:
        raise InputError(
            f"anchor heights: found {count} heights from {smallest_px} to {largest_px} px; expected at least one "
            "height and 0 < smallest <= largest. Change the anchors' keys in the config."
        )
    return np.geomspace(smallest_px, largest_px, count).astype(np.float32)


def grid_anchors(height: int, width: int, stride: int, heights_px: np.ndarray, aspect_ratio: float) -> np.ndarray:
    """Return the anchors of every cell of a feature map.

    Cells are in row-major order, and the anchors of a cell in the order of ``heights_px``: the order of an RPN output
    ``[height / stride, width / stride, A * 4]`` reshaped to ``[-1, 4]``. Anchors are centred on their cells and may
    extend beyond the image.

    Args:
        height: height of the network input in pixels.
        width: width of the network input in pixels.
        stride: pixels per cell.
        heights_px: float [A], heights of the anchors in pixels of the network input.
        aspect_ratio: width / height of every anchor.

    Returns:
        float32 [height / stride * width / stride * A, 4].

    Raises:
        InputError: the height or the width is not a positive multiple of the stride.
    """
    for name, size in (("height", height), ("width", width)):
        if size <= 0 or size % stride:
            below = max(size // stride, 1) * stride
            raise InputError(
                f"network input: its {name} of {size} px is not a positive multiple of the stride, {stride} px. "
                f"Set the {name} to {below} or {below + stride}, for instance."
            )
    centre_y = (np.arange(height // stride) + 0.5) * stride
    centre_x = (np.arange(width // stride) + 0.5) * stride
    y, x, half_height = np.meshgrid(centre_y, centre_x, np.asarray(heights_px, np.float64) / 2, indexing="ij")
    half_width = half_height * aspect_ratio
    corners = [x - half_width, y - half_height, x + half_width, y + half_height]
    return np.stack(corners, axis=-1).reshape(-1, 4).astype(np.float32)
