"""The results files of a run over files: they have the results so far, completely or not at all."""

import contextlib
import csv
import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from dcrl_jax.evaluation import results
from dcrl_jax.evaluation.miss_rate import ImageDetections
from dcrl_jax.files import atomic_path
from dcrl_jax.inference.detector import People
from dcrl_jax.inference.output_folder import not_writable
from dcrl_jax.ops.boxes import xyxy_to_xywh
from dcrl_jax.signals import defer_signals

_IMAGES, _FRAMES, _MODALITIES = "images.txt", "frames.csv", "images.csv"


class ResultFiles:
    """The results of a run so far, and their files in its output folder."""

    def __init__(self, folder: Path, takes_lwir: bool, allow_missing: bool):
        """Hold no results.

        Args:
            folder: the output folder; it need not exist.
            takes_lwir: whether ``frames.csv`` has columns for a thermal video.
            allow_missing: whether images may lack their partner, so that ``images.csv`` is written.
        """
        self._folder, self._takes_lwir, self._allow_missing = folder, takes_lwir, allow_missing
        self.processed: set[str] = set()  # names, including those of unusable images
        # Number and time in seconds in the visible and the thermal video; None without that video.
        self.frames: dict[str, list[tuple[int, Fraction] | None]] = {}
        self._given: dict[str, tuple[str, ...]] = {}  # of each image and frame: the modalities that were there
        self._detections: dict[str, ImageDetections] = {}
        self._kept = 0  # how many detections the files have
        self._names: list[str] = []  # the processed names of images and videos that are complete

    def add(self, name: str, people: People) -> None:
        """Add the people of an image or a frame."""
        boxes = np.asarray(xyxy_to_xywh(people.boxes.astype(np.float64)))
        self._detections[name] = ImageDetections(boxes, people.scores.astype(np.float64))
        self._given[name] = people.modalities
        self.processed.add(name)

    @contextlib.contextmanager
    def save(self, names: Iterable[str]) -> Iterator[None]:
        """Create the folder and write the names; write the results so far at the end, even if the block raises.

        Args:
            names: those of all scenes to come; of a video it is empty at first.

        Raises:
            InputError: a file cannot be written, here or in the block; the earlier files are kept.
        """
        try:
            with self._written_at_the_end(names):
                yield
        except OSError as error:  # raised only by writing; reading raises InputError
            kept = ""
            if self._detections:
                kept = f" The results of {self._kept} of {len(self._detections)} images are kept."
            if not self._kept:  # the names of images without results
                with contextlib.suppress(OSError):
                    (self._folder / _IMAGES).unlink(missing_ok=True)
            raise not_writable(self._folder, error, kept) from error

    @contextlib.contextmanager
    def _written_at_the_end(self, names):
        existed = self._folder.exists()
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_path(self._folder / _IMAGES) as path:
                _write_names(path, [*self._names, *names])
            yield
        finally:
            with defer_signals():
                self._names += [name for name in names if name in self.processed]
                if self._names:
                    self._write()
                else:
                    (self._folder / _IMAGES).unlink(missing_ok=True)
                    if not existed:
                        self._folder.rmdir()

    def _write(self):
        """Write the names and results so far; all files of an earlier state stay if one cannot be written."""
        with contextlib.ExitStack() as on_success:

            def new(file):
                return on_success.enter_context(atomic_path(self._folder / file))

            _write_names(new(_IMAGES), self._names)
            results.write_kaist_text(new("results.txt"), self._detections, self._names)
            results.write_coco_json(new("results.json"), self._detections, self._names)
            if not self.processed.isdisjoint(self.frames):
                _write_table(new(_FRAMES), self._frame_rows())
            if self._allow_missing:
                _write_table(new(_MODALITIES), self._modality_rows())
        self._kept = len(self._detections)

    def _frame_rows(self):
        """Yield the name of each processed frame, and its number and time in each video."""
        columns = ("name", "frame", "seconds", "lwir_frame", "lwir_seconds")[: 5 if self._takes_lwir else 3]
        yield columns
        for name, frames in self.frames.items():
            if name in self.processed:
                cells = ((frame[0], f"{float(frame[1]):.6f}") if frame else ("", "") for frame in frames)
                yield [name, *itertools.chain.from_iterable(cells)][: len(columns)]

    def _modality_rows(self):
        """Yield which images of each scene were looked at; none of a scene that could not be used."""
        yield ("image", "modalities")
        for name in self._names:
            yield name, "+".join(self._given.get(name, ()))


def _write_names(path: Path, names: list[str]) -> None:
    path.write_text("".join(f"{name}\n" for name in names), "utf-8", "surrogateescape", newline="\n")


def _write_table(path: Path, rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
