"""Fig. 7 of the paper: heat maps of the CFL modules' shared and modality-specific features."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dcrl_jax.models.cfl_features import LevelFeatures
from dcrl_jax.reports.figures import escape_dollars, save

COLOR_MAP, PERSON_COLOR = "inferno", "#ffe11a"
KIND_NAMES = {"shared": "shared, S", "specific": "specific, R"}
MODALITY_NAMES = ("visible", "thermal (lwir)")
# In pixels of the figure.
CELL_WIDTH, GAP, LABEL, MARGIN = 190, 4, 24, 20
HEADER, SCENE_TITLE, COLUMN_TITLE, SCENE_GAP = 44, 26, 20, 18
# The range of colours, in percentiles of a level's values in a scene.
PERCENTILES = (1.0, 99.5)


class CflScene(NamedTuple):
    """One registered pair with its feature maps."""

    images: tuple[np.ndarray, np.ndarray]  # uint8 [H, W, 3] RGB and [H, W, 1] grey
    person_boxes: np.ndarray  # float [G, 4], x, y, width, height in their pixels
    levels: Sequence[LevelFeatures]  # magnitudes, float [h, w] per modality
    caption: str


def cfl_figure(scenes: Sequence[CflScene], path: str | os.PathLike, title: str) -> None:
    """Draw the feature maps: one row per modality and kind of feature, one column per level.

    All maps of a level in a scene have the same range of colours. Kinds and modalities can thus be compared with each
    other, but levels and scenes cannot. A teacher without SFL or MFL (Table II) has only the rows of the other kind.

    Args:
        scenes: at least one; all of the same size and from the same teacher with CFL.
        path: the figure file; its suffix decides the format, its folder is created if needed.
        title: the figure's title.
    """
    kinds = [kind for kind in KIND_NAMES if getattr(scenes[0].levels[0], kind) is not None]
    levels = len(scenes[0].levels)
    image_height, image_width = scenes[0].images[0].shape[:2]
    cell_height = round(CELL_WIDTH * image_height / image_width)
    # The input image is drawn left of its maps, as high as all of them together.
    shown_height = len(kinds) * cell_height + (len(kinds) - 1) * GAP
    shown_width = round(shown_height * image_width / image_height)
    left = MARGIN + shown_width + LABEL
    width = left + levels * (CELL_WIDTH + GAP) - GAP + MARGIN
    scene_height = SCENE_TITLE + COLUMN_TITLE + 2 * (shown_height + GAP) + SCENE_GAP
    height = HEADER + len(scenes) * scene_height
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")

    def add_axes(x, y, w, h):
        return figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height))

    def write(x, y, text, **style):
        figure.text(x / width, 1 - y / height, escape_dollars(text), **style)

    write(MARGIN, 12, title, fontsize=16, weight="bold", va="top")
    for index, scene in enumerate(scenes):
        top = HEADER + index * scene_height
        write(MARGIN, top + 4, scene.caption, fontsize=12, va="top")
        top += SCENE_TITLE
        for level in range(levels):
            middle = left + level * (CELL_WIDTH + GAP) + CELL_WIDTH / 2
            write(middle, top + COLUMN_TITLE - 5, f"conv{level + 1}", fontsize=11, ha="center")
        top += COLUMN_TITLE
        limits = [
            np.percentile([np.ravel(values) for pair in level if pair is not None for values in pair], PERCENTILES)
            for level in scene.levels
        ]
        for modality, name in enumerate(MODALITY_NAMES):
            row = top + modality * (shown_height + GAP)
            axes = add_axes(MARGIN, row, shown_width, shown_height)
            _show(axes, scene.images[modality], scene, cmap="gray", vmin=0, vmax=255)
            axes.text(
                0.015,
                0.97,
                name,
                transform=axes.transAxes,
                fontsize=11,
                color="white",
                va="top",
                bbox={"facecolor": "black", "alpha": 0.6, "edgecolor": "none", "pad": 2},
            )
            for kind_index, kind in enumerate(kinds):
                y = row + kind_index * (cell_height + GAP)
                style = {"fontsize": 10, "rotation": 90, "ha": "center", "va": "center"}
                write(left - LABEL / 2, y + cell_height / 2, KIND_NAMES[kind], **style)
                for column, (level, (low, high)) in enumerate(zip(scene.levels, limits, strict=True)):
                    axes = add_axes(left + column * (CELL_WIDTH + GAP), y, CELL_WIDTH, cell_height)
                    _show(axes, getattr(level, kind)[modality], scene, cmap=COLOR_MAP, vmin=low, vmax=high)
    save(figure, path)


def _show(axes: Axes, image: np.ndarray, scene: CflScene, **style: Any) -> None:
    height, width = scene.images[0].shape[:2]
    # Stretch the map over the complete image, whatever its resolution.
    axes.imshow(image, extent=(0, width, height, 0), aspect="auto", interpolation="nearest", **style)
    for x, y, w, h in scene.person_boxes:
        axes.add_patch(Rectangle((x, y), w, h, fill=False, linewidth=1.0, edgecolor=PERSON_COLOR))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0))
