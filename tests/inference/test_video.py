"""Videos are read as OpenCV reads them, with exact times, and written so that browsers play them."""

import struct
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import PIL.Image
import pytest
from video_files import noise, shared_video, write_video

from dcrl_jax.errors import InputError
from dcrl_jax.inference import video as videos
from dcrl_jax.inference.video import Clock, Video, open_writer

TENTH = Fraction(1, 10)


def opencv_frames(path):
    video, frames = cv2.VideoCapture(str(path)), []
    while (result := video.read())[0]:
        frames.append(result[1][..., ::-1])
    return frames


def read(path):
    """The frames of a video, and the video after reading."""
    video = Video(path)
    return list(video.frames()), video


def times_of(path):
    return [frame.seconds for frame in read(path)[0]]


def pixels_of(path):
    return [frame.pixels for frame in read(path)[0]]


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
    frames, video = read(path)
    pixels, times = [frame.pixels for frame in frames], [frame.seconds for frame in frames]
    np.testing.assert_array_equal(pixels, opencv_frames(path))
    assert [frame.number for frame in frames] == list(range(12))
    assert video.count_hint == pytest.approx(12, abs=1)
    assert video.interval == pytest.approx(float(1 / rate), abs=0.001)
    assert video.start == times[0]
    assert not video.problems() + video.notes()
    tolerance = Fraction(1, 1000) if suffix in ("mkv", "webm") else 0
    assert all(abs(time - times[0] - index / rate) <= tolerance for index, time in enumerate(times))
    copy_frames(copy, pixels, times, 1 / video.interval, video.time_base)
    assert times_of(copy) == times


def test_times_are_kept_if_they_increase(tmp_path):
    uneven = [Fraction(7, 5) + Fraction(index * index, 90000) + index * TENTH for index in range(6)]
    write_video(tmp_path / "a.mp4", noise(6), 10, times=uneven)
    assert times_of(tmp_path / "a.mp4") == uneven
    copy_frames(tmp_path / "b.mp4", noise(5), [index * TENTH for index in (0, 2, 2, 1, 5)])
    assert times_of(tmp_path / "b.mp4") == [index * TENTH for index in (0, 2, 3, 4, 5)]
    copy_frames(tmp_path / "c.mp4", noise(5), [index * TENTH for index in (-2, -1, 0, 1, 2)])
    assert times_of(tmp_path / "c.mp4") == [index * TENTH for index in range(5)]


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
    frames = pixels_of(path)
    assert frames[0].shape == ((60, 40, 3) if quarter_turns % 2 else (40, 60, 3))
    np.testing.assert_array_equal(frames, opencv_frames(path))


@pytest.mark.parametrize(
    ("pix_fmt", "codec", "bits"),
    [
        ("gray", "ffv1", 8),
        ("gray10le", "ffv1", 10),
        ("gray12le", "ffv1", 12),
        ("gray16le", "ffv1", 16),
        ("gray10be", "rawvideo", 10),
        ("gray16be", "rawvideo", 16),
        ("gray12le", "libx265", 12),
    ],
)
def test_grey_frames_keep_their_values(tmp_path, pix_fmt, codec, bits):
    dtype = np.uint8 if bits == 8 else np.uint16
    frame = np.random.default_rng(0).integers(0, 2**bits, (40, 60)).astype(dtype)
    options = {"x265-params": "lossless=1:log-level=none"} if codec == "libx265" else {}
    write_video(tmp_path / "a.nut", [frame], codec=codec, pix_fmt=pix_fmt, options=options)
    (pixels,) = pixels_of(tmp_path / "a.nut")
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(pixels, frame)


@pytest.mark.parametrize(("pix_fmt", "dtype"), [("gbrp10le", "uint16"), ("bgr0", "uint8"), ("yuv420p10le", "uint8")])
def test_rgb_frames_of_more_bits_are_not_cut_to_8(tmp_path, pix_fmt, dtype):
    write_video(tmp_path / "a.mkv", noise(1), codec="ffv1", pix_fmt=pix_fmt)
    (pixels,) = pixels_of(tmp_path / "a.mkv")
    assert (pixels.dtype, pixels.shape) == (dtype, (40, 60, 3))


