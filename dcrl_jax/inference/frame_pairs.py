"""The frames of a visible and a thermal video, paired in time."""

import heapq
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

from dcrl_jax.errors import InputError
from dcrl_jax.inference.video import Frame, Video

Item = TypeVar("Item")


def pair_in_time(
    visible: Iterable[tuple[Fraction, Item]], lwir: Iterable[tuple[Fraction, Item]], tolerance: Fraction
) -> Iterator[tuple[Item, Item]]:
    """Pair the frames of two cameras one to one, the nearest in time first, in their order.

    Two frames can be a pair if they follow each other in the common order of time. In a run of frames of which each is
    nearer to the next than to the one before, the last two are a pair, then the two before them, and so on. At equal
    distances the earlier pair comes first. Memory holds one run, which is short.

    Args:
        visible: times in seconds, increasing, and frames.
        lwir: the same of the thermal camera, by the same clock.
        tolerance: the largest distance of a pair, in seconds.

    Yields:
        The visible and the thermal frame of a pair, in order of time.
    """
    run = []
    for frame in heapq.merge(_labelled(visible, 0), _labelled(lwir, 1), key=lambda frame: frame[0]):
        if run and not _continues(run, frame, tolerance):
            yield from _pairs_of(run)
            run = []
        run.append(frame)
    yield from _pairs_of(run)


def _labelled(frames, camera):
    for time, item in frames:
        yield time, camera, item


def _continues(run, frame, tolerance):
    time, camera, _ = run[-1]
    distance = frame[0] - time
    is_nearer = len(run) < 2 or distance < time - run[-2][0]
    return frame[1] != camera and distance <= tolerance and is_nearer


def _pairs_of(run):
    """Yield the pairs of a run: the first frame of an odd number has none."""
    for index in range(len(run) % 2, len(run), 2):
        (_, camera, first), (_, _, second) = run[index : index + 2]
        yield (first, second) if camera == 0 else (second, first)


def pair_tolerance(visible: Video, lwir: Video) -> Fraction:
    """Return the largest distance in time of the frames of a pair, in seconds.

    It is half the interval between frames of the faster camera: of two cameras that run all the time, every frame of
    the slower one has a frame of the faster one within that, and no frame further away is the nearest. Time stamps
    are rounded by up to half a tick each, which is added.
    """
    intervals = [video.interval for video in (visible, lwir) if video.interval]
    return (min(intervals, default=0) + visible.time_base + lwir.time_base) / 2


class FramePairs:
    """The pairs of frames of a visible and a thermal video, and what is to be said of them.

    The clocks of two files have nothing in common, so the time of a frame counts from the start of its video, and the
    offset is added to that of thermal frames.
    """

    def __init__(self, visible: Video, lwir: Video, lwir_offset_s: float):
        """Take the videos; ``lwir_offset_s`` is how many seconds later the thermal video started."""
        self._videos, self._offset_s = (visible, lwir), lwir_offset_s
        self._tolerance = pair_tolerance(visible, lwir)
        self._pairs, self._counts = 0, [0, 0]
        self._spans: list[tuple[Fraction, Fraction] | None] = [None, None]  # first and last time

    def __iter__(self) -> Iterator[tuple[Frame, Frame]]:
        """Yield the pairs; read both videos to their ends.

        Raises:
            InputError: no frame has a partner, or a video has no frame.
        """
        offsets = (Fraction(0), Fraction(str(self._offset_s)))
        timed = [self._timed(camera, offset) for camera, offset in enumerate(offsets)]
        for pair in pair_in_time(timed[0], timed[1], self._tolerance):
            self._pairs += 1
            yield pair
        if not self._pairs:
            (visible, lwir), (visible_span, lwir_span) = self._videos, map(_describe, self._spans)
            raise InputError(
                f"{visible.path} and {lwir.path}: no two frames are within {_ms(self._tolerance)} of each other. The "
                f"visible frames are at {visible_span}, the thermal ones at {lwir_span}, with "
                f"--lwir_offset_s={self._offset_s:g} added. Set it to the seconds by which the thermal video started "
                "later than the visible one."
            )

    def _timed(self, camera, offset):
        video = self._videos[camera]
        for frame in video.frames():
            time = frame.seconds - video.start + offset
            first, _ = self._spans[camera] or (time, time)
            self._spans[camera], self._counts[camera] = (first, time), self._counts[camera] + 1
            yield time, frame

    def summary(self) -> str:
        """Return the numbers of pairs and of frames without a partner, the rates and the offset, in a few lines."""
        lines = [
            f"{self._pairs} pairs of frames within {_ms(self._tolerance)} of each other, the thermal times shifted by "
            f"{self._offset_s:g} s:"
        ]
        for video, count, span in zip(self._videos, self._counts, self._spans, strict=True):
            duration = span[1] - span[0] if span else 0
            rate = f" at {float((count - 1) / duration):.4g} frames/s" if duration else ""
            lines.append(f"  {video.path}: {count} frames{rate}, {count - self._pairs} without a partner")
        return "\n".join(lines)


def _describe(span):
    return f"{float(span[0]):.3f} to {float(span[1]):.3f} s" if span else "no time"


def _ms(seconds):
    return f"{float(seconds) * 1000:.1f} ms"
