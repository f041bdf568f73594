"""Small videos for tests."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


def write_video(path, frames, rate=10, codec="libx264", pix_fmt="yuv420p", times=None, options=None):
    """Write frames, [H, W, 3] RGB or [H, W] in ``pix_fmt``; ``times`` are multiples of 1/90000 s."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate, pix_fmt=pix_fmt, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        time_base = Fraction(1, 90000) if times else 1 / Fraction(rate)
        stream.codec_context.time_base = time_base
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24" if pixels.ndim == 3 else pix_fmt)
            frame.time_base, frame.pts = time_base, round(times[index] / time_base) if times else index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def shared_video(name):
    """Return the path of a video of the shared cases; skip the test if it is missing."""
    path = Path(__file__).parents[2] / "shared" / "cases" / "videos" / name
    if not path.is_file():
        pytest.skip(f"needs {path}")
    return path


def noise(count, height=40, width=60):
    rng = np.random.default_rng(0)
    return list(rng.integers(0, 256, (count, height, width, 3), np.uint8))
