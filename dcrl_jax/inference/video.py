"""Frames of a video, and a video of frames."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from dcrl_jax.errors import InputError


class VideoInfo(NamedTuple):
    """What a file says of itself; counts of frames are often estimates."""

    frames: int
    per_second: float


def video_info(path: Path) -> VideoInfo:
    """Read a video's header and first frame; raises InputError for a file without frames."""
    with _opened(path) as video:
        if not video.read()[0]:
            size = path.stat().st_size if path.is_file() else None
            raise InputError(
                f"{path}: " + ("no such file." if size is None else f"no frame can be read from its {size} bytes.")
            )
        frames, per_second = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
    return VideoInfo(max(1, int(frames)), per_second if 0 < per_second < 1000 else 20.0)


def read_frames(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video, uint8 [H, W, 3], RGB, up to the last that can be read."""
    with _opened(path) as video:
        while True:
            is_read, frame = video.read()
            if not is_read:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


@contextlib.contextmanager
def open_writer(path: Path, per_second: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Opens an MPEG-4 video for frames of one size, uint8 [H, W, 3], RGB; what was written is kept, whatever happens.

    The file and its folder are made with the first frame.

    Raises:
        InputError: it cannot be written, or the disk had no room for all of it; then it is removed.
        OSError: the folder cannot be made.
    """
    writer = None

    def write(frame):
        nonlocal writer
        if writer is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            height, width = frame.shape[:2]
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), per_second, (width, height))
            if not writer.isOpened():
                raise InputError(f"{path}: cannot be written as a video of {width}x{height} pixels.")
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    try:
        yield write
    finally:
        if writer is not None:
            writer.release()
            # The library says nothing of a full disk; what it lacks then is the index at the end of the file.
            with _opened(path) as written:
                is_whole = written.read()[0]
            if not is_whole:
                path.unlink(missing_ok=True)
                raise InputError(f"{path}: could not be written to its end, and is removed. Make room on its disk.")


@contextlib.contextmanager
def _opened(path):
    video = cv2.VideoCapture(str(path))
    try:
        yield video
    finally:
        video.release()
