"""The course of a training run, from the scalars in its logs: losses, learning rate, validation."""

import os
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tensorboardX.proto.event_pb2 import Event

from dcrl_jax.reports.curves import COLORS, LINE_STYLES
from dcrl_jax.reports.figures import plain, save

Curves = Mapping[str, tuple[np.ndarray, np.ndarray]]

TRAIN = "train/"
# What a run logs of its training besides the terms of its loss.
NOT_TERMS = ("loss", "learning_rate", "images_per_second", "gradient_norm")


def read_scalars(folder: str | os.PathLike) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read all scalars of a run's TensorBoard files.

    Every start of a run writes a file of its own. Where two have a value of one step, the later file's stands. Of a
    file that was not written to its end everything before the torn event counts.

    Args:
      folder: ``logs/`` of a workdir; one that is missing holds nothing.

    Returns:
      steps, int64 [N] and rising, and values, float64 [N], by the curve's name; values that are not finite are left
      out.
    """
    curves: dict[str, dict[int, float]] = {}
    # The names begin with the second of the start.
    for path in sorted(Path(folder).glob("events.out.tfevents.*")):
        for event in _events(path.read_bytes()):
            for value in event.summary.value:
                if value.HasField("simple_value") and np.isfinite(value.simple_value):
                    curves.setdefault(value.tag, {})[event.step] = value.simple_value
    ordered = {name: sorted(values.items()) for name, values in curves.items()}
    return {
        name: (np.array([step for step, _ in points]), np.array([value for _, value in points], np.float64))
        for name, points in ordered.items()
    }


def _events(data):
    """The events of a file, by TFRecord's framing: length (8 bytes), its checksum (4), the event, its checksum (4)."""
    place = 0
    while place + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        place += 12
        if place + length > len(data):
            return
        try:
            yield Event.FromString(data[place : place + length])
        except DecodeError:
            return
        place += length + 4


def loss_figure(curves: Curves, path: str | os.PathLike, title: str) -> None:
    """Draw the curves of a run: the total loss and its terms, the learning rate and the validation miss rates.

    Args:
      curves: of ``read_scalars``.
      path: the image; its ending chooses the format. Its folder is made.
      title: above everything.
    """
    trained = {name.removeprefix(TRAIN): curve for name, curve in curves.items() if name.startswith(TRAIN)}
    terms = {name: curve for name, curve in trained.items() if name not in NOT_TERMS}
    rates = {
        name.rpartition("/")[2]: (steps, 100 * rate)
        for name, (steps, rate) in curves.items()
        if not name.startswith(TRAIN)
    }
    figure = Figure(figsize=(10.0, 7.0), dpi=130, layout="constrained")
    panels = figure.subplots(2, 2, sharex=True).ravel()
    _draw(panels[0], "loss (weighted sum of its terms)", _only(trained, "loss"))
    _draw(panels[1], "terms of the loss, unweighted", terms)
    # From 1e-3 to 1e-5 in one run: on an even axis the later stages would all be zero.
    panels[1].set_yscale("log")
    _draw(panels[2], "learning rate", _only(trained, "learning_rate"))
    _draw(panels[3], "miss rate during training, %", rates, marker="o")
    for axes in panels[2:]:
        axes.set_xlabel("step")
        axes.set_ylim(bottom=0.0)
    figure.suptitle(plain(title))
    save(figure, path)


def _only(curves: Curves, name: str) -> Curves:
    return {name: curves[name]} if name in curves else {}


def _draw(axes: Axes, title: str, curves: Curves, **style: str) -> None:
    for place, (name, (steps, values)) in enumerate(curves.items()):
        axes.plot(
            steps,
            values,
            color=COLORS[place % len(COLORS)],
            linestyle=LINE_STYLES[place // len(COLORS) % len(LINE_STYLES)],
            linewidth=1.4,
            markersize=3,
            label=name,
            **style,
        )
    axes.set_title(title, fontsize="medium")
    axes.grid(color="#d0d0d0", linewidth=0.6)
    if len(curves) > 1:
        axes.legend(fontsize="x-small", ncols=2)
