"""Everything about a copy of Caltech that is looked at before anything is written: videos, annotations, counts."""

import functools
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from PIL import Image

from datasets import copies
from datasets.copies import IMAGE_MISSING, IMAGE_UNREADABLE, CheckedCopy, Copy
from dcrl_jax.annotations.caltech import folders, frames, seq, truths
from dcrl_jax.annotations.caltech.folders import Files
from dcrl_jax.annotations.caltech.seq import SeqFile
from dcrl_jax.annotations.types import MISSING, UNREADABLE, Annotation, Finding, checksum
from dcrl_jax.errors import InputError
from dcrl_jax.progress import progress_bar

VIDEO_MISSING = "video missing"
VIDEO_UNREADABLE = "video unreadable"
VIDEO_CUT_OFF = "video cut off"
UNUSED = "file that is not used"
NOT_SCORED = "label that the benchmark leaves out"

# What leaves images out of their split, and is an error where they are test images.
_LEAVES_OUT = (VIDEO_MISSING, VIDEO_UNREADABLE, IMAGE_MISSING, IMAGE_UNREADABLE, MISSING, UNREADABLE)
LABELS = ("person", "people", "person?", "ignore")


class Frame(NamedTuple):
    """Where one image lies, and its annotations."""

    image_id: str
    video: SeqFile
    number: int  # within the video, from 0
    objects: list[Annotation]


class _CheckedVideo(NamedTuple):
    asked: int  # images of the split; of a training video that cannot be read nobody knows how many
    frames: list[Frame]
    findings: list[Finding]


def check_copy(copy: Copy, config: Any, allow_incomplete: bool) -> CheckedCopy:
    """Looks at every file that a config asks for; prints what it finds.

    Args:
        copy: what was fetched; everything amiss is listed in its file of findings.
        config: a CaltechConfig.
        allow_incomplete: whether missing test images are a warning instead of an error.

    Raises:
        InputError: test images or their annotations are missing or unreadable and that is not allowed; two files are of
            the same video or frame; or nothing of a split is usable. Without any training video there is no training
            split.
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
        print(copies.SCORED_ALONE, flush=True)
    for split in splits:
        skip = frames.TEST_SKIP if split == "test" else config.train_skip
        videos = frames.VIDEOS[split]
        check = functools.partial(_check_video, split=split, skip=skip, files=files, annotations=config.annotations)
        with ThreadPoolExecutor() as threads:
            checked = threads.map(check, videos)
            found = list(progress_bar(checked, f"checking {split}", len(videos), "videos"))
        kept[split] = [frame for one in found for frame in one.frames]
        findings += [finding for one in found for finding in one.findings]
        asked = sum(one.asked for one in found)
        warnings += _warnings(split, asked - len(kept[split]), asked, found)
        read_from[split] = _describe(config.annotations, files, kept[split])
        print(f"{split} annotations: {read_from[split]}", flush=True)
        rows += _count(split, asked, kept[split])
    table = copies.count_table(["", "images"], rows)
    checked = CheckedCopy(kept, {"annotations": read_from, "table": table, "warnings": warnings})
    return copies.conclude(checked, findings, copy.findings, "test", _LEAVES_OUT, allow_incomplete)


def _check_video(video, split, skip, files, annotations):
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
    objects_of, notes = truths.read_video(video, numbers, files, annotations)
    findings = [Finding(one.kind, f"{split}: {one.text}") for one in notes]
    if content.problem:
        findings.append(Finding(VIDEO_CUT_OFF, f"{split}: {path}: {content.problem}"))
    kept = []
    for number in numbers:
        image_id = frames.image_id(video, number)
        if number >= length:
            findings.append(Finding(IMAGE_MISSING, f"{split}: {image_id}: {path} has {length:,} frames"))
        elif problem := _problem_of(content, number):
            findings.append(Finding(IMAGE_UNREADABLE, f"{split}: {image_id}: {problem}"))
        elif number in objects_of:
            place = f"{split}: {image_id}"
            objects, notes = copies.inside(objects_of[number], frames.WIDTH_PX, frames.HEIGHT_PX, place)
            strange = [one.label for one in objects if one.label not in LABELS]
            findings += notes + [Finding(NOT_SCORED, f"{place}: {label[:40]!r}") for label in strange]
            kept.append(Frame(image_id, content, number, objects))
    return _CheckedVideo(len(numbers), kept, findings)


def _problem_of(video, number):
    try:
        with Image.open(io.BytesIO(seq.read_frame(video, number))) as image:
            size = image.size
    except InputError as error:
        return str(error)
    except Exception:  # Pillow's parsers raise whatever they stumble upon
        return f"{video.path}: frame {number} cannot be decoded"
    if size != (frames.WIDTH_PX, frames.HEIGHT_PX):
        expected = f"{frames.WIDTH_PX}x{frames.HEIGHT_PX}"
        return f"{video.path}: frame {number} has {size[0]}x{size[1]} pixels; expected {expected}"
    return None


def _describe(annotations: str, files: Files, kept: Sequence[Frame]) -> str:
    if annotations == "original":
        return f"original, .vbb, {len(kept):,} images"
    # Two versions of the new ones are about: whoever has the same number has the same boxes.
    number = checksum([frame.objects for frame in kept])
    folder = " and ".join(files.text_folders) or "no folder"
    return f"new, bbGt text in {folder}, {len(kept):,} images, checksum of the boxes {number:08x}"


def _warnings(split, left_out, asked, found):
    videos = sum(one.kind in (VIDEO_MISSING, VIDEO_UNREADABLE) for video in found for one in video.findings)
    if split == "test" and left_out:
        return [
            f"incomplete test split: {left_out:,} of {asked:,} images are left out; scores on it are not comparable "
            "with others, and results files count the images that are there"
        ]
    # How many images a training video has that is not there, nobody knows.
    if split == "train" and (videos or left_out):
        return [
            f"incomplete training split: {videos} of {len(found)} videos are left out, and {left_out:,} images of the "
            "others"
        ]
    return []


def _count(split: str, asked: int, kept: Sequence[Frame]) -> list[list[object]]:
    people = [sum(one.label == "person" and not one.ignore for one in frame.objects) for frame in kept]
    known = sum(one.ignore or one.label in LABELS for frame in kept for one in frame.objects)
    return [
        [f"{split}: images asked for", asked],
        [f"{split}: images", len(kept)],
        [f"{split}: images without a person", people.count(0)],
        [f"{split}: people", sum(people)],
        [f"{split}: ignore regions", known - sum(people)],
    ]
