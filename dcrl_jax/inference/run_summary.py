"""What a run over files prints: its counts, and what it could not use."""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dcrl_jax.errors import first_few
from dcrl_jax.inference.detector import People

LISTED = 20  # longest list of files


class Counts:
    """The counts of the images of a run, or of the frames of one of its videos."""

    def __init__(self, modalities: Sequence[str], min_score: float):
        """Count nothing yet; people with a lower score than ``min_score`` do not count."""
        self._modalities, self._min_score = modalities, min_score
        self._images = self._people = self._images_with_people = 0
        self._weights = []  # of pairs
        self._alone: Counter[str] = Counter()  # images without a partner, by modality
        self._grey: list[str] = []  # names of visible images with three equal channels

    def add(self, name: str, people: People, is_grey: bool) -> None:
        """Count an image; ``is_grey`` says that it has three equal channels and the detector expects colours."""
        count_above = int((people.scores >= self._min_score).sum())
        self._images += 1
        self._people += count_above
        self._images_with_people += count_above > 0
        if len(people.modalities) < len(self._modalities):
            self._alone.update(people.modalities)
        elif people.modality_weights is not None:
            self._weights.append(list(people.modality_weights.values()))
        if is_grey:
            self._grey.append(name)

    def summary(self, unit: str, seconds: float, output: Path) -> str:
        """Return the counts, the mean weights, and what a user should know about the images, one line each.

        Args:
            unit: "image" or "frame".
            seconds: that the work took.
            output: the folder of the results.
        """
        lines = [
            f"{self._images} {unit}s in {seconds:.1f} s ({self._images / seconds:.1f} {unit}s/s): {self._people} "
            f"people with a score of at least {self._min_score:g}, in {self._images_with_people} {unit}s; all results "
            f"are in {output}"
        ]
        if self._weights:
            weights = zip(self._modalities, np.mean(self._weights, axis=0), strict=True)
            lines.append(f"mean weights: {', '.join(f'{name} {mean:.2f}' for name, mean in weights)}")
        if self._alone:
            counts = ", ".join(f"{count} {modality} only" for modality, count in sorted(self._alone.items()))
            lines.append(f"looked at with one camera: {counts}; {output / 'images.csv'} names them")
        if self._grey:
            names = ", ".join(first_few(self._grey, 3))
            lines.append(
                f"warning: {len(self._grey)} {unit}s have three equal channels: {names}. They are probably thermal or "
                "grey images, but this detector expects colours."
            )
        return "\n".join(lines)


def by_reason(problems: list[str]) -> list[str]:
    """Return one line per kind of problem; those that differ only in the file and in numbers are of one kind."""
    groups = defaultdict(list)
    for problem in problems:
        groups[re.sub(r"\d+", "0", problem.partition(": ")[2])].append(problem)
    lines = []
    for first, *others in sorted(groups.values(), key=len, reverse=True):
        also = ", ".join(first_few([problem.partition(": ")[0] for problem in others], 3))
        lines.append(f"{first} ({len(others) + 1} like this; also {also})" if others else first)
    return lines


def printable(text: str) -> str:
    """Return a text that standard output can print; bytes of a path that are no UTF-8 are escaped."""
    escaped = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return escaped.encode(encoding, "backslashreplace").decode(encoding)


def print_text(text: str) -> None:
    """Print a text, see ``printable``."""
    print(printable(text))


def print_list(title: str, items: list[str], count: int = 0) -> None:
    """Print the number of items, by default that of the list, a title and the first items; nothing without items."""
    if items:
        lines = "".join(f"\n  {line}" for line in first_few(items, LISTED))
        print_text(f"{count or len(items)} {title}:{lines}")
