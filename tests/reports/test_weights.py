"""The histogram of modality weights: its bars and its legend."""

import numpy as np
import pytest

from dcrl_jax.reports.weights import modality_weights_figure


def bars(container):
    """Return the heights of the bars by their left edges, without empty ones."""
    return {round(bar.get_x(), 3): pytest.approx(bar.get_height()) for bar in container if bar.get_height()}


def test_bars_are_shares_of_the_images_of_each_condition(tmp_path, drawn):
    path = tmp_path / "deep" / "w.png"
    modality_weights_figure({"day": [0.01, 0.26, 0.27, 1.0], "night": [0.9]}, path, "a $ teacher")
    assert path.stat().st_size > 5000
    axes = drawn[0].axes[0]
    assert [bars(container) for container in axes.containers] == [{0.0: 25.0, 0.25: 50.0, 0.975: 25.0}, {0.9: 100.0}]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["day: 4 images, mean 0.385", "night: 1 images, mean 0.900"]
    means = [line.get_xdata()[0] for line in axes.get_lines() if line.get_linestyle() == "--"]
    np.testing.assert_allclose(means, [0.385, 0.9])
    assert (axes.get_title(), axes.get_xlim()) == (r"a \$ teacher", (0.0, 1.0))
