"""Detection in files, from images or a video to annotated copies and results files."""

import contextlib
import csv
import functools
import itertools
import os
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import PIL.Image

from dcrl_jax.decoding import is_grey
from dcrl_jax.errors import InputError, Preempted, first_few
from dcrl_jax.evaluation import results
from dcrl_jax.evaluation.miss_rate import ImageDetections
from dcrl_jax.files import atomic_path
from dcrl_jax.inference.detector import Detector, Images
from dcrl_jax.inference.draw import draw_people
from dcrl_jax.inference.frame_pairs import FramePairs
from dcrl_jax.inference.images import Page
from dcrl_jax.inference.output_folder import NotWritableError, new_folder, not_writable
from dcrl_jax.inference.scenes import SceneFiles, Scenes, find_scenes
from dcrl_jax.inference.video import Video, open_writer
from dcrl_jax.ops.boxes import xyxy_to_xywh
from dcrl_jax.pairs.input_files import File, is_video, one_line
from dcrl_jax.progress import progress_bar
from dcrl_jax.signals import defer_signals, recall_signals

JPEG_QUALITY = 92
JPEG_SIDE = 65_500  # pixels that a JPEG image may have on a side
LISTED = 20  # longest list of files in the summary
LONGEST_NAME = 230  # bytes; file systems take 255, and suffixes follow
DECODED = 8  # images read ahead, few since decoded images are large

WritePicture = Callable[[str, np.ndarray], None]


class Scene(NamedTuple):
    """An image or a pair, and its name in the results."""

    name: str
    images: Images | InputError  # of ``Detector.read``, or the reason why they cannot be used


def detect_files(
    checkpoint: str,
    source: str | None,
    output: str | Path,
    lwir_source: str | None = None,
    min_score: float = 0.5,
    lwir_offset_s: float = 0.0,
    lwir_to_visible: str | None = None,
    allow_missing: bool = False,
) -> bool:
    """Detect people in files, write the detections, and print a summary.

    Args:
        checkpoint: see ``Detector.from_checkpoint``.
        source: an image, a video, a folder, a pattern, or a CSV file that lists pairs; see ``find_scenes``. Of a folder
            or pattern, all images are processed and then all videos. None: only thermal files, with ``allow_missing``.
        output: a new or empty folder. It gets ``annotated/`` with the images and videos, ``results.txt`` (KAIST's
            text format), ``results.json`` (COCO's format), and ``images.txt``, the names of the processed images in
            the order of both results files; while images are processed, it names all of them. A name that is no UTF-8
            keeps its bytes there. A video's frames are named by their numbers, and ``frames.csv`` has the number and
            time of each. With ``allow_missing``, ``images.csv`` has the modalities of each image. The folder stays as
            it was if the run ends before the first image.
        lwir_source: the thermal files for a teacher. By default, ``source`` has files of both modalities.
        min_score: people with a lower score are neither drawn nor counted in the summary; the results files have all.
        lwir_offset_s: of two videos, the seconds by which the thermal one started later than the visible one: thermal
            time + offset = visible time, each from the start of its video. See ``FramePairs``.
        lwir_to_visible: see ``Detector``.
        allow_missing: for a teacher, whether a file without a partner is looked at by itself. Of two videos only pairs
            of frames are looked at.

    Returns:
        Whether every file that the source promises could be used, and every frame be read.

    Raises:
        InputError: the source has no image, pair or video, the video that it is cannot be used, or the output cannot be
            written to; the results so far are kept. An unusable file among others is only reported.
        KeyboardInterrupt, Preempted: a signal ended the run; the results so far are kept, and their number is printed.
    """
    output = new_folder(output)
    detector = Detector.from_checkpoint(checkpoint, lwir_to_visible=lwir_to_visible)
    if len(detector.modalities) == 1 and (lwir_source is not None or allow_missing):
        flag = "--allow_missing" if lwir_source is None else "--lwir"
        raise InputError(f"this detector is a {detector.config.role}, which sees RGB only: omit {flag}.")
    if allow_missing:
        detector.check_one_image("omit --allow_missing")
    run = _Run(detector, output, min_score, allow_missing)
    sources = [name for name in (source, lwir_source) if name is not None]
    if is_video(sources[0]):
        visible, lwir = (None if name is None else Path(name) for name in (source, lwir_source))
        run.detect_video(visible, lwir, lwir_offset_s)
    else:
        scenes = find_scenes(source, lwir_source, len(detector.modalities) > 1, allow_missing)
        if lwir_offset_s and not scenes.videos:
            raise InputError(f"--lwir_offset_s shifts a thermal video, but {source} is not a video.")
        run.detect_scenes(scenes, lwir_offset_s)
    run.print_problems()
    return not run.problems


