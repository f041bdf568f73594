"""Pictures of the best, the worst and random images, with annotations and detections."""

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from dcrl_jax.evaluation.miss_rate import ImageDetections, ImageTruth, match
from dcrl_jax.evaluation.rules import Subset
from dcrl_jax.reports.figures import plain, save

# Detections below it are neither drawn nor counted as errors.
MIN_SCORE = 0.5

PERSON_COLOR, IGNORE_COLOR, DETECTION_COLOR = "#ff2d2d", "#c8c8c8", "#2bea2b"
# Points: two whole pixels of the picture, so that lines are crisp.
LINE_WIDTH = 1.44
# Lengths in pixels of the picture.
IMAGE_WIDTH, GAP, ITEM_GAP, ROW_GAP, MARGIN = 440, 4, 26, 20, 22
CAPTION, ROW_TITLE, HEADER, LEGEND = 24, 34, 84, 36


class PanelItem(NamedTuple):
    """One scene of a panel, as one or several registered images. Boxes are x, y, width, height in their pixels."""

    images: Sequence[np.ndarray]  # uint8 [H, W, 3] RGB, or [H, W] or [H, W, 1] grey; from left to right
    detections: Sequence[ImageDetections]  # what is drawn in each
    truth_boxes: np.ndarray  # float [G, 4]
    truth_is_ignored: np.ndarray  # bool [G]
    caption: str


class ImageErrors(NamedTuple):
    """How a detector did on one image, with the detections above a score."""

    image_id: str
    people: int  # to be found
    misses: int
    false_alarms: int


def count_errors(
    truths: Sequence[ImageTruth],
    detections: Mapping[str, ImageDetections],
    subset: Subset,
    min_score: float = MIN_SCORE,
) -> list[ImageErrors]:
    """Misses and false alarms of every image of the subset, by the scorer's rules.

    Args:
        truths: as for ``miss_rate.score``.
        detections: as for ``miss_rate.score``.
        subset: which images and people count.
        min_score: only detections with at least this score count.

    Raises:
        InputError: as ``miss_rate.score``.
    """
    matches = match(truths, detections, subset)
    # Detections are matched by falling score, so leaving out the low ones changes nothing for those above.
    is_sure = matches.scores >= min_score
    images = len(matches.image_ids)
    found = np.bincount(matches.image[is_sure & matches.is_true_positive], minlength=images)
    is_false = is_sure & ~matches.is_true_positive & ~matches.is_ignored
    false_alarms = np.bincount(matches.image[is_false], minlength=images)
    return [
        ImageErrors(image_id, int(people), int(people - hits), int(wrong))
        for image_id, people, hits, wrong in zip(matches.image_ids, matches.people, found, false_alarms, strict=True)
    ]


