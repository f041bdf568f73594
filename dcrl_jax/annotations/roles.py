"""The role of an annotated object: a person to find, a region to ignore, or neither.

Training and scoring use this one rule; each has its own limits.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np


class Roles(NamedTuple):
    """The role of each annotation. Where both masks are False, the annotation is dropped."""

    is_person: np.ndarray  # bool [G]
    is_ignore: np.ndarray  # bool [G]


def find_roles(
    boxes: np.ndarray,
    labels: Sequence[str] | np.ndarray,
    occlusion: np.ndarray,
    ignore: np.ndarray,
    *,
    person_labels: Collection[str],
    ignore_labels: Collection[str],
    occlusions: Collection[int],
    min_height_px: float,
    max_height_px: float = float("inf"),
    border: Sequence[float] | None = None,
) -> Roles:
    """Return the role of each annotation.

    An object with a person label is a person if it lies within all limits and is not marked as ignored; otherwise it is
    an ignore region. An object with an ignore label is an ignore region. All other objects are dropped.

    Args:
        boxes: float [G, 4], x, y, width, height in pixels as annotated; limits are compared in this dtype.
        labels: G names.
        occlusion: int [G], 0 none, 1 partial, 2 heavy.
        ignore: bool [G], True for annotations that are marked as not to be scored.
        person_labels: the labels of people.
        ignore_labels: the labels of ignore regions; they override ``person_labels``.
        occlusions: the occlusion levels of people.
        min_height_px: the height of the shortest people.
        max_height_px: the height of the tallest people.
        border: x1, y1, x2, y2 in pixels; people lie inside it or touch it. None or empty: no limit.
    """
    x, y, width, height = boxes.T
    is_counted = ~ignore & (height >= min_height_px) & (height <= max_height_px) & np.isin(occlusion, list(occlusions))
    if border:
        x1, y1, x2, y2 = border
        is_counted &= (x >= x1) & (y >= y1) & (x + width <= x2) & (y + height <= y2)
    has_person_label = np.array([label in person_labels for label in labels], bool)
    has_ignore_label = np.array([label in ignore_labels for label in labels], bool)
    return Roles(
        is_person=has_person_label & is_counted & ~has_ignore_label,
        is_ignore=has_ignore_label | (has_person_label & ~is_counted),
    )
