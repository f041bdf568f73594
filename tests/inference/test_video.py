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

MILLISECOND = Fraction(1, 1000)


def opencv_frames(path):
    video, frames = cv2.VideoCapture(str(path)), []
    while (result := video.read())[0]:
        frames.append(result[1][..., ::-1])
    return frames


def copy_frames(path, frames, error=None):
    with open_writer(path, Fraction(10), Fraction(1, 10)) as write:
        for index, frame in enumerate(frames):
            write(frame, Fraction(index, 10))
        if error:
            raise error


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("avi", "mpeg4"), ("mkv", "libx264"), ("mov", "libx264"), ("mp4", "libx264"), ("ts", "libx264"), ("webm", "vp8")],
)
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001)])
def test_frames_are_those_of_opencv_and_a_copy_has_their_times(tmp_path, suffix, codec, rate):
    path, copy = tmp_path / f"a.{suffix}", tmp_path / "new/b.mp4"
    write_video(path, noise(12), rate, codec)
    info, frames = video_info(path), list(read_frames(path))
    np.testing.assert_array_equal([frame.pixels for frame in frames], opencv_frames(path))
    assert info.frames == len(frames) == 12
    assert info.rate == pytest.approx(float(rate), rel=0.001)
    tolerance = MILLISECOND if suffix in ("mkv", "webm") else 0
    assert all(abs(frame.time - frames[0].time - index / rate) <= tolerance for index, frame in enumerate(frames))
    with open_writer(copy, info.rate, info.time_base) as write:
        for frame in frames:
            write(frame.pixels, frame.time)
    assert [frame.time for frame in read_frames(copy)] == [frame.time for frame in frames]


def test_uneven_times_and_a_late_start_are_kept(tmp_path):
    times = [Fraction(7, 5) + Fraction(index * index, 90000) + Fraction(index, 10) for index in range(6)]
    write_video(tmp_path / "a.mp4", noise(6), 10, times=times)
    assert [frame.time for frame in read_frames(tmp_path / "a.mp4")] == times


def test_times_that_do_not_increase_are_moved(tmp_path):
    times = [Fraction(index, 10) for index in (0, 2, 2, 1, 5)]
    with open_writer(tmp_path / "a.mp4", Fraction(10), Fraction(1, 10)) as write:
        for frame, time in zip(noise(5), times, strict=True):
            write(frame, time)
    assert [frame.time for frame in read_frames(tmp_path / "a.mp4")] == [Fraction(n, 10) for n in (0, 2, 3, 4, 5)]


def test_frames_without_times_follow_the_rate(tmp_path):
    write_video(tmp_path / "a.h264", noise(5), 25)
    assert [frame.time for frame in read_frames(tmp_path / "a.h264")] == [Fraction(index, 25) for index in range(5)]


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


def test_frames_before_an_error_are_kept(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        copy_frames(tmp_path / "a.mp4", noise(5), error=KeyboardInterrupt)
    assert len(list(read_frames(tmp_path / "a.mp4"))) == 5


def test_video_without_frames_leaves_no_file(tmp_path):
    copy_frames(tmp_path / "new/a.mp4", [])
    assert not list(tmp_path.iterdir())


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


@pytest.mark.parametrize("content", [None, b"", b"hello", "header"], ids=["missing", "empty", "text", "header"])
def test_file_without_frames_is_refused(tmp_path, content):
    path, message = tmp_path / "a.avi", "no such file"
    if content == "header":
        write_video(path, noise(1), codec="mpeg4")
        content = path.read_bytes()
        content = content[: content.index(b"movi") + 4]  # the list of frames follows
    if content is not None:
        path.write_bytes(content)
        message = f"no frame can be read from its {len(content)} bytes"
    with pytest.raises(InputError, match=f"^{path}: {message}"):
        video_info(path)


def test_sound_without_pictures_is_refused(tmp_path):
    with av.open(tmp_path / "a.mkv", "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(InputError, match=r"a\.mkv: no frame can be read from its \d+ bytes"):
        video_info(tmp_path / "a.mkv")


def test_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"^av is not installed. Install it \(`pip install dcrl_jax\[video\]`\)\.$"):
        next(read_frames(tmp_path / "a.mp4"))
