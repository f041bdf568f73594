"""Detection in files, from images or a video to annotated copies and results files."""

import contextlib
import csv
import io
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from dcrl_jax.errors import InputError, Preempted, first_few
from dcrl_jax.evaluation import results
from dcrl_jax.evaluation.miss_rate import ImageDetections
from dcrl_jax.files import atomic_path
from dcrl_jax.inference.detector import Detector
from dcrl_jax.inference.draw import draw_people
from dcrl_jax.inference.frame_pairs import FramePairs
from dcrl_jax.inference.images import read_lwir, read_visible
from dcrl_jax.inference.output_folder import new_folder, not_writable
from dcrl_jax.inference.pairs import find_pairs
from dcrl_jax.inference.video import Video, is_video, open_writer
from dcrl_jax.ops.boxes import xyxy_to_xywh
from dcrl_jax.progress import progress_bar
from dcrl_jax.signals import defer_signals, recall_signals

JPEG_QUALITY = 92
LISTED = 20  # longest list of files in the summary
DECODED = 8  # images read ahead, few since decoded images are large

WritePicture = Callable[[str, np.ndarray], None]


class Scene(NamedTuple):
    """An image or a pair, and its name in the results."""

    name: str
    images: tuple[np.ndarray, ...] | InputError  # one per modality, or the reason why they cannot be used


def detect_files(
    checkpoint: str,
    source: str,
    output: str | Path,
    lwir_source: str | None = None,
    min_score: float = 0.5,
    lwir_offset_s: float = 0.0,
) -> bool:
    """Detect people in files, write the detections, and print a summary.

    Args:
        checkpoint: see ``Detector.from_checkpoint``.
        source: an image, a folder, a pattern or a video.
        output: a new or empty folder. It gets ``annotated/`` with the images or the video, ``results.txt`` (KAIST's
            text format), ``results.json`` (COCO's format), and ``images.txt``, the names of the processed images in
            the order of both results files. A video's frames are named by their numbers, and ``frames.csv`` has the
            number and time of each. The folder stays as it was if the run ends before the first image.
        lwir_source: the thermal images or video for a teacher. By default, ``source`` has images of both modalities.
        min_score: people with a lower score are neither drawn nor counted in the summary; the results files have all.
        lwir_offset_s: of two videos, the seconds by which the thermal one started later than the visible one: thermal
            time + offset = visible time, each from the start of its video. See ``FramePairs``.

    Returns:
        Whether every image could be used, or every frame be read.

    Raises:
        InputError: the source has no image or pair, a video cannot be used, no frames of two videos are a pair, or the
            output cannot be written to; the results so far are kept. An unusable image is only reported.
        KeyboardInterrupt, Preempted: a signal ended the run; the results so far are kept, and their number is printed.
    """
    output = new_folder(output)
    detector = Detector.from_checkpoint(checkpoint)
    if lwir_source is not None and len(detector.modalities) == 1:
        raise InputError(f"this detector is a {detector.config.role}, which sees RGB only: omit --lwir.")
    run = _Run(detector, output, min_score)
    if is_video(source):
        run.detect_video(Path(source), None if lwir_source is None else Path(lwir_source), lwir_offset_s)
    elif lwir_offset_s:
        raise InputError(f"--lwir_offset_s shifts a thermal video, but {source} is not a video.")
    else:
        run.detect_images(source, lwir_source)
    return not run.problems


