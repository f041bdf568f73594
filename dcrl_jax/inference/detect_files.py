"""Detection in files: a folder, a pattern or a video in, annotated images and results files out."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from dcrl_jax.errors import InputError, Preempted
from dcrl_jax.evaluation import results
from dcrl_jax.evaluation.miss_rate import ImageDetections
from dcrl_jax.inference.detector import Detector
from dcrl_jax.inference.draw import draw_people
from dcrl_jax.inference.images import read_lwir, read_visible
from dcrl_jax.inference.output_folder import new_folder
from dcrl_jax.inference.pairs import find_pairs, is_video
from dcrl_jax.inference.video import open_writer, read_frames, video_info
from dcrl_jax.ops.boxes import xyxy_to_xywh
from dcrl_jax.progress import progress_bar
from dcrl_jax.signals import defer_signals, raise_on_sigterm, recall_signals

JPEG_QUALITY = 92
LISTED = 20  # names of one kind in the summary

# Of a scene its name in the results and its images, or what is wrong with them.
Scene = tuple[str, tuple[np.ndarray, ...] | InputError]


@raise_on_sigterm()
def detect_files(
    checkpoint: str, given: str, output: str | Path, given_lwir: str | None = None, min_score: float = 0.5
) -> bool:
    """Detect people in files and write what was found, with a bar and a summary.

    Args:
        checkpoint: what ``Detector.from_checkpoint`` takes.
        given: an image, a folder, a pattern or a video.
        output: a new or empty folder. It gets ``annotated/`` with the images or the video, ``results.txt`` (KAIST's
            text format), ``results.json`` (COCO's), and ``images.txt``, the images that were looked at, in the order of
            both. If the run ends before the first, the folder is as it was.
        given_lwir: as ``given``, of thermal images, for a teacher; by default they are looked for in ``given``.
        min_score: people below it are not drawn and not counted in the summary; the results have them all.

    Returns:
        Whether every file could be read.

    Raises:
        InputError: there is nothing to detect in, or it cannot be written to the output; what was found until then is
            kept. What is wrong with a single image is printed.
        KeyboardInterrupt, Preempted: Ctrl-C or SIGTERM ended it; what was found until then is kept, and how far it came
            is printed.
    """
    output = new_folder(output)
    detector = Detector.from_checkpoint(checkpoint)
    needs_lwir = len(detector.modalities) > 1
    if given_lwir is not None and not needs_lwir:
        raise InputError(f"this detector is a {detector.config.role}, which sees RGB alone: leave --lwir out.")
    run = _Run(detector, output, min_score)
    if is_video(given):
        run.detect_video(Path(given), None if given_lwir is None else Path(given_lwir))
    else:
        run.detect_images(given, given_lwir)
    return not run.problems


class _Run:
    """What has been found so far, and where it is written to."""

    def __init__(self, detector, output, min_score):
        self._detector, self._output, self._min_score = detector, output, min_score
        self._found: dict[str, ImageDetections] = {}
        self._looked_at: set[str] = set()  # the broken ones too
        self._people = self._with_people = 0
        self._weights = []
        self.problems: list[str] = []

    def detect_images(self, given: str, given_lwir: str | None) -> None:
        pairs, unmatched = find_pairs(given, given_lwir, len(self._detector.modalities) > 1)
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
            # Not all at once: decoded images are large.
            scenes = (scene for chunk in _chunks(pairs, 8) for scene in pool.map(_read_pair, chunk))
            self._detect(scenes, [pair.name for pair in pairs], len(pairs), "image", write)
        _print_list("without a counterpart in the other modality, left out", unmatched)

    def detect_video(self, path: Path, lwir: Path | None) -> None:
        needs_lwir = len(self._detector.modalities) > 1
        if needs_lwir and lwir is None:
            raise InputError("this detector is a teacher, which looks at pairs: give it the thermal video by --lwir.")
        files = [path, lwir] if needs_lwir else [path]
        infos = [video_info(file) for file in files]
        count = min(info.frames for info in infos)
        names = []

        def scenes():
            for frames in zip(*map(read_frames, files), strict=False):
                visible = read_visible(frames[0])
                names.append(f"{path.stem}_{len(names):06d}")
                # What is wrong with one frame is wrong with all: the run ends.
                yield names[-1], (visible, *(read_lwir(frame, visible) for frame in frames[1:]))

        with open_writer(self._output / "annotated" / f"{path.stem}.mp4", infos[0].per_second) as write:
            self._detect(scenes(), names, count, "frame", lambda _, picture: write(picture))
        if len({info.frames for info in infos}) > 1:
            counts = " and ".join(f"{file} {info.frames}" for file, info in zip(files, infos, strict=True))
            print(f"warning: the videos differ in their numbers of frames: {counts}")
        if len(names) < 0.99 * count:
            self.problems.append(f"{path}: {len(names)} of {count} frames could be read.")
            print(f"warning: {self.problems[-1]}")

    def _detect(
        self,
        scenes: Iterable[Scene],
        names: list[str],
        count: int,
        unit: str,
        write: Callable[[str, np.ndarray], None],
    ) -> None:
        start = time.monotonic()
        try:
            with (
                self._said_if_not_written(),
                self._kept(names),
                recall_signals() as raise_lost_signal,
                progress_bar(None, "detecting", count, f"{unit}s") as bar,
            ):
                for chunk in _chunks(scenes, self._detector.batch_size):
                    self._detect_chunk(chunk, count, bar, write)
                    bar.update(len(chunk))
                    raise_lost_signal()
        except (KeyboardInterrupt, Preempted):
            done = len(self._looked_at)
            kept = f"{self._output} has what was found until then" if done else "nothing is written"
            print(f"stopped after {done} of {count} {unit}s; {kept}")
            raise
        seconds = time.monotonic() - start
        done = len(self._found)
        print(
            f"{done} {unit}s in {seconds:.1f} s ({done / seconds:.1f} {unit}s/s): {self._people} people with a score "
            f"of at least {self._min_score:g}, in {self._with_people} {unit}s; all that was found is in {self._output}"
        )
        if self._weights:
            means = np.mean(self._weights, axis=0)
            shown = ", ".join(f"{name} {mean:.2f}" for name, mean in zip(self._detector.modalities, means, strict=True))
            print(f"mean weights: {shown}")
        _print_list("that could not be used, skipped", self.problems)

    @contextlib.contextmanager
    def _kept(self, names):
        """Makes the folder, and writes what was found when the run ends, however it ends."""
        was_there = self._output.exists()
        self._output.mkdir(parents=True, exist_ok=True)
        try:
            yield
        finally:
            with defer_signals():
                looked_at = [name for name in names if name in self._looked_at]
                if looked_at:
                    results.write_kaist_text(self._output / "results.txt", self._found, looked_at)
                    results.write_coco_json(self._output / "results.json", self._found, looked_at)
                    lines = "".join(f"{name}\n" for name in looked_at)
                    (self._output / "images.txt").write_text(lines, encoding="utf-8")
                elif not was_there:
                    self._output.rmdir()

    @contextlib.contextmanager
    def _said_if_not_written(self):
        try:
            yield
        except OSError as error:  # of writing alone: what cannot be read is an InputError
            kept = ""
            if self._found:
                is_kept = (self._output / "images.txt").is_file()
                kept = f" What was found in {len(self._found)} images {'is in it' if is_kept else 'is lost'}."
            raise InputError(
                f"{self._output} cannot be written to: {error.strerror or error}.{kept} Make room, or give another "
                "--output."
            ) from error

    def _detect_chunk(self, chunk, count, bar, write):
        usable, broken = [], []
        for name, images in chunk:
            if isinstance(images, InputError):
                self.problems.append(str(images))
                broken.append(name)
                bar.write(f"warning: {images}")
            else:
                usable.append((name, images))
        # A last image alone would compile a program of its own.
        fill = usable[:1] if len(usable) == 1 and count > 1 else []
        by_modality = (list(images) for images in zip(*(images for _, images in usable + fill), strict=True))
        found = self._detector(*by_modality) if usable else []
        self._looked_at.update(broken)
        for (name, images), people in zip(usable, found, strict=False):
            sure = int((people.scores >= self._min_score).sum())
            self._people += sure
            self._with_people += sure > 0
            if people.modality_weights is not None:
                self._weights.append(list(people.modality_weights.values()))
            boxes = xyxy_to_xywh(people.boxes.astype(np.float64))
            picture = draw_people(images, people, self._min_score)
            with defer_signals():  # the results and the picture of an image, or neither
                self._found[name] = ImageDetections(boxes, people.scores.astype(np.float64))
                self._looked_at.add(name)
                write(name, picture)


def _read_pair(pair) -> Scene:
    try:
        visible = read_visible(pair.visible)
        return pair.name, (visible,) if pair.lwir is None else (visible, read_lwir(pair.lwir, visible))
    except InputError as error:
        return pair.name, error


def _chunks(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while chunk := list(itertools.islice(items, size)):
        yield chunk


def _print_list(what: str, items: list) -> None:
    if items:
        print(f"{len(items)} {what}:")
        print("".join(f"  {item}\n" for item in items[:LISTED]), end="")
        if len(items) > LISTED:
            print(f"  and {len(items) - LISTED} more")
