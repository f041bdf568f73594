"""Curves of a training run from its metrics.jsonl: losses, learning rate and validation."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dcrl_jax.files import read_json_lines
from dcrl_jax.reports.curves import line_style
from dcrl_jax.reports.figures import escape_dollars, save

# Steps, int64 [N], and values, float64 [N], by the curve's name.
Curves = Mapping[str, tuple[np.ndarray, np.ndarray]]

TRAIN = "train/"
# Logged training metrics that are not terms of the loss.
COCO = "coco-"  # prefix of COCO's figures beside the miss rates of a split
NOT_TERMS = ("loss", "learning_rate", "images_per_second", "gradient_norm")


def read_curves(path: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the curves of a run from its metrics.jsonl.

    A resumed run may log a step again; the last value of a step counts.

    Args:
        path: the file; if it is missing, there are no curves.

    Returns:
        Steps, int64 [N], ascending, and values, float64 [N], by the curve's name. Values that are not finite are null
        in the file and left out here.
    """
    curves: dict[str, dict[int, float]] = {}
    for line in read_json_lines(path):
        step = line.pop("step", None)
        for name, value in line.items() if isinstance(step, int) else ():
            if isinstance(value, int | float):
                curves.setdefault(name, {})[step] = value
    ordered = {name: sorted(values.items()) for name, values in curves.items()}
    return {
        name: (np.array([step for step, _ in points]), np.array([value for _, value in points], np.float64))
        for name, points in ordered.items()
    }


def loss_figure(curves: Curves, path: str | os.PathLike, title: str) -> None:
    """Draw the total loss, its terms, the learning rate and the validation miss rates of a run.

    Args:
        curves: the result of ``read_curves``.
        path: the figure file; its suffix decides the format, its folder is created if needed.
        title: the figure's title.
    """
    trained = {name.removeprefix(TRAIN): curve for name, curve in curves.items() if name.startswith(TRAIN)}
    terms = {name: curve for name, curve in trained.items() if name not in NOT_TERMS}
    rates = {
        name.rpartition("/")[2]: (steps, 100 * rate)
        for name, (steps, rate) in curves.items()
        if not name.startswith(TRAIN) and f"/{COCO}" not in name
    }
    figure = Figure(figsize=(10.0, 7.0), dpi=130, layout="constrained")
    panels = figure.subplots(2, 2, sharex=True).ravel()
    _draw(panels[0], "loss (weighted sum of its terms)", _only(trained, "loss"))
    _draw(panels[1], "terms of the loss, unweighted", terms)
    # Terms span several orders of magnitude.
    panels[1].set_yscale("log")
    _draw(panels[2], "learning rate", _only(trained, "learning_rate"))
    _draw(panels[3], "miss rate during training, %", rates, marker="o")
    for axes in panels[2:]:
        axes.set_xlabel("step")
        axes.set_ylim(bottom=0.0)
    figure.suptitle(escape_dollars(title))
    save(figure, path)


def _only(curves: Curves, name: str) -> Curves:
    return {name: curves[name]} if name in curves else {}


def _draw(axes: Axes, title: str, curves: Curves, **style: Any) -> None:
    for index, (name, (steps, values)) in enumerate(curves.items()):
        axes.plot(steps, values, **line_style(index), linewidth=1.4, markersize=3, label=name, **style)
    axes.set_title(title, fontsize="medium")
    axes.grid(color="#d0d0d0", linewidth=0.6)
    if len(curves) > 1:
        axes.legend(fontsize="x-small", ncols=2)
