"""Reading and writing of videos frame by frame with PyAV, each frame with its presentation time."""

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dcrl_jax.errors import InputError
from dcrl_jax.inference.extras import import_extra

DEFAULT_RATE = Fraction(20)  # frames per second of a file that names no plausible rate


class VideoInfo(NamedTuple):
    """The facts that the header of a video states."""

    frames: int  # an estimate in many formats
    rate: Fraction  # mean frames per second
    time_base: Fraction  # seconds; every presentation time is a multiple of it


class Frame(NamedTuple):
    """One frame of a video."""

    pixels: np.ndarray  # [H, W, 3] uint8, RGB; of a grey video [H, W], uint8 or uint16
    time: Fraction  # presentation time in seconds


def video_info(path: Path) -> VideoInfo:
    """Return what the header of a video states, after checking that a frame can be read.

    Raises:
        InputError: there is no such file, no frame can be read from it, or PyAV is missing.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    if next(read_frames(path), None) is None:
        raise _no_frame(path)
    with _open(path) as container:
        stream = container.streams.video[0]
        rate, time_base = _rate(stream), stream.time_base
        # A container's duration is in microseconds.
        seconds = stream.duration * time_base if stream.duration else Fraction(container.duration or 0, 1_000_000)
        return VideoInfo(stream.frames or max(1, round(seconds * rate)), rate, time_base)


def read_frames(path: Path) -> Iterator[Frame]:
    """Yield the frames of a video, turned upright, up to the last one that can be read.

    Raises:
        InputError: the file is not a video, or PyAV is missing.
    """
    with _open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for number, frame in enumerate(_decode(container, stream)):
            time = number / _rate(stream) if frame.pts is None else frame.pts * frame.time_base
            # Both the angle and rot90 turn counterclockwise.
            yield Frame(np.rot90(_pixels(frame), frame.rotation // 90), time)


@contextlib.contextmanager
def open_writer(path: Path, rate: Fraction, time_base: Fraction) -> Iterator[Callable[[np.ndarray, Fraction], None]]:
    """Yield a function that appends a frame, uint8 [H, W, 3] RGB, and its presentation time to an MP4 file.

    The codec is H.264 with 4:2:0 chroma, which every browser plays. It needs even sizes: an odd one grows by a copy of
    the last row or column. The first frame creates the file and its folder. If the block raises, the frames so far
    are kept. A time that does not increase becomes the next multiple of ``time_base``.

    Raises:
        OSError: the file cannot be written completely; it is deleted.
    """
    av = import_extra("av", "video")
    with contextlib.ExitStack() as on_exit:
        container: Any = None
        stream: Any = None
        last = None

        def write(pixels, time):
            nonlocal container, stream, last
            height, width = pixels.shape[:2]
            if container is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                container = on_exit.enter_context(_delete_if_not_written(path))
                # The start of the video is a multiple of the movie timescale.
                options = {"movie_timescale": str(time_base.denominator)}
                container = on_exit.enter_context(av.open(path, "w", options=options))
                stream = container.add_stream("libx264", rate=rate, pix_fmt="yuv420p")
                stream.width, stream.height = width + width % 2, height + height % 2
                stream.codec_context.time_base = time_base
                on_exit.callback(lambda: container.mux(stream.encode(None)))
            even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            ticks = round(time / time_base)
            last = ticks if last is None else max(ticks, last + 1)
            frame.time_base, frame.pts = time_base, last
            container.mux(stream.encode(frame))

        yield write


@contextlib.contextmanager
def _delete_if_not_written(path):
    try:
        yield
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _open(path) -> Any:
    av = import_extra("av", "video")
    try:
        container = av.open(path)
    except (av.error.FFmpegError, OSError) as error:
        raise _no_frame(path) from error
    if not container.streams.video:
        container.close()
        raise _no_frame(path)
    return container


def _decode(container, stream):
    """Yield the decoded frames; skip damaged packets, and stop where the file is cut off."""
    error = import_extra("av", "video").error.FFmpegError
    with contextlib.suppress(error):
        for packet in container.demux(stream):
            with contextlib.suppress(error):
                yield from packet.decode()


def _no_frame(path):
    return InputError(f"{path}: no frame can be read from its {path.stat().st_size} bytes.")


def _rate(stream):
    rate = stream.average_rate
    return rate if rate and rate < 1000 else DEFAULT_RATE


def _pixels(frame):
    if not frame.format.name.startswith("gray"):
        return frame.to_ndarray(format="rgb24")
    # Keep grey values as they are: the caller refuses more than eight bits.
    return frame.to_ndarray(format="gray" if frame.format.components[0].bits == 8 else "gray16le")