class _Run:
    """A run over files: its detector, its output folder and its results so far."""

    def __init__(self, detector, output, min_score, allow_missing):
        self._detector, self._output, self._min_score = detector, output, min_score
        self._takes_lwir, self._allow_missing = len(detector.modalities) > 1, allow_missing
        self._given: dict[str, tuple[str, ...]] = {}  # of each image and frame: the modalities that were there
        self._detections: dict[str, ImageDetections] = {}
        self._kept = 0  # how many detections the results files have
        self._processed: set[str] = set()  # names, including those of unusable images
        # Number and time in seconds in the visible and the thermal video; None without that video.
        self._frames: dict[str, list[tuple[int, Fraction] | None]] = {}
        self._names: list[str] = []  # the processed names of images and videos that are complete
        self._clear_counts()
        self.problems: list[str] = []

    def _clear_counts(self):
        self._people = self._images_with_people = 0
        self._weights = []  # of pairs
        self._alone: Counter[str] = Counter()  # images without a partner, by modality
        self._grey: list[str] = []  # names of visible images with three equal channels

    def detect_scenes(self, scenes: Scenes, lwir_offset_s: float) -> None:
        """Detect in all images, and then in each video as if it were the source."""
        for note in scenes.notes:
            _print(note)
        for problem in scenes.problems:
            self._add_problem(problem)
        if scenes.images:
            self._detect_images(scenes.images)
        # The names of frames differ from those of images and of other videos.
        taken = Counter(video.files[0].path.stem for video in scenes.videos)
        taken.update(files.name.rpartition("_")[0] for files in scenes.images)
        for video in scenes.videos:
            try:
                for file in video.files:
                    _check(file)
                first = video.files[0]
                stem = first.path.stem
                name = stem if taken[stem] == 1 else first.name if taken[video.name] else video.name
                path, lwir_path = (file and file.path for file in (video.visible, video.lwir))
                self.detect_video(path, lwir_path, lwir_offset_s, name)
            except NotWritableError:
                raise
            except InputError as error:
                self._add_problem(str(error))
        hint = " (--allow_missing looks at them)" if self._detector.takes_one_image else ""
        title = f"without a counterpart in the other modality, left out{hint}"
        _print_list(title, list(map(str, scenes.unmatched)))

    def _detect_images(self, images: list[SceneFiles]) -> None:
        folder = self._output / "annotated"
        names = [files.name for files in images]
        picture_of = _picture_names(names)
        # A file of many images stays open until the last of them is read.
        open_stack = functools.lru_cache(2)(PIL.Image.open)
        read = functools.partial(_read_scene, self._detector, open_stack=open_stack)

        def write(name, picture):
            step = -(-max(picture.shape) // JPEG_SIDE)
            bgr = cv2.cvtColor(picture[::step, ::step], cv2.COLOR_RGB2BGR)
            encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
            with atomic_path(folder / picture_of[name]) as path:
                path.write_bytes(encoded)

        with ThreadPoolExecutor(4) as pool:

            def scenes():
                for chunk in _chunks(images, DECODED):
                    has_pages = any(files.page is not None for files in chunk)
                    yield from (map if has_pages else pool.map)(read, chunk)

            self._detect(scenes(), names, len(images), "image", contextlib.nullcontext(write))

    def detect_video(self, path: Path | None, lwir_path: Path | None, lwir_offset_s: float, name: str = "") -> None:
        """Detect in a video or a pair; ``name`` is that of its frames and annotated copy, by default its own."""
        paths = [path for path in (path, lwir_path) if path is not None]
        video_name = one_line(name or paths[0].stem)
        if self._takes_lwir and not self._allow_missing and lwir_path is None:
            raise InputError("this detector is a teacher, which takes pairs: give the thermal video with --lwir.")
        if len(paths) == 1 and lwir_offset_s:
            raise InputError("--lwir_offset_s shifts a thermal video: give one with --lwir.")
        if lwir_path is not None and lwir_path.exists() and not is_video(lwir_path):
            raise InputError(f"{lwir_path}: not a video, but {path} is one; give the thermal video with --lwir.")
        videos = [Video(path) for path in paths]
        pairs = FramePairs(videos[0], videos[1], lwir_offset_s) if len(videos) > 1 else None
        count = min((video.count_hint for video in videos if video.count_hint), default=None)
        names: list[str] = []

        def scenes():
            for frames in pairs or ((frame,) for frame in videos[0].frames()):
                name = f"{video_name}_{frames[0].number:06d}"
                names.append(name)
                pair = [None, *frames] if path is None else [*frames, None][:2]
                self._frames[name] = [frame and (frame.number, frame.seconds) for frame in pair]
                try:
                    images = self._detector.read(*(frame and frame.pixels for frame in pair))
                except InputError as error:  # ends the run: the other frames are of the same kind
                    raise InputError(f"{name}: {error}") from error
                yield Scene(name, images)

        @contextlib.contextmanager
        def writer():
            video = self._output / "annotated" / f"{video_name}.mp4"
            with open_writer(video, 1 / (videos[0].interval or Fraction(1)), videos[0].time_base) as write:
                yield lambda name, picture: write(picture, next(frame for frame in self._frames[name] if frame)[1])

        try:
            self._detect(scenes(), names, count, "frame", writer())
            if pairs:
                _print(pairs.summary())
        finally:
            for video in videos:
                for note in video.notes():
                    _print(f"warning: {note}")
                for problem in video.problems():
                    self._add_problem(problem)

    def _write_frames(self, path):
        """Write the name of each processed frame, and its number and time in each video."""
        columns = ("name", "frame", "seconds", "lwir_frame", "lwir_seconds")
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            columns = columns if self._takes_lwir else columns[:3]
            writer.writerow(columns)
            for name, frames in self._frames.items():
                if name in self._processed:
                    cells = ((frame[0], f"{float(frame[1]):.6f}") if frame else ("", "") for frame in frames)
                    writer.writerow([name, *itertools.chain.from_iterable(cells)][: len(columns)])

    def _write_modalities(self, path):
        """Write which images of each scene were looked at; none of a scene that could not be used."""
        with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("image", "modalities"))
            writer.writerows((name, "+".join(self._given.get(name, ()))) for name in self._names)

    def _detect(
        self,
        scenes: Iterable[Scene],
        names: Iterable[str],
        count: int | None,
        unit: str,
        writer: contextlib.AbstractContextManager[WritePicture],
    ) -> None:
        start, earlier = time.monotonic(), len(self._processed)
        detected_earlier = len(self._detections)
        self._clear_counts()
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
            done = len(self._processed) - earlier
            kept = f"{self._output} has the results so far" if self._processed else "nothing is written"
            of_all = f" of {count}" if unit == "image" else ""  # the number of frames is only estimated
            _print(f"stopped after {done}{of_all} {unit}s; {kept}")
            raise
        seconds = time.monotonic() - start
        done = len(self._detections) - detected_earlier
        _print(
            f"{done} {unit}s in {seconds:.1f} s ({done / seconds:.1f} {unit}s/s): {self._people} people with a score "
            f"of at least {self._min_score:g}, in {self._images_with_people} {unit}s; all results are in {self._output}"
        )
        if self._weights:
            means = np.mean(self._weights, axis=0)
            weights = zip(self._detector.modalities, means, strict=True)
            print(f"mean weights: {', '.join(f'{name} {mean:.2f}' for name, mean in weights)}")
        if self._alone:
            counts = ", ".join(f"{count} {modality} only" for modality, count in sorted(self._alone.items()))
            _print(f"looked at with one camera: {counts}; {self._output / 'images.csv'} names them")
        if self._grey:
            names = ", ".join(first_few(self._grey, 3))
            _print(
                f"warning: {len(self._grey)} {unit}s have three equal channels: {names}. They are probably thermal or "
                "grey images, but this detector expects colours."
            )

    def print_problems(self) -> None:
        """Print how many files could not be used and why, by reason."""
        _print_list("that could not be used, skipped", _by_reason(self.problems), len(self.problems))

    def _add_problem(self, problem, write=None):
        self.problems.append(problem)
        (write or print)(printable(f"warning: {problem}"))

    @contextlib.contextmanager
    def _save_results(self, names):
        """Create the output folder and write the names; write the results so far at the end, even if the block raises.

        Args:
            names: those of all scenes to come; of a video it is empty at first.
        """
        existed = self._output.exists()
        self._output.mkdir(parents=True, exist_ok=True)
        try:
            with atomic_path(self._output / "images.txt") as path:
                _write_names(path, [*self._names, *names])
            yield
        finally:
            with defer_signals():
                self._names += [name for name in names if name in self._processed]
                if self._names:
                    self._write_results()
                else:
                    (self._output / "images.txt").unlink(missing_ok=True)
                    if not existed:
                        self._output.rmdir()

    def _write_results(self):
        """Write the names and results so far; all files of an earlier state stay if one cannot be written."""
        with contextlib.ExitStack() as on_success:
            files = (
                "images.txt",
                "results.txt",
                "results.json",
                *["frames.csv"][: not self._processed.isdisjoint(self._frames)],
                *["images.csv"][: self._allow_missing],
            )
            paths = {file: on_success.enter_context(atomic_path(self._output / file)) for file in files}
            _write_names(paths["images.txt"], self._names)
            results.write_kaist_text(paths["results.txt"], self._detections, self._names)
            results.write_coco_json(paths["results.json"], self._detections, self._names)
            for file, write in (("frames.csv", self._write_frames), ("images.csv", self._write_modalities)):
                if file in paths:
                    write(paths[file])
        self._kept = len(self._detections)

    @contextlib.contextmanager
    def _explain_write_errors(self):
        try:
            yield
        except OSError as error:  # raised only by writing; reading raises InputError
            kept = ""
            if self._detections:
                kept = f" The results of {self._kept} of {len(self._detections)} images are kept."
            raise not_writable(self._output, error, kept) from error

    def _detect_chunk(self, chunk, count, bar, write):
        usable = [scene for scene in chunk if not isinstance(scene.images, InputError)]
        unusable = [scene for scene in chunk if isinstance(scene.images, InputError)]
        for scene in unusable:
            self._add_problem(str(scene.images), bar.write)
        # A single last image would compile a program of its own.
        batch = usable * 2 if len(usable) == 1 and count != 1 else usable
        detected = self._detector.detect([scene.images for scene in batch]) if batch else []
        self._processed.update(scene.name for scene in unusable)
        if not self._detector.image_rules.grey_visible:
            self._grey += [s.name for s in usable if s.images[0] is not None and is_grey(s.images[0])]
        for scene, people in zip(usable, detected, strict=False):
            count_above = int((people.scores >= self._min_score).sum())
            self._people += count_above
            self._images_with_people += count_above > 0
            if len(people.modalities) < len(self._detector.modalities):
                self._alone.update(people.modalities)
            elif people.modality_weights is not None:
                self._weights.append(list(people.modality_weights.values()))
            boxes = np.asarray(xyxy_to_xywh(people.boxes.astype(np.float64)))
            picture = draw_people([image for image in scene.images if image is not None], people, self._min_score)
            with defer_signals():  # an image has both its results and its picture, or neither
                self._detections[scene.name] = ImageDetections(boxes, people.scores.astype(np.float64))
                self._given[scene.name] = people.modalities
                self._processed.add(scene.name)
                write(scene.name, picture)