def test_written_video_is_h264_of_even_size(tmp_path):
    frames = [np.full((41, 61, 3), 40 * index, np.uint8) for index in range(5)]
    copy_frames(tmp_path / "a.mp4", frames)
    with av.open(tmp_path / "a.mp4") as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.width, codec.height) == ("h264", "yuv420p", 62, 42)
    for frame, pixels in zip(frames, pixels_of(tmp_path / "a.mp4"), strict=True):
        np.testing.assert_allclose(pixels.astype(int), np.pad(frame, ((0, 1), (0, 1), (0, 0)), "edge"), atol=4)


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
def test_damaged_video_gives_the_frames_that_opencv_gives_and_says_so(tmp_path, suffix, is_cut):
    path = tmp_path / f"a.{suffix}"
    write_video(path, noise(40), codec="mpeg4")
    content = path.read_bytes()
    middle = len(content) // 2
    garbage = b"" if is_cut else np.random.default_rng(0).bytes(800) + content[middle + 800 :]
    path.write_bytes(content[:middle] + garbage)
    frames, video = read(path)
    assert 10 <= len(frames) < 40
    assert len(frames) == len(opencv_frames(path))
    assert any(f"{len(frames)} frames could be read" in problem for problem in video.problems()) or video.notes()
    assert any("cut off" in problem for problem in video.problems()) == is_cut


def test_header_that_promises_more_frames_than_there_are_is_no_problem(tmp_path):
    # Time stamps of milliseconds and frames of a millisecond make headers state 1000 frames per second.
    write_video(tmp_path / "a.mkv", noise(6), 1000, times=[Fraction(index * 137, 1000) for index in range(6)])
    frames, video = read(tmp_path / "a.mkv")
    assert [frame.seconds for frame in frames] == [Fraction(index * 137, 1000) for index in range(6)]
    assert video.interval == Fraction(137, 1000)
    assert not video.problems() + video.notes()


@pytest.mark.parametrize(
    ("stamps", "times", "counts"),
    [
        pytest.param([2, 5, 5, 8], [2, 5, 5.01, 8], (1, 0), id="equal"),
        pytest.param([0, 3, 3, 3, 6], [0, 3, 3.01, 3.02, 6], (2, 0), id="three equal"),
        pytest.param([9, 12, 1, 15], [9, 12, 12.01, 15], (1, 0), id="one too early"),
        pytest.param([0, 3, 90, 9], [0, 3, 3.01, 9], (1, 0), id="one too late"),
        pytest.param([0, None, 6], [0, 3, 6], (1, 0), id="missing"),
        pytest.param([None, None, None], [0, 3, 6], (3, 0), id="all missing"),
        pytest.param([9, 12, 15, 0, 3, 3, 6], [9, 12, 15, 18, 21, 21.01, 24], (1, 1), id="joined"),
        pytest.param([0, 3, 90, 93], [0, 3, 90, 93], (0, 0), id="pause"),
    ],
)
def test_times_always_increase(stamps, times, counts):
    clock = Clock(Fraction(1, 100), Fraction(3))
    stamped = [(index, None if stamp is None else Fraction(stamp)) for index, stamp in enumerate(stamps)]
    assert list(clock.times(stamped)) == [(index, Fraction(str(time))) for index, time in enumerate(times)]
    assert (clock.mended, clock.restarts) == counts


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
def test_frames_that_avi_stores_in_another_order_have_times_in_theirs(tmp_path, codec):
    write_video(tmp_path / "a.avi", noise(12), 25, codec, options={"bf": "2"})
    assert times_of(tmp_path / "a.avi") == [Fraction(index, 25) for index in range(12)]


def test_raw_stream_has_its_nominal_rate_and_is_refused_without_one(tmp_path):
    write_video(tmp_path / "a.h264", noise(5), 30)
    frames, video = read(tmp_path / "a.h264")
    assert [frame.seconds for frame in frames] == [Fraction(index, 30) for index in range(5)]
    assert video.notes() == [f"{tmp_path}/a.h264: no time stamps; timed by its nominal rate of 30 frames/s."]
    write_video(tmp_path / "a.mjpeg", noise(5), 30, "mjpeg", "yuvj420p")
    with pytest.raises(
        InputError, match=r"a raw mjpeg stream, with neither time stamps nor a rate\. Put it into a file"
    ):
        Video(tmp_path / "a.mjpeg")


def test_joined_recordings_are_read_to_the_end(tmp_path):
    for name, frames in (("a.ts", noise(10)), ("b.ts", noise(10, 48, 64))):
        write_video(tmp_path / name, frames, codec="mpeg4")
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    frames, video = read(joined)
    times = [frame.seconds - frames[0].seconds for frame in frames]
    assert times == pytest.approx([index * TENTH for index in range(len(frames))])
    assert 19 <= len(frames) <= 20
    assert frames[-1].pixels.shape == (48, 64, 3)
    notes = " ".join(video.notes())
    assert "time stamps start again (1x)" in notes
    assert f"60x40 pixels, from frame {len(frames) - 10} on 64x48" in notes


