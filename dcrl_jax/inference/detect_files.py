"""Detection in files, from images or a video to annotated copies and results files."""

import contextlib
import functools
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np

from dcrl_jax.decoding import is_grey, open_image
from dcrl_jax.errors import InputError, Preempted
from dcrl_jax.inference.detector import Detector
from dcrl_jax.inference.draw import draw_people
from dcrl_jax.inference.frame_pairs import FramePairs
from dcrl_jax.inference.output_folder import NotWritableError, new_folder
from dcrl_jax.inference.pictures import picture_names, write_picture
from dcrl_jax.inference.result_files import ResultFiles
from dcrl_jax.inference.run_summary import Counts, by_reason, print_list, print_text, printable
from dcrl_jax.inference.scene_images import Scene, check_file, read_scene
from dcrl_jax.inference.scenes import SceneFiles, Scenes, find_scenes, is_thermal_file
from dcrl_jax.inference.video import Video, open_writer
from dcrl_jax.pairs.input_files import is_video, one_line
from dcrl_jax.progress import progress_bar
from dcrl_jax.signals import defer_signals, recall_signals

DECODED = 8  # images read ahead, few since decoded images are large

WritePicture = Callable[[str, np.ndarray], None]


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
        if allow_missing and visible and lwir is None and is_thermal_file(visible):
            visible, lwir = None, visible
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
        self._results = ResultFiles(output, self._takes_lwir, allow_missing)
        self.problems: list[str] = []

    def detect_scenes(self, scenes: Scenes, lwir_offset_s: float) -> None:
        """Detect in all images, and then in each video as if it were the source."""
        for note in scenes.notes:
            print_text(note)
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
                    check_file(file)
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
        print_list(title, list(map(str, scenes.unmatched)))

    def _detect_images(self, images: list[SceneFiles]) -> None:
        folder = self._output / "annotated"
        names = [files.name for files in images]
        picture_of = picture_names(names)
        # A file of many images stays open until the last of them is read.
        open_stack = functools.lru_cache(2)(open_image)
        read = functools.partial(read_scene, self._detector, open_stack=open_stack)

        def write(name, picture):
            write_picture(folder / picture_of[name], picture)

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
            hint = " --allow_missing looks at one camera." if self._detector.takes_one_image else ""
            text = "this detector is a teacher, which takes pairs: give the thermal video with --lwir."
            raise InputError(text + hint)
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
                self._results.frames[name] = [frame and (frame.number, frame.seconds) for frame in pair]
                try:
                    images = self._detector.read(*(frame and frame.pixels for frame in pair))
                except InputError as error:  # ends the run: the other frames are of the same kind
                    raise InputError(f"{name}: {error}") from error
                yield Scene(name, images)

        @contextlib.contextmanager
        def writer():
            video = self._output / "annotated" / f"{video_name}.mp4"
            with open_writer(video, 1 / (videos[0].interval or Fraction(1)), videos[0].time_base) as write:
                yield lambda name, picture: write(
                    picture, next(frame for frame in self._results.frames[name] if frame)[1]
                )

        try:
            self._detect(scenes(), names, count, "frame", writer())
            if pairs:
                print_text(pairs.summary())
        finally:
            for video in videos:
                for note in video.notes():
                    print_text(f"warning: {note}")
                for problem in video.problems():
                    self._add_problem(problem)

    def _detect(
        self,
        scenes: Iterable[Scene],
        names: Iterable[str],
        count: int | None,
        unit: str,
        writer: contextlib.AbstractContextManager[WritePicture],
    ) -> None:
        start, earlier = time.monotonic(), len(self._results.processed)
        counts = Counts(self._detector.modalities, self._min_score)
        try:
            with (
                self._results.save(names),
                writer as write,
                recall_signals() as raise_lost_signal,
                progress_bar(None, "detecting", count, f"{unit}s") as bar,
            ):
                for chunk in _chunks(scenes, self._detector.batch_size):
                    self._detect_chunk(chunk, counts, count, bar, write)
                    bar.update(len(chunk))
                    raise_lost_signal()
        except (KeyboardInterrupt, Preempted):
            processed = len(self._results.processed)
            kept = f"{self._output} has the results so far" if processed else "nothing is written"
            of_all = f" of {count}" if unit == "image" else ""  # the number of frames is only estimated
            print_text(f"stopped after {processed - earlier}{of_all} {unit}s; {kept}")
            raise
        print_text(counts.summary(unit, time.monotonic() - start, self._output))

    def print_problems(self) -> None:
        """Print how many files could not be used and why, by reason."""
        print_list("that could not be used, skipped", by_reason(self.problems), len(self.problems))

    def _add_problem(self, problem, write=None):
        self.problems.append(problem)
        (write or print)(printable(f"warning: {problem}"))

    def _detect_chunk(self, chunk, counts, count, bar, write):
        usable = [scene for scene in chunk if not isinstance(scene.images, InputError)]
        unusable = [scene for scene in chunk if isinstance(scene.images, InputError)]
        for scene in unusable:
            self._add_problem(str(scene.images), bar.write)
        # A single last image would compile a program of its own.
        batch = usable * 2 if len(usable) == 1 and count != 1 else usable
        detected = self._detector.detect([scene.images for scene in batch]) if batch else []
        self._results.processed.update(scene.name for scene in unusable)
        for scene, people in zip(usable, detected, strict=False):
            images = [image for image in scene.images if image is not None]
            is_grey_visible = "visible" in people.modalities and is_grey(images[0])
            counts.add(scene.name, people, is_grey_visible and not self._detector.image_rules.grey_visible)
            picture = draw_people(images, people, self._min_score)
            with defer_signals():  # an image has both its results and its picture, or neither
                self._results.add(scene.name, people)
                write(scene.name, picture)


def _chunks(items: Iterable, size: int) -> Iterator[list]:
    items = iter(items)
    while chunk := list(itertools.islice(items, size)):
        yield chunk
