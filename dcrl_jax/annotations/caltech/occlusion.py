"""The level of occlusion that follows from a person's visible part, by the limit of the Caltech benchmark."""

from collections.abc import Sequence

from dcrl_jax.annotations.types import HEAVY, NONE, PARTIAL

# Visible share of the box's area from which occlusion is partial; below it, occlusion is heavy.
MIN_PARTIAL_SHARE = 0.65


def level(box: Sequence[float], visible: Sequence[float]) -> int:
    """Return a person's level of occlusion: NONE, PARTIAL or HEAVY.

    Args:
        box: x, y, w, h in pixels.
        visible: the same for the visible part; all zero if nothing hides the person.
    """
    if not any(visible):
        return NONE
    area = box[2] * box[3]
    return PARTIAL if area > 0 and visible[2] * visible[3] / area >= MIN_PARTIAL_SHARE else HEAVY
