"""Histogram of the modality weights of MAF by day and by night (Eq. 10, 11)."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from dcrl_jax.reports.figures import escape_dollars, save

# Okabe and Ito's orange and blue, with hatches for print.
STYLES = {"day": ("#E69F00", ""), "night": ("#0072B2", "//")}
BINS = 40


def modality_weights_figure(weights: Mapping[str, Sequence[float]], path: str | os.PathLike, title: str) -> None:
    """Draw the distribution of the thermal image's weight, by day and by night.

    Args:
        weights: the thermal image's weight mu, 0..1, of each image, by condition ("day", "night" or only one of them).
        path: the figure file; its suffix decides the format, its folder is created if needed.
        title: the figure's title.
    """
    figure = Figure(figsize=(7.0, 3.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    edges = np.linspace(0.0, 1.0, BINS + 1).tolist()
    for condition, values in weights.items():
        color, hatch = STYLES[condition]
        mean = float(np.mean(values))
        axes.hist(
            values,
            edges,
            weights=np.full(len(values), 100 / len(values)),
            color=color,
            alpha=0.55,
            hatch=hatch,
            edgecolor=color,
            label=f"{condition}: {len(values)} images, mean {mean:.3f}",
        )
        axes.axvline(mean, color=color, linestyle="--", linewidth=1.6)
    # Both modalities have the same weight here.
    axes.axvline(0.5, color="#808080", linewidth=0.8)
    axes.set(xlim=(0.0, 1.0), xlabel="weight of the thermal image (that of the visible one is 1 minus this)")
    axes.set_ylabel("% of the images")
    axes.set_title(escape_dollars(title), fontsize="medium")
    axes.legend(fontsize="small", framealpha=0.9)
    save(figure, path)
