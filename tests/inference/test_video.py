"""Videos are read as OpenCV reads them, with exact times, and written so that browsers play them."""

import struct
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from video_files import noise, write_video

from dcrl_jax.errors import InputError
from dcrl_jax.inference.video import open_writer, read_frames, video_info

TENTH = Fraction(1, 10)


def opencv_frames(path):
    video, frames = cv2.VideoCapture(str(path)), []
    while (result := video.read())[0]:
        frames.append(result[1][..., ::-1])
    return frames


def times_of(path):
    return [frame.time for frame in read_frames(path)]


def copy_frames(path, frames, times=None, rate=1 / TENTH, time_base=TENTH):
    with open_writer(path, rate, time_base) as write:
        for index, frame in enumerate(frames):
            write(frame, times[index] if times else index * TENTH)


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"),
    [
        ("avi", "mpeg4", Fraction(25)),
        ("mkv", "libx264", Fraction(30000, 1001)),
        ("mov", "libx264", Fraction(25)),
        ("mp4", "libx264", Fraction(30000, 1001)),
        ("ts", "libx264", Fraction(30000, 1001)),
        ("webm", "vp8", Fraction(25)),
    ],
)
def test_frames_are_those_of_opencv_and_a_copy_has_their_times(tmp_path, suffix, codec, rate):
    path, copy = tmp_path / f"a.{suffix}", tmp_path / "new/b.mp4"
    write_video(path, noise(12), rate, codec)
    info, frames = video_info(path), [frame.pixels for frame in read_frames(path)]
    np.testing.assert_array_equal(frames, opencv_frames(path))
    assert info.frames == len(frames) == 12
    assert info.rate == pytest.approx(float(rate), rel=0.001)
    times = times_of(path)
    tolerance = Fraction(1, 1000) if suffix in ("mkv", "webm") else 0
    assert all(abs(time - times[0] - index / rate) <= tolerance for index, time in enumerate(times))
    copy_frames(copy, frames, times, info.rate, info.time_base)
    assert times_of(copy) == times


def test_times_are_kept_if_they_increase_and_follow_the_rate_if_missing(tmp_path):
    uneven = [Fraction(7, 5) + Fraction(index * index, 90000) + index * TENTH for index in range(6)]
    write_video(tmp_path / "a.mp4", noise(6), 10, times=uneven)
    assert times_of(tmp_path / "a.mp4") == uneven
    copy_frames(tmp_path / "b.mp4", noise(5), [index * TENTH for index in (0, 2, 2, 1, 5)])
    assert times_of(tmp_path / "b.mp4") == [index * TENTH for index in (0, 2, 3, 4, 5)]
    write_video(tmp_path / "a.h264", noise(5), 25)
    assert times_of(tmp_path / "a.h264") == [Fraction(index, 25) for index in range(5)]


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_frames_are_turned_upright(tmp_path, quarter_turns):
    path = tmp_path / "a.mp4"
    write_video(path, noise(2))
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # ISO/IEC 14496-12, 8.3.2: 16.16 fixed point, rows of the transposed matrix
    cosine, sine = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter_turns]
    numbers = [number << 16 for number in (cosine, sine, 0, -sine, cosine, 0, 0, 0)]
    content[matrix : matrix + 36] = struct.pack(">9i", *numbers, 1 << 30)
    path.write_bytes(content)
    frames = [frame.pixels for frame in read_frames(path)]
    assert frames[0].shape == ((60, 40, 3) if quarter_turns % 2 else (40, 60, 3))
    np.testing.assert_array_equal(frames, opencv_frames(path))


@pytest.mark.parametrize(("pix_fmt", "dtype"), [("gray", np.uint8), ("gray16le", np.uint16)])
def test_grey_frames_keep_their_values(tmp_path, pix_fmt, dtype):
    frame = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (40, 60)).astype(dtype)
    write_video(tmp_path / "a.mkv", [frame], codec="ffv1", pix_fmt=pix_fmt)
    (read,) = read_frames(tmp_path / "a.mkv")
    assert read.pixels.dtype == dtype
    np.testing.assert_array_equal(read.pixels, frame)


def test_written_video_is_h264_of_even_size(tmp_path):
    frames = [np.full((41, 61, 3), 40 * index, np.uint8) for index in range(5)]
    copy_frames(tmp_path / "a.mp4", frames)
    with av.open(tmp_path / "a.mp4") as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.width, codec.height) == ("h264", "yuv420p", 62, 42)
    for frame, read in zip(frames, read_frames(tmp_path / "a.mp4"), strict=True):
        np.testing.assert_allclose(read.pixels.astype(int), np.pad(frame, ((0, 1), (0, 1), (0, 0)), "edge"), atol=4)


def test_error_keeps_the_frames_before_it_and_no_file_without_frames(tmp_path):
    def frames(count):
        yield from noise(count)
        raise KeyboardInterrupt

    for count in (0, 5):
        with pytest.raises(KeyboardInterrupt):
            copy_frames(tmp_path / f"new/{count}.mp4", frames(count))
        assert [path.name for path in tmp_path.rglob("*")] == ["new", "5.mp4"] * (count > 0)
    assert len(times_of(tmp_path / "new/5.mp4")) == 5


@pytest.mark.parametrize("size", [100, 40000])
def test_full_disk_is_an_error_and_leaves_no_file(tmp_path, no_room, size):
    with no_room(size), pytest.raises(OSError, match="File too large"):
        copy_frames(tmp_path / "a.mp4", noise(60))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["avi", "mkv", "ts"])
@pytest.mark.parametrize("is_cut", [True, False], ids=["cut", "damaged"])
def test_damaged_video_gives_the_frames_that_opencv_gives(tmp_path, suffix, is_cut):
    path = tmp_path / f"a.{suffix}"
    write_video(path, noise(40), codec="mpeg4")
    content = path.read_bytes()
    middle = len(content) // 2
    garbage = b"" if is_cut else np.random.default_rng(0).bytes(800) + content[middle + 800 :]
    path.write_bytes(content[:middle] + garbage)
    count = len(list(read_frames(path)))
    assert 10 <= count < 40
    assert count == len(opencv_frames(path))


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "header", "sound"])
def test_file_without_frames_is_refused(tmp_path, kind):
    path = tmp_path / "a.avi"
    write_video(path, noise(1), codec="mpeg4")
    header = path.read_bytes().partition(b"movi")[0] + b"movi"  # the list of frames follows
    path.unlink()
    if kind == "sound":
        with av.open(path, "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"hello", "header": header}[kind])
    message = f"no frame can be read from its {path.stat().st_size} bytes" if path.exists() else "no such file"
    with pytest.raises(InputError, match=f"^{path}: {message}"):
        video_info(path)


def test_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"^av is not installed. Install it \(`pip install dcrl_jax\[video\]`\)\.$"):
        next(read_frames(tmp_path / "a.mp4"))