def _read_scene(detector: Detector, files: SceneFiles, open_stack: Callable[[Path], PIL.Image.Image]) -> Scene:
    try:
        pair = (file and _image(file, files.page, open_stack) for file in (files.visible, files.lwir))
        return Scene(files.name, detector.read(*pair))
    except InputError as error:
        return Scene(files.name, error)


def _image(file: File, page: int | None, open_stack) -> Path | Page:
    _check(file)
    if page is None:
        return file.path
    name = f"{file.path}#{page + 1:04d}"
    try:
        return Page(name, open_stack(file.path), file.pages[page])
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{name}: a page that cannot be read as an image.") from error


def _check(file: File | None) -> None:
    if file and file.problem:
        raise InputError(f"{file.path}: {file.problem}")


def _picture_names(names: list[str]) -> dict[str, str]:
    """Return a distinct file name for the annotated JPEG image of each name."""
    pictures, taken = {}, set()
    is_jpeg = {name: name.lower().endswith((".jpg", ".jpeg")) for name in names}
    for name in sorted(names, key=is_jpeg.__getitem__, reverse=True):
        folder, file = os.path.split(name)
        if len(os.fsencode(file)) > LONGEST_NAME:
            file = f"{os.fsdecode(os.fsencode(file)[:LONGEST_NAME])}~"
        picture = os.path.join(folder, file if is_jpeg[name] and file[-1] != "~" else f"{file}.jpg")
        while picture in taken:
            picture += ".jpg"
        pictures[name] = picture
        taken.add(picture)
    return pictures


def _by_reason(problems: list[str]) -> list[str]:
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


def _print(text: str) -> None:
    print(printable(text))


def _write_names(path: Path, names: list[str]) -> None:
    path.write_text("".join(f"{name}\n" for name in names), "utf-8", "surrogateescape", newline="\n")


def _chunks(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while chunk := list(itertools.islice(items, size)):
        yield chunk


def _print_list(title: str, items: list[str], count: int = 0) -> None:
    if items:
        lines = "".join(f"\n  {line}" for line in first_few(items, LISTED))
        _print(f"{count or len(items)} {title}:{lines}")
