"""A picture of twelve pairs with their boxes: both images side by side, to see whether pairs and labels are right."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from datasets.drawing import INCH_PX, add_box, add_image, add_text, new_sheet
from datasets.records import CONDITIONS
from dcrl_jax.annotations.labels import PERSON
from dcrl_jax.annotations.types import MODALITIES
from dcrl_jax.decoding import decode
from dcrl_jax.errors import InputError
from dcrl_jax.files import atomic_path

COLOURS = {"person": "#3ddc4a", "ignored": "#e256ff", "other labels": "#ffb01a"}
_COLUMNS, _IMAGE_PX, _GAP_PX, _TITLE_PX, _NAME_PX = 3, 320, 4, 36, 22
_LONGEST_NAME = 84  # characters above a pair


def write_contact_sheet(builder: tfds.core.DatasetBuilder, path: Path) -> None:
    """Write the picture of a prepared folder of pairs.

    Args:
        builder: of ``rgbt_folder``, prepared; its metadata name the pairs.
        path: the file, .png, .jpg or .pdf.

    Raises:
        InputError: the file cannot be written.
    """
    metadata: Any = builder.info.metadata  # a MetadataDict
    examples = [(split, index) for split, index in metadata["contact_sheet"]]
    encoded: Any = {name: tfds.decode.SkipDecoding() for name in MODALITIES}
    # tfds' decorator hides the arguments of this method from pyright.
    open_split: Any = builder.as_data_source
    sources = {split: open_split(split, decoders=encoded) for split in {split for split, _ in examples}}
    figure = draw([(split, sources[split][index]) for split, index in examples], builder.info.full_name)
    try:
        with atomic_path(path) as partial:
            figure.savefig(partial, dpi=INCH_PX)
    except (OSError, ValueError) as error:
        raise InputError(f"--contact_sheet={path} cannot be written: {error}") from error


def draw(pairs: Sequence[tuple[str, Mapping[str, Any]]], title: str) -> Figure:
    """Return the figure of some records and their splits; an empty place stays white."""
    images = [(_displayed(record["visible"]), _displayed(record["lwir"])) for _, record in pairs]
    height = max(round(_IMAGE_PX * visible.shape[0] / visible.shape[1]) for visible, _ in images)
    cell_width, cell_height = 2 * _IMAGE_PX + 4 * _GAP_PX, height + _NAME_PX + _GAP_PX
    rows = -(-len(pairs) // _COLUMNS)
    figure = new_sheet(_GAP_PX + min(_COLUMNS, len(pairs)) * cell_width, _TITLE_PX + rows * cell_height)
    add_text(figure, title, _GAP_PX, _TITLE_PX / 2, fontsize=11, weight="bold")
    handles = [Line2D([], [], color=colour, label=name) for name, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="upper right", ncols=len(handles), fontsize=8, frameon=False)
    for number, ((split, record), both) in enumerate(zip(pairs, images, strict=True)):
        left = _GAP_PX + number % _COLUMNS * cell_width
        top = _TITLE_PX + number // _COLUMNS * cell_height
        add_text(figure, _describe(split, record), left, top + _NAME_PX / 2, fontsize=7.5)
        for side, image in enumerate(both):
            scale = min(_IMAGE_PX / image.shape[1], height / image.shape[0])
            width, high = image.shape[1] * scale, image.shape[0] * scale
            axes = add_image(figure, image, left + side * (_IMAGE_PX + _GAP_PX), top + _NAME_PX, width, high)
            axes.set_xlim(-0.5, image.shape[1] - 0.5)
            axes.set_ylim(image.shape[0] - 0.5, -0.5)
            _draw_boxes(axes, record["objects"])
    return figure


def _draw_boxes(axes, objects):
    for box, label, ignore in zip(objects["box"], objects["label"], objects["ignore"], strict=True):
        kind = "ignored" if ignore else "person" if label == PERSON.encode() else "other labels"
        add_box(axes, box, COLOURS[kind], dashed=kind != "person")


def _describe(split, record):
    name = record["image_id"].decode()
    people = sum(label == PERSON.encode() for label in record["objects"]["label"])
    text = f"{split}, {CONDITIONS[record['condition']]}, {people} {PERSON if people == 1 else 'people'}: "
    rest = _LONGEST_NAME - len(text)
    # The end of a long name tells more.
    return text + (name if len(name) <= rest else f"…{name[1 - rest :]}")


def _displayed(encoded):
    """Return an image to look at, uint8 [H, W, 3]: values of more bits from their 1st to their 99th percentile."""
    pixels, _ = decode(encoded, "contact sheet")
    pixels = np.atleast_3d(pixels)[..., :3]
    if pixels.dtype != np.uint8:
        low, high = np.percentile(pixels, (1, 99))
        pixels = np.clip((pixels - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)
    pixels = pixels[..., :1] if pixels.shape[2] == 2 else pixels
    pixels = np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
    return np.ascontiguousarray(pixels)
