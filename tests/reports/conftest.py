"""Fixtures of the tests of figures and reports."""

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure

from dcrl_jax.reports import report


@pytest.fixture
def drawn(monkeypatch):
    """The figures saved during a test; their files are written too."""
    figures, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


@pytest.fixture
def config(tiny_config):
    config = tiny_config()
    config.eval.min_height_px = 20.0
    return config


@pytest.fixture
def quick_pictures(monkeypatch):
    """Write plain pictures instead of figures; return the figures' contents by the file's name."""
    contents = {}

    def draw(content, path, *_):
        contents[path.name] = content
        cv2.imwrite(str(path), np.full((8, 8, 3), 99, np.uint8))

    monkeypatch.setattr(report.curves, "miss_rate_figure", draw)
    monkeypatch.setattr(report.panels, "detection_panel", draw)
    monkeypatch.setattr(report.weights, "modality_weights_figure", draw)
    monkeypatch.setattr(report.cfl_maps, "cfl_figure", draw)
    monkeypatch.setattr(report.losses, "loss_figure", draw)
    return contents
