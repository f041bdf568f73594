"""Figures of the best, the worst and random images, with annotations and detections."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from dcrl_jax.evaluation.mistakes import MIN_SCORE, ImageMistakes, count_mistakes
from dcrl_jax.evaluation.overlaps import ImageDetections, ImageTruth
from dcrl_jax.evaluation.rules import Subset
from dcrl_jax.reports.figures import escape_dollars, save

PERSON_COLOR, IGNORE_COLOR, DETECTION_COLOR = "#ff2d2d", "#c8c8c8", "#2bea2b"
# In points; two pixels of the figure, so that lines are sharp.
LINE_WIDTH = 1.44
# In pixels of the figure.
IMAGE_WIDTH, GAP, ITEM_GAP, ROW_GAP, MARGIN = 440, 4, 26, 20, 22
CAPTION, ROW_TITLE, HEADER, LEGEND = 24, 34, 84, 36


class PanelItem(NamedTuple):
    """One scene of a panel: one or several registered images. Boxes are x, y, width, height in their pixels."""

    images: Sequence[np.ndarray]  # uint8 [H, W, 3] RGB, or [H, W] or [H, W, 1] grey; from left to right
    detections: Sequence[ImageDetections]  # those drawn in each image
    truth_boxes: np.ndarray  # float [G, 4]
    truth_is_ignored: np.ndarray  # bool [G]
    caption: str


def pick_images(
    truths: Sequence[ImageTruth],
    detections: Mapping[str, ImageDetections],
    subset: Subset,
    rng: np.random.Generator,
    count: int = 3,
) -> dict[str, list[ImageMistakes]]:
    """Return the best, the worst and random images for a panel, all different.

    The worst images have the most mistakes (misses and false alarms). The best have people, the fewest mistakes and,
    among equals, the most people; images without people come last. The random images are drawn from the others.

    Args:
        truths: as for ``mistakes.count_mistakes``.
        detections: as for ``mistakes.count_mistakes``.
        subset: as for ``mistakes.count_mistakes``.
        rng: draws the random images and decides between equals.
        count: the number of images of each kind; fewer if the subset has fewer than ``3 * count`` images.

    Returns:
        The images of each kind, by "best", "worst" and "random".
    """
    images = count_mistakes(truths, detections, subset)
    images = [images[index] for index in rng.permutation(len(images))]
    # A subset with few images is shared out evenly.
    count = min(count, -(-len(images) // 3))
    images.sort(key=lambda image: -(image.misses + image.false_alarms))
    worst, rest = images[:count], images[count:]
    rest.sort(key=lambda image: (image.people == 0, image.misses + image.false_alarms, -image.people))
    best, rest = rest[:count], rest[count:]
    drawn = rng.permutation(len(rest))[:count]
    return {"best": best, "worst": worst, "random": [rest[index] for index in drawn]}


def detection_panel(
    items: Mapping[str, Sequence[PanelItem]], path: str | os.PathLike, title: str, columns: str
) -> None:
    """Draw scenes with annotations and detections; the images of a scene are side by side.

    People are red, ignore regions grey and dashed, detections from MIN_SCORE on green with their score. All images are
    scaled to the same width.

    Args:
        items: the scenes of each row by the row's title, such as "best". Rows may be empty and of different lengths.
        path: the figure file; its suffix decides the format, its folder is created if needed.
        title: the figure's title.
        columns: a line below the title that describes the images of a scene.
    """
    rows = [(name, list(row)) for name, row in items.items() if len(row)]
    across = max((len(row) for _, row in rows), default=1)
    views = max((len(item.images) for _, row in rows for item in row), default=1)
    item_width = views * (IMAGE_WIDTH + GAP) - GAP
    row_heights = [max(_shown_height(item) for item in row) + CAPTION + ROW_GAP for _, row in rows]
    width = 2 * MARGIN + across * item_width + (across - 1) * ITEM_GAP
    height = HEADER + sum(row_heights) + ROW_TITLE * len(rows) + LEGEND
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")
    figure.text(MARGIN / width, 1 - 16 / height, escape_dollars(title), fontsize=19, weight="bold", va="top")
    _draw_legend(figure, width, height, columns)

    top = HEADER
    for (name, row), row_height in zip(rows, row_heights, strict=True):
        # The title's baseline is 10 pixels above the captions.
        baseline = 1 - (top + ROW_TITLE - 10) / height
        figure.text(MARGIN / width, baseline, escape_dollars(name), fontsize=16, weight="bold")
        for column, item in enumerate(row):
            left = MARGIN + column * (item_width + ITEM_GAP)
            below = top + ROW_TITLE
            baseline = 1 - (below + CAPTION - 8) / height
            figure.text(left / width, baseline, escape_dollars(item.caption), fontsize=11.5, color="#333333")
            shown_height = _shown_height(item)
            for index, (image, detections) in enumerate(zip(item.images, item.detections, strict=True)):
                x = left + index * (IMAGE_WIDTH + GAP)
                y = height - (below + CAPTION + shown_height)
                axes = figure.add_axes((x / width, y / height, IMAGE_WIDTH / width, shown_height / height))
                _draw_image(axes, image, detections, item, shown_height)
        top += ROW_TITLE + row_height
    save(figure, path)


def _shown_height(item: PanelItem) -> int:
    return round(IMAGE_WIDTH * item.images[0].shape[0] / item.images[0].shape[1])


def _draw_image(axes: Axes, image: np.ndarray, detections: ImageDetections, item: PanelItem, shown_height: int) -> None:
    scale = IMAGE_WIDTH / image.shape[1]
    method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    shown = cv2.resize(image, (IMAGE_WIDTH, shown_height), interpolation=method)
    if shown.ndim == 2:
        shown = np.repeat(shown[:, :, None], 3, axis=2)
    axes.imshow(shown, extent=(0, IMAGE_WIDTH, shown_height, 0), interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    axes.set(xlim=(0, IMAGE_WIDTH), ylim=(shown_height, 0))

    for (x, y, width, height), ignored in zip(item.truth_boxes, item.truth_is_ignored, strict=True):
        color, line = (IGNORE_COLOR, (0, (4, 3))) if ignored else (PERSON_COLOR, "solid")
        shape = ((x * scale, y * scale), width * scale, height * scale)
        axes.add_patch(Rectangle(*shape, fill=False, linewidth=LINE_WIDTH, edgecolor=color, linestyle=line))
    scores = np.asarray(detections.scores)
    # The highest scores are drawn last, on top.
    for index in np.argsort(scores, kind="stable"):
        if not scores[index] >= MIN_SCORE:  # NaN is not drawn either
            continue
        x, y, width, height = np.asarray(detections.boxes)[index] * scale
        axes.add_patch(Rectangle((x, y), width, height, fill=False, linewidth=LINE_WIDTH, edgecolor=DETECTION_COLOR))
        # Above the box, or inside it at the upper edge of the image.
        axes.text(
            min(max(x, 1), IMAGE_WIDTH - 20),
            y - 2 if y > 14 else y + 12,
            f"{scores[index]:.2f}".removeprefix("0"),
            color=DETECTION_COLOR,
            fontsize=8,
            weight="bold",
            clip_on=True,
            bbox={"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 0.8},
        )


def _draw_legend(figure: Figure, width: int, height: int, columns: str) -> None:
    entries = [
        Line2D([], [], color=PERSON_COLOR, linewidth=2.2, label="person"),
        Line2D([], [], color="#8a8a8a", linewidth=2.2, linestyle=(0, (3, 2)), label="ignore region"),
        Line2D([], [], color="#14b814", linewidth=2.2, label=f"detection, score at least {MIN_SCORE:g}"),
    ]
    figure.legend(
        handles=entries,
        loc="lower left",
        bbox_to_anchor=((MARGIN - 6) / width, 4 / height),
        ncols=len(entries),
        frameon=False,
        fontsize=12,
    )
    figure.text(MARGIN / width, 1 - 48 / height, escape_dollars(columns), fontsize=12, color="#555555", va="top")
