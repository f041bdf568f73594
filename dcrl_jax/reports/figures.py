"""What all pictures have in common: they are written into a folder of their own making, and text stays text."""

import os
from pathlib import Path

from matplotlib.figure import Figure


def plain(text: str) -> str:
    """A text as it stands: Matplotlib reads what is between dollar signs as a formula."""
    return text.replace("$", r"\$")


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Write a picture; its ending chooses the format, and its folder is made."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
