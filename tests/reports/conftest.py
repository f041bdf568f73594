"""Fixtures of the tests of figures and reports."""

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def drawn(monkeypatch):
    """The figures saved during a test; their files are written too."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: figures.append(figure) or save(figure, path))
    return figures


@pytest.fixture
def undrawn(monkeypatch):
    """The figures saved during a test, which are not drawn, because drawing takes most of the time."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: figures.append(figure))
    return figures


@pytest.fixture(scope="module")
def config(tiny_config):
    config = tiny_config()
    config.eval.min_height_px = 20.0
    return config
