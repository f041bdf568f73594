"""Annotation errors like those of KAIST's original labels: missed people, spurious boxes, shifted boxes."""

from typing import NamedTuple

import numpy as np

MISSED_SHARE = 0.3  # of the people
SPURIOUS_PER_IMAGE = 0.3  # mean of a Poisson distribution
JITTER_SHARE = 0.12  # of the box's size: standard deviation of the centre, and of the logarithm of each side
_ASPECT = 0.41  # width / height of a pedestrian
_MIN_SIDE_PX = 2.0


class NoisyBoxes(NamedTuple):
    """Boxes with annotation errors."""

    boxes: np.ndarray  # float32 [N, 4], [x, y, w, h] in pixels
    source: np.ndarray  # int64 [N], index of the exact box; -1 for a spurious box


def add_label_noise(rng: np.random.Generator, boxes: np.ndarray, height_px: int, width_px: int) -> NoisyBoxes:
    """Return a noisy copy of exact boxes.

    Args:
        rng: a generator for the noise only, so that the images do not depend on it.
        boxes: float32 ``[P, 4]``, ``[x, y, w, h]`` in pixels.
        height_px: height of the image.
        width_px: width of the image.
    """
    kept = np.flatnonzero(rng.random(len(boxes)) >= MISSED_SHARE)
    spurious = rng.poisson(SPURIOUS_PER_IMAGE)
    heights = height_px * np.exp(rng.uniform(np.log(0.16), np.log(0.6), spurious))
    sizes = np.stack([_ASPECT * heights, heights], -1)
    spurious_boxes = np.concatenate([rng.random((spurious, 2)) * ((width_px, height_px) - sizes), sizes], -1)
    exact = np.concatenate([boxes[kept].astype(np.float64), spurious_boxes])

    size = exact[:, 2:] * np.exp(JITTER_SHARE * rng.standard_normal((len(exact), 2)))
    centre = exact[:, :2] + exact[:, 2:] * (0.5 + JITTER_SHARE * rng.standard_normal((len(exact), 2)))
    low = np.clip(centre - size / 2, 0, np.array([width_px, height_px]) - _MIN_SIDE_PX)
    high = np.clip(centre + size / 2, low + _MIN_SIDE_PX, (width_px, height_px))
    source = np.concatenate([kept, np.full(spurious, -1)])
    return NoisyBoxes(np.concatenate([low, high - low], -1).astype(np.float32), source)
