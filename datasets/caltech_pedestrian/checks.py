"""Check of a user's copy of Caltech: videos, annotations and counts."""

import functools
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from datasets import checks
from datasets.checks import IMAGE_MISSING, IMAGE_UNREADABLE
from datasets.fetched import CheckedCopy, Copy
from dcrl_jax.annotations.caltech import folders, frames, seq, truths
from dcrl_jax.annotations.caltech.folders import Files
from dcrl_jax.annotations.caltech.seq import SeqFile
from dcrl_jax.annotations.labels import CALTECH_IGNORE, PERSON
from dcrl_jax.annotations.types import MISSING, UNREADABLE, Annotation, Finding, checksum
from dcrl_jax.decoding import open_image
from dcrl_jax.errors import InputError
from dcrl_jax.progress import progress_bar
from dcrl_jax.tables import format_table

VIDEO_MISSING = "video missing"
VIDEO_UNREADABLE = "video unreadable"
VIDEO_CUT_OFF = "video cut off"
UNUSED = "file that is not used"
NOT_SCORED = "label that the benchmark leaves out"

# Findings that leave images out of their split, and are errors for test images.
_LEAVES_OUT = (VIDEO_MISSING, VIDEO_UNREADABLE, IMAGE_MISSING, IMAGE_UNREADABLE, MISSING, UNREADABLE)
_LABELS = (PERSON, *CALTECH_IGNORE)


class Frame(NamedTuple):
    """One frame of a video, and its annotations."""

    image_id: str
    video: SeqFile
    number: int  # within the video, counted from 0
    objects: list[Annotation]


class _CheckedVideo(NamedTuple):
    expected: int  # images of the split; 0 for a missing or unreadable training video, whose length is unknown
    frames: list[Frame]
    findings: list[Finding]


def check_copy(copy: Copy, config: Any, allow_incomplete: bool) -> CheckedCopy:
    """Check every file that a config needs, print the result, and return the usable part of the copy.

    A copy without any training video has no training split.

    Args:
        copy: the user's copy; its file of findings gets the list of all problems.
        config: a CaltechConfig.
        allow_incomplete: whether missing test images are a warning instead of an error.

    Raises:
        InputError: test images or their annotations are missing or unreadable and that is not allowed; two files
            belong to the same video or frame; or a split has no usable image.
    """
    root = copy.root
    print(f"Caltech in {root}: looking for files", flush=True)
    files = folders.index(root)
    print(f"{len(files.seq):,} videos, {len(files.vbb):,} .vbb files, {len(files.texts):,} texts", flush=True)
    if not files.seq:
        raise InputError(
            f"{root}: no video of Caltech found. Expected files like set00/V000.seq anywhere below it; unpack the "
            "archives within the archive, too."
        )
    findings = [Finding(UNUSED, text) for text in files.unused]
    kept, rows, read_from, warnings = {}, [], {}, []
    splits = frames.SPLITS if files.seq.keys() & set(frames.VIDEOS["train"]) else ("test",)
    if "train" not in splits:
        print(checks.NO_TRAINING_IMAGE, flush=True)
    for split in splits:
        skip = frames.TEST_SKIP if split == "test" else config.train_skip
        names = frames.VIDEOS[split]
        check = functools.partial(_check_video, split=split, skip=skip, files=files, annotations=config.annotations)
        with ThreadPoolExecutor() as threads:
            checked = threads.map(check, names)
            videos = list(progress_bar(checked, f"checking {split}", len(names), "videos"))
        kept[split] = [frame for video in videos for frame in video.frames]
        findings += [finding for video in videos for finding in video.findings]
        expected = sum(video.expected for video in videos)
        warnings += _warnings(split, expected - len(kept[split]), expected, videos)
        read_from[split] = _describe(config.annotations, files, kept[split])
        print(f"{split} annotations: {read_from[split]}", flush=True)
        rows += _count(split, expected, kept[split])
    table = format_table(rows, ["", "images"])
    checked = CheckedCopy(kept, {"annotations": read_from, "table": table, "warnings": warnings})
    return checks.finish_check(checked, findings, copy.findings, "test", _LEAVES_OUT, allow_incomplete)


