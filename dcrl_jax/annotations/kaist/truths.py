"""The annotations of a list of frames, and their comparison with the improved annotations."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from dcrl_jax.annotations.kaist import formats, frames
from dcrl_jax.annotations.labels import KAIST_IGNORE, PERSON
from dcrl_jax.annotations.text import read_text
from dcrl_jax.annotations.types import MISSING, UNREADABLE, Annotation, Finding, checksum
from dcrl_jax.errors import InputError

ROWS_DIFFER = "paired annotations of different length"

# The improved test annotations, as the ``checksum`` of each video's test frames. A folder with the same checksums has
# the same boxes, whatever its name.
IMPROVED_TEST = {
    "set06/V000": 0x24D7A067,
    "set06/V001": 0x8F76EA4A,
    "set06/V002": 0x000F2AE0,
    "set06/V003": 0x53E6A6FA,
    "set06/V004": 0xB9DCFFDD,
    "set07/V000": 0xA67FCB27,
    "set07/V001": 0x56EA5130,
    "set07/V002": 0x162A47C6,
    "set08/V000": 0xF5E20983,
    "set08/V001": 0x15607171,
    "set08/V002": 0x1A1BF37E,
    "set09/V000": 0xFBCB637C,
    "set10/V000": 0x9A5B9FF0,
    "set10/V001": 0x5402E4DA,
    "set11/V000": 0xA661F829,
    "set11/V001": 0xF2525D84,
}
# The same of the people alone: the boxes that are neither ignored nor labelled as something to ignore.
IMPROVED_PEOPLE = {
    "set06/V000": 0xC3A1FAF6,
    "set06/V001": 0xC4D46338,
    "set06/V002": 0xCD164F2F,
    "set06/V003": 0xE680CE3D,
    "set06/V004": 0x0C1E5AFE,
    "set07/V000": 0xAEB5BA35,
    "set07/V001": 0x7B375964,
    "set07/V002": 0x87C292FE,
    "set08/V000": 0x829FDE01,
    "set08/V001": 0x47FB80F3,
    "set08/V002": 0x9B523225,
    "set09/V000": 0x80DE659F,
    "set10/V000": 0x7F0D2A9C,
    "set10/V001": 0xF90AA480,
    "set11/V000": 0x37AC6BA0,
    "set11/V001": 0x7E366F3B,
}


class Truths(NamedTuple):
    """The annotations that one annotation set has of a list of frames."""

    by_id: dict[str, list[Annotation]]  # only frames that could be read
    findings: list[Finding]
    formats: frozenset[str]  # ``Parsed.format`` of all files with objects


def read_truths(files: Mapping[str, Path], image_ids: Iterable[str], keep_rows: bool = False) -> Truths:
    """Read the annotation files of a list of frames, in threads.

    Args:
        files: the annotation files by image id.
        image_ids: the frames to read.
        keep_rows: as for ``formats.parse``.

    Returns:
        The annotations. A frame whose file is missing or malformed appears only in the findings.
    """
    image_ids = list(image_ids)

    def read(image_id):
        path = files.get(image_id)
        if path is None:
            return None, [Finding(MISSING, image_id)]
        try:
            text = read_text(path)
        except InputError as error:
            return None, [Finding(UNREADABLE, str(error))]
        try:
            parsed = formats.parse(text, str(path), keep_rows)
        except InputError as error:
            return None, [Finding(UNREADABLE, f"{path}: {error}")]
        return parsed, parsed.findings

    with ThreadPoolExecutor() as threads:
        read_files = list(threads.map(read, image_ids))
    by_id = {
        image_id: parsed.annotations
        for image_id, (parsed, _) in zip(image_ids, read_files, strict=True)
        if parsed is not None
    }
    kinds = frozenset(parsed.format for parsed, _ in read_files if parsed is not None and parsed.annotations)
    return Truths(by_id, [finding for _, findings in read_files for finding in findings], kinds)


def improved_videos(by_id: Mapping[str, Sequence[Annotation]]) -> tuple[int, int]:
    """Return the numbers of test videos whose boxes equal the improved annotations, and of complete test videos.

    A video is complete if ``by_id`` has all of its test frames.
    """
    videos = _complete_videos(by_id)
    return sum(checksum(images) == IMPROVED_TEST[video] for video, images in videos.items()), len(videos)


def improved_roles(by_id: Mapping[str, Sequence[Annotation]]) -> int:
    """Return the number of complete test videos that equal the improved annotations in boxes, labels and flags.

    Copies write labels and flags differently, as COCO files turn ``people`` into ignored persons. They are equal if the
    same boxes are people and all others are regions to ignore.
    """
    equal = 0
    for video, images in _complete_videos(by_id).items():
        has_other_labels = any(one.label not in (PERSON, *KAIST_IGNORE) for image in images for one in image)
        people = [[one for one in image if one.label == PERSON and not one.ignore] for image in images]
        checksums = (checksum(images), checksum(people))
        equal += not has_other_labels and checksums == (IMPROVED_TEST[video], IMPROVED_PEOPLE[video])
    return equal


def _complete_videos(by_id: Mapping[str, Sequence[Annotation]]) -> dict[str, list[Sequence[Annotation]]]:
    by_video = defaultdict(list)
    for image_id in frames.split_frames("test"):
        by_video[frames.video_of(image_id)].append(by_id.get(image_id))
    return {video: images for video, images in by_video.items() if None not in images}
