"""Functions that all figures share."""

import os
from pathlib import Path

from matplotlib.figure import Figure


def escape_dollars(text: str) -> str:
    """Escape dollar signs, between which Matplotlib would read a formula."""
    return text.replace("$", r"\$")


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Write a figure; the suffix decides the format, the folder is created if needed."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