class _Run:
    """A run over files: its detector, its output folder and its results so far."""

    def __init__(self, detector, output, min_score):
        self._detector, self._output, self._min_score = detector, output, min_score
        self._needs_lwir = len(detector.modalities) > 1
        self._detections: dict[str, ImageDetections] = {}
        self._processed: set[str] = set()  # names, including those of unusable images
        self._frames: dict[str, list[tuple[int, Fraction]]] = {}  # of each video: number and time in seconds
        self._people = self._images_with_people = 0
        self._weights = []
        self.problems: list[str] = []

    def detect_images(self, source: str, lwir_source: str | None) -> None:
        pairs, unmatched = find_pairs(source, lwir_source, self._needs_lwir)
        folder = self._output / "annotated"

        def write(name, picture):
            path = folder / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
            encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
            try:
                path.write_bytes(encoded)
            except OSError:
                path.unlink(missing_ok=True)
                raise

        with ThreadPoolExecutor(4) as pool:
            scenes = (scene for chunk in _chunks(pairs, DECODED) for scene in pool.map(_read_pair, chunk))
            names = [pair.name for pair in pairs]
            self._detect(scenes, names, len(pairs), "image", contextlib.nullcontext(write))
        _print_list("without a counterpart in the other modality, left out", unmatched)

    def detect_video(self, path: Path, lwir_path: Path | None, lwir_offset_s: float) -> None:
        if self._needs_lwir and lwir_path is None:
            raise InputError("this detector is a teacher, which takes pairs: give the thermal video with --lwir.")
        if lwir_path is None and lwir_offset_s:
            raise InputError("--lwir_offset_s shifts a thermal video: give one with --lwir.")
        if lwir_path is not None and lwir_path.exists() and not is_video(lwir_path):
            raise InputError(f"{lwir_path}: not a video, but {path} is one; give the thermal video with --lwir.")
        videos = [Video(path) for path in (path, lwir_path) if path is not None]
        pairs = FramePairs(videos[0], videos[1], lwir_offset_s) if len(videos) > 1 else None
        count = min((video.count_hint for video in videos if video.count_hint), default=None)
        names: list[str] = []

        def scenes():
            for frames in pairs or ((frame,) for frame in videos[0].frames()):
                name = f"{path.stem}_{frames[0].number:06d}"
                names.append(name)
                self._frames[name] = [(frame.number, frame.seconds) for frame in frames]
                try:
                    visible = read_visible(frames[0].pixels)
                    images = (visible, *(read_lwir(frame.pixels, visible) for frame in frames[1:]))
                except InputError as error:  # ends the run: the other frames are of the same kind
                    raise InputError(f"{name}: {error}") from error
                yield Scene(name, images)

        @contextlib.contextmanager
        def writer():
            video = self._output / "annotated" / f"{path.stem}.mp4"
            try:
                with open_writer(video, 1 / (videos[0].interval or Fraction(1)), videos[0].time_base) as write:
                    yield lambda name, picture: write(picture, self._frames[name][0][1])
            finally:
                with defer_signals():
                    self._write_frames()

        try:
            self._detect(scenes(), names, count, "frame", writer())
            if pairs:
                print(pairs.summary())
        finally:
            problems = [problem for video in videos for problem in video.problems()]
            self.problems += problems
            for line in [note for video in videos for note in video.notes()] + problems:
                print(f"warning: {line}")

    def _write_frames(self):
        """Write frames.csv: the name of each processed frame, and its number and time in each video."""
        table = io.StringIO(newline="")
        writer = csv.writer(table, lineterminator="\n")
        columns = ("name", "frame", "seconds", "lwir_frame", "lwir_seconds")
        rows = []
        for name, frames in self._frames.items():
            if name in self._processed:
                rows.append([name, *(cell for number, time in frames for cell in (number, f"{float(time):.6f}"))])
        if rows:
            writer.writerows([columns[: len(rows[0])], *rows])
            with atomic_path(self._output / "frames.csv") as path:
                path.write_text(table.getvalue(), encoding="utf-8", errors="surrogateescape")

    def _detect(
        self,
        scenes: Iterable[Scene],
        names: Iterable[str],
        count: int | None,
        unit: str,
        writer: contextlib.AbstractContextManager[WritePicture],
    ) -> None:
        start = time.monotonic()
        try:
            with (
                self._explain_write_errors(),
                self._save_results(names),
                writer as write,
                recall_signals() as raise_lost_signal,
                progress_bar(None, "detecting", count, f"{unit}s") as bar,
            ):
                for chunk in _chunks(scenes, self._detector.batch_size):
                    self._detect_chunk(chunk, count, bar, write)
                    bar.update(len(chunk))
                    raise_lost_signal()
        except (KeyboardInterrupt, Preempted):
            done = len(self._processed)
            kept = f"{self._output} has the results so far" if done else "nothing is written"
            of_all = f" of {count}" if unit == "image" else ""  # the number of frames is only estimated
            print(f"stopped after {done}{of_all} {unit}s; {kept}")
            raise
        seconds = time.monotonic() - start
        done = len(self._detections)
        print(
            f"{done} {unit}s in {seconds:.1f} s ({done / seconds:.1f} {unit}s/s): {self._people} people with a score "
            f"of at least {self._min_score:g}, in {self._images_with_people} {unit}s; all results are in {self._output}"
        )
        if self._weights:
            means = np.mean(self._weights, axis=0)
            weights = zip(self._detector.modalities, means, strict=True)
            print(f"mean weights: {', '.join(f'{name} {mean:.2f}' for name, mean in weights)}")
        _print_list("that could not be used, skipped", self.problems)

    @contextlib.contextmanager
    def _save_results(self, names):
        """Create the output folder; write the results so far at the end of the block, even if it raises."""
        existed = self._output.exists()
        self._output.mkdir(parents=True, exist_ok=True)
        try:
            yield
        finally:
            with defer_signals():
                processed = [name for name in names if name in self._processed]
                if processed:
                    results.write_kaist_text(self._output / "results.txt", self._detections, processed)
                    results.write_coco_json(self._output / "results.json", self._detections, processed)
                    lines = "".join(f"{name}\n" for name in processed)
                    (self._output / "images.txt").write_text(lines, encoding="utf-8")
                elif not existed:
                    self._output.rmdir()

    @contextlib.contextmanager
    def _explain_write_errors(self):
        try:
            yield
        except OSError as error:  # raised only by writing; reading raises InputError
            kept = ""
            if self._detections:
                is_saved = (self._output / "images.txt").is_file()
                kept = f" The results of {len(self._detections)} images are {'kept' if is_saved else 'lost'}."
            raise not_writable(self._output, error, kept) from error

    def _detect_chunk(self, chunk, count, bar, write):
        usable = [scene for scene in chunk if not isinstance(scene.images, InputError)]
        unusable = [scene for scene in chunk if isinstance(scene.images, InputError)]
        for scene in unusable:
            self.problems.append(str(scene.images))
            bar.write(f"warning: {scene.images}")
        # A single last image would compile a program of its own.
        batch = usable * 2 if len(usable) == 1 and count != 1 else usable
        by_modality = (list(images) for images in zip(*(scene.images for scene in batch), strict=True))
        detected = self._detector(*by_modality) if batch else []
        self._processed.update(scene.name for scene in unusable)
        for scene, people in zip(usable, detected, strict=False):
            count_above = int((people.scores >= self._min_score).sum())
            self._people += count_above
            self._images_with_people += count_above > 0
            if people.modality_weights is not None:
                self._weights.append(list(people.modality_weights.values()))
            boxes = np.asarray(xyxy_to_xywh(people.boxes.astype(np.float64)))
            picture = draw_people(scene.images, people, self._min_score)
            with defer_signals():  # an image has both its results and its picture, or neither
                self._detections[scene.name] = ImageDetections(boxes, people.scores.astype(np.float64))
                self._processed.add(scene.name)
                write(scene.name, picture)


def _read_pair(pair) -> Scene:
    try:
        visible = read_visible(pair.visible)
        return Scene(pair.name, (visible,) if pair.lwir is None else (visible, read_lwir(pair.lwir, visible)))
    except InputError as error:
        return Scene(pair.name, error)


def _chunks(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while chunk := list(itertools.islice(items, size)):
        yield chunk


def _print_list(title: str, items: list) -> None:
    if items:
        print(f"{len(items)} {title}:")
        print("".join(f"  {line}\n" for line in first_few(items, LISTED)), end="")
