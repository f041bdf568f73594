"""A picture of synthetic scenes: both modalities with their annotations, days above nights.

python -m datasets.synthetic_rgbt.contact_sheet --output=sheet.png
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from datasets.drawing import INCH_PX, add_box, add_image, add_text, new_sheet
from datasets.synthetic_rgbt.scenes import Scene, render
from dcrl_jax.command_line import Parser, exit_on_error
from dcrl_jax.errors import InputError

COLOURS = {"not occluded": "#3ddc4a", "partially": "#ffe14d", "heavily": "#ff8c1a", "ignored": "#e256ff"}


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
    figure = new_sheet(sheet_width, sheet_height)
    for column in range(columns):
        scenes = [render(seed, 2 * column + night, height_px, width_px) for night in (0, 1)]
        rows = [(scene, image) for scene in scenes for image in (scene.visible, scene.lwir)]
        for row, (scene, image) in enumerate(rows):
            left = label + column * (width_px + border)
            axes = add_image(figure, image, left, title + row * (height_px + border), width_px, height_px)
            _draw_boxes(axes, scene)
    for row, name in enumerate(("day, visible", "day, thermal", "night, visible", "night, thermal")):
        middle = title + row * (height_px + border) + height_px / 2
        add_text(figure, name, label / 2, middle, rotation=90, ha="center")
    add_text(figure, f"Synthetic RGB-thermal pairs, seed {seed}", label, title / 2, fontsize=11, weight="bold")
    handles = [Line2D([], [], color=colour, label=name) for name, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="upper right", ncols=len(handles), fontsize=8, frameon=False)
    return figure


def _draw_boxes(axes, scene: Scene) -> None:
    colours = list(COLOURS.values())
    people = scene.people
    for box, occlusion, ignore in zip(people.boxes, people.occlusion, people.ignore, strict=True):
        add_box(axes, box, colours[3 if ignore else occlusion])


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
        figure.savefig(options.output, dpi=INCH_PX)
    except (OSError, ValueError) as error:
        raise InputError(f"--output={options.output} cannot be written: {error}") from error
    print(f"wrote {options.output}")


if __name__ == "__main__":
    with exit_on_error():
        main()
