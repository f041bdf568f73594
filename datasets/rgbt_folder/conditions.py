"""Day or night of each pair."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.records import CONDITIONS
from datasets.rgbt_folder.files import Pair, short_name
from datasets.rgbt_folder.words import CONDITION_OF, told_by
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.decoding import open_image

# Mean of the upper third of a visible image, of 255; darker ones are night.
DARK_LUMA = 56
BY_BRIGHTNESS = "day and night by brightness"


class Conditions(NamedTuple):
    """What names say of day and night."""

    of_pairs: list[str | None]  # "day" or "night" of each pair; None where only the image can tell
    source: str  # what decides, for the user

    def describe(self, by_brightness: int, pairs: int) -> str:
        """Return what decides on day and night; ``by_brightness`` of the pairs have no name that tells."""
        remedy = "by the brightness of visible images; if names tell it, set night=REGEX"
        if by_brightness == pairs:
            return remedy
        return f"{self.source}; of {by_brightness:,} pairs {remedy}" if by_brightness else self.source


def conditions_of_names(pairs: Sequence[Pair], config: Any) -> Conditions:
    """Return the condition of each pair, as far as names tell.

    The column ``condition`` of the list of pairs decides; else the expression ``config.night``, searched in the name
    without the folder of the split; else the words day and night in the path of the visible image, of which the
    innermost counts.

    Raises:
        InputError: a cell of the column says something else.
    """
    if any("condition" in pair.cells for pair in pairs):
        told = [CONDITION_OF.get(pair.cells.get("condition", "").lower()) for pair in pairs]
        problems = [
            f"{pair.name}: condition {pair.cells['condition']!r}"
            for pair, condition in zip(pairs, told, strict=True)
            if condition is None and "condition" in pair.cells
        ]
        raise_if_any(problems, config.pairs, f"Expected {' or '.join(CONDITIONS)} in the column condition.")
        return Conditions(told, "the column condition")
    if config.night:
        found = [re.search(config.night, short_name(pair)) for pair in pairs]
        return Conditions(["night" if match else "day" for match in found], f"night={config.night!r}")
    told = [told_by(tuple(pair.visible_name.split("/")), CONDITION_OF) for pair in pairs]
    return Conditions(told, "words in the names")


def condition_of_image(path: Path) -> str:
    """Return ``night`` if the upper third of a visible image is dark, else ``day``.

    By day that is the sky or what it lights; by night, headlights light only what is below. It is wrong for 2.5 % of
    242 pairs of MSRS and for 9.7 % of 62 pairs of KAIST; the mean of the complete image is wrong for 37 % of KAIST's.
    """
    with open_image(path) as image:
        image.draft("L", (160, 128))  # JPEG: decodes a smaller image
        luma = np.asarray(image.convert("L").reduce(max(1, image.width // 160)), np.float32)
    return "night" if luma[: max(1, luma.shape[0] // 3)].mean() < DARK_LUMA else "day"
