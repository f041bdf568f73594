"""A picture of synthetic scenes: both modalities with their annotations, days above nights.

python -m datasets.synthetic_rgbt.contact_sheet --output=sheet.png
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from datasets.synthetic_rgbt.scenes import Scene, render
from dcrl_jax.command_line import Parser, exit_on_error
from dcrl_jax.errors import InputError

COLOURS = {"not occluded": "#3ddc4a", "partially": "#ffe14d", "heavily": "#ff8c1a", "ignored": "#e256ff"}
_INCH_PX = 100


def contact_sheet(seed: int, columns: int, height_px: int, width_px: int) -> Figure:
    """Return a figure of the first ``columns`` scenes by day and by night, with two rows for each: visible, thermal.

    Args:
        seed: seed of the scenes, as in ``render``.
        columns: number of scenes by day, and by night.
        height_px: height of one image; the figure shows it at this size.
        width_px: width of one image.
    """
    border, title, label = 4, 40, 24
    sheet_width, sheet_height = label + columns * (width_px + border), title + 4 * (height_px + border)
    size = (sheet_width / _INCH_PX, sheet_height / _INCH_PX)
    figure = Figure(figsize=size, dpi=_INCH_PX, facecolor="white")
    for column in range(columns):
        scenes = [render(seed, 2 * column + night, height_px, width_px) for night in (0, 1)]
        rows = [(scene, image) for scene in scenes for image in (scene.visible, scene.lwir)]
        for row, (scene, image) in enumerate(rows):
            left = label + column * (width_px + border)
            bottom = sheet_height - title - row * (height_px + border) - height_px
            shares = (left / sheet_width, bottom / sheet_height, width_px / sheet_width, height_px / sheet_height)
            axes = figure.add_axes(shares)
            axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
            axes.set_axis_off()
            _draw_boxes(axes, scene)
    for row, name in enumerate(("day, visible", "day, thermal", "night, visible", "night, thermal")):
        middle = title + row * (height_px + border) + height_px / 2
        x, y = label / 2 / sheet_width, (sheet_height - middle) / sheet_height
        figure.text(x, y, name, rotation=90, ha="center", va="center", fontsize=9)
    x, y = label / sheet_width, (sheet_height - title / 2) / sheet_height
    figure.text(x, y, f"Synthetic RGB-thermal pairs, seed {seed}", ha="left", va="center", fontsize=11, weight="bold")
    handles = [Line2D([], [], color=colour, label=name) for name, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="upper right", ncols=len(handles), fontsize=8, frameon=False)
    return figure


def _draw_boxes(axes, scene: Scene) -> None:
    colours = list(COLOURS.values())
    people = scene.people
    for (x, y, w, h), occlusion, ignore in zip(people.boxes, people.occlusion, people.ignore, strict=True):
        colour = colours[3 if ignore else occlusion]
        # imshow puts 0 at the centre of the first pixel, box coordinates at its edge.
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), w, h, fill=False, edgecolor=colour, linewidth=1))


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the picture and write it to a file.

    Raises:
        InputError: a size or seed is out of range, or the file cannot be written.
    """
    parser = Parser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="picture to write: .png, .jpg or .pdf")
    parser.add_argument("--seed", type=int, default=0, help="seed of the scenes (default: 0)")
    parser.add_argument("--columns", type=int, default=5, help="number of scenes by day, and by night (default: 5)")
    parser.add_argument("--height_px", type=int, default=192, help="height of an image (default: 192)")
    parser.add_argument("--width_px", type=int, default=240, help="width of an image (default: 240)")
    options = parser.parse_args(arguments)
    for name, minimum in (("seed", 0), ("columns", 1), ("height_px", 32), ("width_px", 32)):
        if getattr(options, name) < minimum:
            raise InputError(f"--{name} must be at least {minimum}, not {getattr(options, name)}.")
    figure = contact_sheet(options.seed, options.columns, options.height_px, options.width_px)
    try:
        figure.savefig(options.output, dpi=_INCH_PX)
    except (OSError, ValueError) as error:
        raise InputError(f"--output={options.output} cannot be written: {error}") from error
    print(f"wrote {options.output}")


if __name__ == "__main__":
    with exit_on_error():
        main()
