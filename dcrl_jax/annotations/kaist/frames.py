"""KAIST's frames: 41 videos in 12 sets, the frames that are training and test images, and day and night.

An image id is ``set06/V000/I00019``: set, video and frame. Sorted ids have the order of the published image lists.
"""

import os
import re

from dcrl_jax.annotations.modality_words import MODALITY_OF
from dcrl_jax.annotations.text import numbered_lines, read_text
from dcrl_jax.errors import InputError

WIDTH_PX, HEIGHT_PX = 640, 512

SPLITS = ("train", "test")
_FIRST_TEST_SET = "set06"
_NIGHT_SETS = ("set03", "set04", "set05", "set09", "set10", "set11")

# Training takes every second frame, the test every twentieth, as in the lists train-all-02 and test-all-20.
STRIDES = {"train": 2, "test": 20}

# Frames of each video, numbered from 0 (counted in the annotations of all 95,324 frames).
VIDEO_LENGTHS = {
    f"set{number:02d}/V{video:03d}": length
    for number, lengths in enumerate(
        [
            (2245, 2799, 2510, 1634, 2080, 1534, 1097, 1599, 2000),
            (2254, 1159, 1405, 1265, 1651, 301),
            (1902, 1861, 1400, 1000, 1703),
            (4400, 2268),
            (3997, 3200),
            (2920,),
            (1523, 2691, 1688, 4285, 2800),
            (2544, 4000, 1597),
            (2578, 2972, 2500),
            (3500,),
            (4708, 4194),
            (2020, 1540),
        ]
    )
    for video, length in enumerate(lengths)
}

# The words by which the names of folders and files of KAIST's copies tell the modality.
MODALITY_WORDS = {**MODALITY_OF, "color": "visible"}
_ANY_MODALITY = "|".join(MODALITY_WORDS)
_NAME = re.compile(r"(?:.*[/\\])?(set\d\d)[/_\\](V\d{3})[/_\\](I\d{5})(?:\.\w+)?", re.ASCII)
_SPELLING = re.compile(
    rf"(?:.*[/\\])?(set\d\d)[/_\\-](V\d{{3}})[/_\\-](?:(?:{_ANY_MODALITY})[/_\\-])?(I\d{{5}})"
    rf"(?:[_-](?:{_ANY_MODALITY}))?(?:\.\w+)*",
    re.ASCII | re.IGNORECASE,
)


def condition(image_id: str) -> str:
    """Return the condition of an image: ``day`` or ``night``."""
    return "night" if image_id.startswith(_NIGHT_SETS) else "day"


def split_of(image_id: str) -> str:
    """Return the split of a frame's set, ``train`` (sets 0 to 5) or ``test`` (6 to 11)."""
    return "train" if image_id < _FIRST_TEST_SET else "test"


def video_of(image_id: str) -> str:
    """Return the video of an image, such as ``set06/V000``."""
    return image_id.rpartition("/")[0]


def is_known(image_id: str) -> bool:
    """Return whether the data set has the frame of this image id."""
    video, _, frame = image_id.rpartition("/")
    return int(frame[1:]) < VIDEO_LENGTHS.get(video, 0)


def split_frames(split: str, stride: int | None = None) -> list[str]:
    """Return the image ids of a split by rule: in every video, the last of every ``stride`` frames.

    Args:
        split: ``train`` or ``test``.
        stride: frames from one image to the next, at least 1; None for the benchmark's, 2 (25,086 training images) and
            20 (2,252 test images).
    """
    stride = STRIDES[split] if stride is None else stride
    return [
        f"{video}/I{number:05d}"
        for video, length in VIDEO_LENGTHS.items()
        if split_of(video) == split
        for number in range(stride - 1, length, stride)
    ]


def parse_name(name: str) -> str | None:
    """Return the image id of a frame named as in lists and annotation files; None if it is no frame of KAIST.

    Set, video and frame are joined by ``/`` or ``_``. Parent folders and a suffix are allowed.
    """
    match = _NAME.fullmatch(name)
    image_id = "/".join(match.groups()) if match else ""
    return image_id if match and is_known(image_id) else None


def spelled_frame(name: str) -> str | None:
    """Return the image id that a name spells, whether or not KAIST has this frame; None if it spells none.

    This accepts more than ``parse_name``, as names of images, results and detections have more spellings: capitals or
    small letters, a word or folder of the modality, and several suffixes, such as ``set06/V000/lwir/I00019.jpg`` and
    ``det/set06_V000_I00019_visible.png.txt``.
    """
    match = _SPELLING.fullmatch(name.strip())
    if match is None:
        return None
    folder, video, frame = match.groups()
    return f"{folder.lower()}/{video.upper()}/{frame.upper()}"


def read_list(path: str | os.PathLike[str]) -> list[str]:
    """Read an image list, one frame per line in the form of ``parse_name``, and return the sorted image ids.

    Raises:
        InputError: the file cannot be read, a line is no frame of KAIST, a frame is listed twice, or the list is empty.
    """
    ids: dict[str, int] = {}
    for number, line in numbered_lines(read_text(path)):
        name = line.strip()
        image_id = parse_name(name)
        if image_id is None:
            raise InputError(
                f"{path}:{number}: {name[:80]!r} is no frame of KAIST; expected one like set06/V000/I00019"
            )
        if image_id in ids:
            raise InputError(f"{path}:{number}: {image_id} is listed a second time, first on line {ids[image_id]}")
        ids[image_id] = number
    if not ids:
        raise InputError(f"{path}: lists no frames; expected lines like set06/V000/I00019")
    return sorted(ids)
