"""From the visible part of a person to the three levels of occlusion, by the limits of the Caltech benchmark."""

from collections.abc import Sequence

from dcrl_jax.annotations.types import HEAVY, NONE, PARTIAL

# Share of the box's area; occlusion is heavy if less is visible.
MIN_PARTIAL_SHARE = 0.65


def level(box: Sequence[float], visible: Sequence[float]) -> int:
    """Return a person's level of occlusion.

    Args:
        box: x, y, w, h in pixels.
        visible: the same of the visible part; all zero if nothing hides the person.
    """
    if not any(visible):
        return NONE
    area = box[2] * box[3]
    return PARTIAL if area > 0 and visible[2] * visible[3] / area >= MIN_PARTIAL_SHARE else HEAVY