def test_sound_before_the_video_and_a_cover_are_left_out(tmp_path):
    with av.open(tmp_path / "a.mp4", "w") as container:
        sound = container.add_stream("aac", rate=8000, layout="mono")
        cover, video = (container.add_stream(codec, rate=10) for codec in ("mjpeg", "libx264"))
        cover.disposition = av.stream.Disposition.attached_pic.value
        cover.pix_fmt = "yuvj420p"
        cover.width = video.width = 60
        cover.height = video.height = 40
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 8000
        container.mux(sound.encode(samples))
        for stream, frames in ((cover, noise(1)), (video, noise(6))):
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        for stream in (sound, cover, video):
            container.mux(stream.encode(None))
    frames, video = read(tmp_path / "a.mp4")
    assert [frame.seconds for frame in frames] == [index * TENTH for index in range(6)]
    assert not video.problems() + video.notes()


@pytest.mark.parametrize(
    ("name", "count", "end", "notes"),
    [
        ("variable-rate.mkv", 30, "2.824", []),
        ("camera.ts", 19, "0.76", ["packets are missing (1x)", "160x120 pixels, from frame 9 on 240x176"]),
        ("thermal-16bit-10fps-1s.mkv", 10, "0.9", []),
    ],
)
def test_shared_cases_are_read_to_their_ends(name, count, end, notes):
    frames, video = read(shared_video(name))
    assert (len(frames), frames[-1].seconds) == (count, Fraction(end))
    assert frames[0].pixels.dtype == (np.uint16 if "16bit" in name else np.uint8)
    assert not video.problems()
    assert len(video.notes()) == len(notes)
    assert all(note in said for note, said in zip(notes, video.notes(), strict=True))


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "header", "sound", "image", "moov", "codec"])
def test_file_without_frames_is_refused(tmp_path, kind):
    path = tmp_path / "a.avi"
    write_video(path, noise(1), codec="mpeg4")
    header = path.read_bytes().partition(b"movi")[0] + b"movi"  # the list of frames follows
    path.unlink()
    message = "no frame can be read from its .* bytes"
    if kind == "sound":
        message = "no video that can be read"
        with av.open(path, "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
    elif kind == "image":
        message = "no video that can be read: a still image"
        PIL.Image.fromarray(noise(1)[0]).save(path, format="png")
    elif kind == "moov":
        message += r"\. An MP4 or MOV file that is cut off lacks its index: copy it again\.$"
        write_video(tmp_path / "a.mp4", noise(2))
        path.write_bytes((tmp_path / "a.mp4").read_bytes()[:900])
    elif kind == "codec":
        message = "no video that can be read: an unknown codec"
        write_video(path, noise(2), codec="mjpeg", pix_fmt="yuvj420p")
        path.write_bytes(path.read_bytes().replace(b"MJPG", b"ABCD"))
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"hello", "header": header}[kind])
    with pytest.raises(InputError, match=f"^{path}: {message if path.exists() else 'no such file'}"):
        read(path)


def test_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_bytes(b"video")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"^av is not installed. Install it \(`pip install dcrl_jax\[video\]`\)\.$"):
        Video(tmp_path / "a.mp4")


@pytest.mark.parametrize("kind", ["concat", "hls", "sdp"])
def test_play_list_leads_to_no_other_file(tmp_path, kind):
    write_video(tmp_path / "other.mp4", noise(2))
    path = tmp_path / "a.mp4"
    content = {
        "concat": "ffconcat version 1.0\nfile other.mp4\n",
        "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.mp4\n#EXT-X-ENDLIST\n",
        "sdp": "v=0\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    }
    path.write_text(content[kind])
    with pytest.raises(InputError, match=f"^{path}: no (video that|frame) can be read"):
        read(path)


def test_frames_have_the_limit_of_an_image(tmp_path, monkeypatch):
    write_video(tmp_path / "a.ts", noise(10), codec="mpeg4")
    monkeypatch.setattr(videos, "MAX_PIXELS", noise(1)[0][..., 0].size - 1)
    with pytest.raises(InputError, match=f"^{tmp_path}/a.ts: more than 89,478,485 pixels, the limit of an image"):
        read(tmp_path / "a.ts")
    # A later frame is larger.
    monkeypatch.setattr(videos, "MAX_PIXELS", 100_000)
    write_video(tmp_path / "b.ts", noise(10, 480, 640), codec="mpeg4")
    with (tmp_path / "a.ts").open("ab") as file:
        file.write((tmp_path / "b.ts").read_bytes())
    frames, source = read(tmp_path / "a.ts")
    assert 8 <= len(frames) <= 10
    assert "damaged" in source.problems()[0]
