"""Curves of miss rate against false positives per image, in the style of the pedestrian literature."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from dcrl_jax.evaluation.miss_rate import REFERENCE_FPPI, Score
from dcrl_jax.reports.figures import escape_dollars, save

FPPI_LIMITS = (1e-3, 1e1)
MISS_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.64, 0.8, 1.0)
# Distinct in print and for colour-blind readers (Okabe and Ito's set), the darkest first.
COLORS = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINE_STYLES = ("-", "--", "-.", ":")
LEGEND = {"fontsize": "small", "title": "log-average miss rate", "title_fontsize": "small"}


def miss_rate_figure(curves: Mapping[str, Score], path: str | os.PathLike, title: str) -> None:
    """Draw MR-FPPI curves on logarithmic axes; the legend lists them by miss rate, the lowest first.

    The band marks the range over which the miss rate in the legend is averaged.

    Args:
        curves: scores by their names in the legend; a name stands for a method, a subset, or both.
        path: the figure file; its suffix decides the format (.png, .pdf, .svg), its folder is created if needed.
        title: the figure's title.
    """
    figure = Figure(figsize=(7.0, 5.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    _draw_curves(axes, curves, list(by_miss_rate(curves)), _lowest_tick([curves]))
    axes.set_ylabel("miss rate")
    axes.set_title(escape_dollars(title))
    if curves:
        axes.legend(loc="lower left", framealpha=0.9, **LEGEND)
    save(figure, path)


def miss_rate_panels(panels: Mapping[str, Mapping[str, Score]], path: str | os.PathLike, title: str) -> None:
    """Draw several panels of MR-FPPI curves side by side, with the same axis limits.

    A name has the same colour in all panels; each panel's legend is sorted by its own miss rates.

    Args:
        panels: the curves of each panel, as for ``miss_rate_figure``, by the panel's title; at least one panel.
        path: as for ``miss_rate_figure``.
        title: the figure's title.
    """
    names = list(dict.fromkeys(name for curves in panels.values() for name in by_miss_rate(curves)))
    figure = Figure(figsize=(5.2 * len(panels), 5.4 + 0.19 * len(names)), dpi=150, layout="constrained")
    bottom = _lowest_tick(panels.values())
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (panel_title, curves) in zip(row, panels.items(), strict=True):
        _draw_curves(axes, curves, names, bottom)
        axes.set_title(escape_dollars(panel_title))
        if curves:
            # Below the panel, because a legend of many methods would hide the curves.
            axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.12), frameon=False, alignment="left", **LEGEND)
    row[0].set_ylabel("miss rate")
    figure.suptitle(escape_dollars(title), wrap=True)
    save(figure, path)


def by_miss_rate(curves: Mapping[str, Score]) -> dict[str, Score]:
    """Return scores sorted by miss rate, the lowest first; NaN (a subset without people) comes last."""
    return dict(sorted(curves.items(), key=lambda item: (math.isnan(item[1].miss_rate), item[1].miss_rate)))


def line_style(index: int) -> dict[str, Any]:
    """Return Matplotlib's arguments for the colour and the line style of the curve with this index."""
    return {
        "color": COLORS[index % len(COLORS)],
        "linestyle": LINE_STYLES[index // len(COLORS) % len(LINE_STYLES)],
    }


def _lowest_tick(panels: Iterable[Mapping[str, Score]]) -> float:
    # The usual axis starts at 0.05; better methods need a longer one.
    lowest = min(
        (score.miss[score.miss > 0].min(initial=1.0) for curves in panels for score in curves.values()), default=1
    )
    return max([tick for tick in MISS_TICKS if tick <= min(lowest, 0.05)], default=MISS_TICKS[0])


def _draw_curves(axes: Axes, curves: Mapping[str, Score], names: Sequence[str], bottom: float) -> None:
    """Draw one panel; the index of a curve's name in ``names`` decides its colour."""
    axes.axvspan(REFERENCE_FPPI[0], REFERENCE_FPPI[-1], color="#000000", alpha=0.04, linewidth=0)
    for name, score in by_miss_rate(curves).items():
        index = names.index(name)
        axes.plot(
            *_visible_curve(score),
            drawstyle="steps-post",
            **line_style(index),
            linewidth=1.8,
            label=f"{_percent(score.miss_rate)}  {escape_dollars(name)}",
        )
    ticks = [tick for tick in MISS_TICKS if tick >= bottom]
    axes.set(xscale="log", yscale="log", xlim=FPPI_LIMITS, ylim=(bottom, 1.0))
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FixedFormatter([f"{tick:g}".removeprefix("0") for tick in ticks]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_axisbelow(True)
    axes.grid(color="#d0d0d0", linewidth=0.6)
    axes.set_xlabel("false positives per image")


def _visible_curve(score: Score) -> tuple[np.ndarray, np.ndarray]:
    """Return false positives per image and miss rates of a curve for logarithmic axes, float64 [D + 2] each."""
    # Points before the first false positive lie left of the axis. After the last detection the line continues
    # horizontally to the right edge.
    fppi = np.concatenate([[0.0], score.fppi, [max([FPPI_LIMITS[1], *score.fppi[-1:]])]])
    miss = np.concatenate([[1.0], score.miss, score.miss[-1:] if score.miss.size else [1.0]])
    return np.clip(fppi, FPPI_LIMITS[0] / 10, None), miss


def _percent(miss_rate: float) -> str:
    return "no people" if math.isnan(miss_rate) else f"{100 * miss_rate:.2f}%"