def _check_video(video: str, split: str, skip: int, files: Files, annotations: str) -> _CheckedVideo:
    expected = frames.TEST_IMAGES.get(video, 0)
    path = files.seq.get(video)
    if path is None:
        return _CheckedVideo(expected, [], [Finding(VIDEO_MISSING, f"{split}: {video}")])
    try:
        content = seq.index(path)
    except InputError as error:
        return _CheckedVideo(expected, [], [Finding(VIDEO_UNREADABLE, f"{split}: {error}")])
    length = len(content.offsets)
    numbers = frames.numbers(expected * skip if split == "test" else length, skip)
    by_number, annotation_findings = truths.read_video(video, numbers, files, annotations)
    findings = [Finding(kind, f"{split}: {text}") for kind, text in annotation_findings]
    if content.problem:
        findings.append(Finding(VIDEO_CUT_OFF, f"{split}: {path}: {content.problem}"))
    kept = []
    for number in numbers:
        image_id = frames.image_id(video, number)
        if number >= length:
            findings.append(Finding(IMAGE_MISSING, f"{split}: {image_id}: {path} has {length:,} frames"))
        elif problem := _frame_problem(content, number):
            findings.append(Finding(IMAGE_UNREADABLE, f"{split}: {image_id}: {problem}"))
        elif number in by_number:
            place = f"{split}: {image_id}"
            objects, box_findings = checks.usable_objects(by_number[number], frames.WIDTH_PX, frames.HEIGHT_PX, place)
            other_labels = [annotation.label for annotation in objects if annotation.label not in _LABELS]
            findings += box_findings + [Finding(NOT_SCORED, f"{place}: {label[:40]!r}") for label in other_labels]
            kept.append(Frame(image_id, content, number, objects))
    return _CheckedVideo(len(numbers), kept, findings)


def _frame_problem(video: SeqFile, number: int) -> str | None:
    """Return the problem of a frame's JPEG, or None; decode only its header."""
    try:
        content = io.BytesIO(seq.read_frame(video, number))
        with open_image(content, f"{video.path}: frame {number}") as image:
            size = image.size
    except InputError as error:
        return str(error)
    except Exception:  # Pillow's parsers raise all kinds of exceptions
        return f"{video.path}: frame {number} cannot be decoded"
    if size != (frames.WIDTH_PX, frames.HEIGHT_PX):
        expected = f"{frames.WIDTH_PX}x{frames.HEIGHT_PX}"
        return f"{video.path}: frame {number} has {size[0]}x{size[1]} pixels; expected {expected}"
    return None


def _describe(annotations: str, files: Files, kept: Sequence[Frame]) -> str:
    if annotations == "original":
        return f"original, .vbb, {len(kept):,} images"
    # Two versions of the new annotations circulate. Equal checksums mean equal boxes.
    crc = checksum([frame.objects for frame in kept])
    folder = " and ".join(files.text_folders) or "no folder"
    return f"new, bbGt text in {folder}, {len(kept):,} images, checksum of the boxes {crc:08x}"


def _warnings(split: str, left_out: int, expected: int, videos: Sequence[_CheckedVideo]) -> list[str]:
    if split == "test":
        return checks.incomplete_warning(split, left_out, expected, checks.INDEX_OF_KEPT)
    # The number of images in a missing training video is unknown.
    missing = sum(kind in (VIDEO_MISSING, VIDEO_UNREADABLE) for video in videos for kind, _ in video.findings)
    if not missing and not left_out:
        return []
    return [
        f"incomplete train split: {missing} of {len(videos)} videos are left out, and {left_out:,} images of the others"
    ]


def _count(split: str, expected: int, kept: Sequence[Frame]) -> list[list[object]]:
    """Return the rows of the table: a name and a count."""
    people = [checks.count_people(frame.objects) for frame in kept]
    annotations = [annotation for frame in kept for annotation in frame.objects]
    known = sum(annotation.ignore or annotation.label in _LABELS for annotation in annotations)
    return [
        [f"{split}: images asked for", expected],
        [f"{split}: images", len(kept)],
        [f"{split}: images without a person", people.count(0)],
        [f"{split}: people", sum(people)],
        [f"{split}: ignore regions", known - sum(people)],
    ]