def pick_images(
    truths: Sequence[ImageTruth],
    detections: Mapping[str, ImageDetections],
    subset: Subset,
    rng: np.random.Generator,
    count: int = 3,
    min_score: float = MIN_SCORE,
) -> dict[str, list[ImageErrors]]:
    """Chooses the images that a panel shows; no image twice.

    Worst are those with the most errors (misses and false alarms). Best are those with people, the fewest errors and,
    among these, the most people; an image without people is taken only where the others do not suffice. Random ones
    come from the rest. ``rng`` also decides between equals.

    Args:
        truths, detections, subset, min_score: as for ``count_errors``.
        rng: the only source of chance.
        count: images of each kind; fewer where the subset has less than three times as many.

    Returns:
        {"best": [...], "worst": [...], "random": [...]}.
    """
    errors = count_errors(truths, detections, subset, min_score)
    errors = [errors[place] for place in rng.permutation(len(errors))]
    # Every kind gets its share of a subset with few images.
    count = min(count, -(-len(errors) // 3))
    by_errors = sorted(errors, key=lambda one: -(one.misses + one.false_alarms))
    worst, rest = by_errors[:count], by_errors[count:]
    by_merit = sorted(rest, key=lambda one: (one.people == 0, one.misses + one.false_alarms, -one.people))
    best, rest = by_merit[:count], by_merit[count:]
    chosen = rng.permutation(len(rest))[:count]
    return {"best": best, "worst": worst, "random": [rest[place] for place in chosen]}


def detection_panel(
    items: Mapping[str, Sequence[PanelItem]],
    path: str | os.PathLike,
    title: str,
    columns: str,
    min_score: float = MIN_SCORE,
) -> None:
    """Draws scenes with annotations and detections, the images of each side by side.

    People are red, ignore regions grey and dashed, detections green with their score. Images of any size are scaled to
    one width.

    Args:
        items: the scenes of each row, by the row's title, such as "best", "worst" and "random". Rows may differ in
            length and be empty.
        path: the image; its ending chooses the format. Its folder is made.
        title: above everything.
        columns: below it; says what the images of a scene are.
        min_score: detections below it, and those with NaN, are not drawn.
    """
    rows = [(name, list(row)) for name, row in items.items() if len(row)]
    across = max((len(row) for _, row in rows), default=1)
    views = max((len(item.images) for _, row in rows for item in row), default=1)
    item_width = views * (IMAGE_WIDTH + GAP) - GAP
    row_heights = [max(_shown_height(item) for item in row) + CAPTION + ROW_GAP for _, row in rows]
    width = 2 * MARGIN + across * item_width + (across - 1) * ITEM_GAP
    height = HEADER + sum(row_heights) + ROW_TITLE * len(rows) + LEGEND
    figure = Figure(figsize=(width / 100, height / 100), dpi=100, facecolor="white")
    figure.text(MARGIN / width, 1 - 16 / height, plain(title), fontsize=19, weight="bold", va="top")
    _draw_legend(figure, width, height, columns, min_score)

    top = HEADER
    for (name, row), row_height in zip(rows, row_heights, strict=True):
        # 10 pixels from the title's baseline to the captions.
        figure.text(MARGIN / width, 1 - (top + ROW_TITLE - 10) / height, plain(name), fontsize=16, weight="bold")
        for column, item in enumerate(row):
            left = MARGIN + column * (item_width + ITEM_GAP)
            below = top + ROW_TITLE
            figure.text(
                left / width, 1 - (below + CAPTION - 8) / height, plain(item.caption), fontsize=11.5, color="#333333"
            )
            shown = _shown_height(item)
            for place, (image, found) in enumerate(zip(item.images, item.detections, strict=True)):
                x = left + place * (IMAGE_WIDTH + GAP)
                y = height - (below + CAPTION + shown)
                axes = figure.add_axes((x / width, y / height, IMAGE_WIDTH / width, shown / height))
                _draw_image(axes, image, found, item, min_score, shown)
        top += ROW_TITLE + row_height
    save(figure, path)


def _shown_height(item: PanelItem) -> int:
    return round(IMAGE_WIDTH * item.images[0].shape[0] / item.images[0].shape[1])


def _draw_image(
    axes: Axes, image: np.ndarray, found: ImageDetections, item: PanelItem, min_score: float, shown_height: int
) -> None:
    scale = IMAGE_WIDTH / image.shape[1]
    method = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    shown = cv2.resize(image, (IMAGE_WIDTH, shown_height), interpolation=method)
    if shown.ndim == 2:
        shown = np.repeat(shown[:, :, None], 3, axis=2)
    axes.imshow(shown, extent=(0, IMAGE_WIDTH, shown_height, 0), interpolation="nearest", aspect="auto")
    axes.set_axis_off()
    axes.set(xlim=(0, IMAGE_WIDTH), ylim=(shown_height, 0))

    for (x, y, width, height), ignored in zip(item.truth_boxes, item.truth_is_ignored, strict=True):
        style = {"edgecolor": IGNORE_COLOR, "linestyle": (0, (4, 3))} if ignored else {"edgecolor": PERSON_COLOR}
        corner = (x * scale, y * scale)
        axes.add_patch(Rectangle(corner, width * scale, height * scale, fill=False, linewidth=LINE_WIDTH, **style))
    scores = np.asarray(found.scores)
    # The surest are drawn last, on top.
    for place in np.argsort(scores, kind="stable"):
        if not scores[place] >= min_score:
            continue
        x, y, width, height = np.asarray(found.boxes)[place] * scale
        axes.add_patch(Rectangle((x, y), width, height, fill=False, linewidth=LINE_WIDTH, edgecolor=DETECTION_COLOR))
        # Above the box, or inside it where the image ends.
        axes.text(
            min(max(x, 1), IMAGE_WIDTH - 20),
            y - 2 if y > 14 else y + 12,
            f"{scores[place]:.2f}".removeprefix("0"),
            color=DETECTION_COLOR,
            fontsize=8,
            weight="bold",
            clip_on=True,
            bbox={"facecolor": "black", "alpha": 0.55, "edgecolor": "none", "pad": 0.8},
        )


def _draw_legend(figure: Figure, width: int, height: int, columns: str, min_score: float) -> None:
    entries = [
        Line2D([], [], color=PERSON_COLOR, linewidth=2.2, label="person"),
        Line2D([], [], color="#8a8a8a", linewidth=2.2, linestyle=(0, (3, 2)), label="ignore region"),
        Line2D([], [], color="#14b814", linewidth=2.2, label=f"detection, score at least {min_score:g}"),
    ]
    figure.legend(
        handles=entries,
        loc="lower left",
        bbox_to_anchor=((MARGIN - 6) / width, 4 / height),
        ncols=len(entries),
        frameon=False,
        fontsize=12,
    )
    figure.text(
        MARGIN / width,
        1 - 48 / height,
        plain(columns),
        fontsize=12,
        color="#555555",
        va="top",
    )
