"""Images with boxes on a sheet, for contact sheets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

INCH_PX = 100


def new_sheet(width_px: int, height_px: int) -> Figure:
    """Return an empty white figure of a size in pixels."""
    return Figure(figsize=(width_px / INCH_PX, height_px / INCH_PX), dpi=INCH_PX, facecolor="white")


def add_image(figure: Figure, image: np.ndarray, left: float, top: float, width: float, height: float) -> Axes:
    """Put an image, uint8 [H, W] or [H, W, 3], on a sheet; corner and size are in pixels of the sheet."""
    sheet_width, sheet_height = (side * INCH_PX for side in figure.get_size_inches())
    bottom = sheet_height - top - height
    axes: Any = figure.add_axes((left / sheet_width, bottom / sheet_height, width / sheet_width, height / sheet_height))
    is_smaller = width < image.shape[1]
    axes.imshow(
        image, cmap="gray", vmin=0, vmax=255, interpolation="antialiased" if is_smaller else "nearest", aspect="auto"
    )
    axes.set_axis_off()
    return axes


def add_box(axes: Axes, box: Sequence[float], colour: str, dashed: bool = False) -> None:
    """Draw a box, x, y, w, h in pixels of the image."""
    x, y, w, h = box
    # imshow puts 0 at the centre of the first pixel, box coordinates at its edge.
    style = "--" if dashed else "-"
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), w, h, fill=False, edgecolor=colour, linewidth=1, linestyle=style))


def add_text(figure: Figure, text: str, left: float, middle: float, **style: Any) -> None:
    """Write text on a sheet, from ``left`` on and around the height ``middle``, in pixels of the sheet."""
    sheet_width, sheet_height = (side * INCH_PX for side in figure.get_size_inches())
    options = {"ha": "left", "va": "center", "fontsize": 9} | style
    figure.text(left / sheet_width, 1 - middle / sheet_height, text, **options)
