"""Videos: frames as they are stored, and every way in which a file is no video, or not a whole one."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from caltech_files import jpeg, seq_bytes, write_seq

from dcrl_jax.annotations.caltech import seq
from dcrl_jax.errors import InputError

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "caltech" / "peds30.seq"
needs_real = pytest.mark.skipif(not REAL.is_file(), reason=f"needs {REAL}")


def frames(video):
    return [seq.read_frame(video, number) for number in range(len(video.offsets))]


def copy(tmp_path, content):
    path = tmp_path / "V000.seq"
    path.write_bytes(content)
    return path


@needs_real
def test_real_video_holds_thirty_images_that_decode():
    video = seq.index(REAL)
    assert len(video.offsets) == len(video.sizes) == 30
    assert video.problem is None
    content = REAL.read_bytes()
    for number, encoded in enumerate(frames(video)):
        assert content[video.offsets[number] :].startswith(encoded)
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        assert image.shape == (480, 640, 3)
        assert image.std() > 20
    assert len(set(frames(video))) == 30


@needs_real
def test_real_video_whose_header_counts_no_frames_is_followed_to_its_end(tmp_path):
    content = bytearray(REAL.read_bytes())
    assert struct.unpack_from("<I", content, 572) == (30,)
    content[572:576] = bytes(4)
    assert frames(seq.index(copy(tmp_path, content))) == frames(seq.index(REAL))


@needs_real
def test_real_video_that_is_cut_off_has_the_frames_before_the_cut(tmp_path):
    video = seq.index(copy(tmp_path, REAL.read_bytes()[:500_000]))
    assert frames(video) == frames(seq.index(REAL))[:13]
    assert video.problem == "cut off in frame 13 of 30: the file ends after 500,000 bytes"


@pytest.mark.parametrize("extra", [8, 16])
@pytest.mark.parametrize("count", [None, 0])
def test_frames_are_those_that_were_written_whatever_stands_between_them(tmp_path, extra, count):
    jpegs = [jpeg(number) for number in range(3)]
    video = seq.index(write_seq(tmp_path / "V000.seq", jpegs, extra=extra, count=count))
    assert frames(video) == jpegs
    assert video.problem is None


@pytest.mark.parametrize("count", [None, 0])
def test_video_of_one_frame(tmp_path, count):
    assert frames(seq.index(write_seq(tmp_path / "V000.seq", [jpeg()], count=count))) == [jpeg()]


def test_frames_behind_those_that_the_header_counts_are_none(tmp_path):
    path = write_seq(tmp_path / "V000.seq", [jpeg(number) for number in range(3)], count=2)
    assert frames(seq.index(path)) == [jpeg(0), jpeg(1)]


def test_last_frame_may_lack_what_follows_its_image(tmp_path):
    content = seq_bytes([jpeg(0), jpeg(1)])[:-16]
    video = seq.index(copy(tmp_path, content))
    assert frames(video) == [jpeg(0), jpeg(1)]
    assert video.problem is None


def test_jpeg_format_102_is_read_too(tmp_path):
    assert frames(seq.index(write_seq(tmp_path / "V000.seq", [jpeg()], image_format=102))) == [jpeg()]


WHOLE = seq_bytes([jpeg(0), jpeg(1)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut off: 0 bytes; a .seq file has a header of 1,024"),
        (WHOLE[:1023], "cut off: 1023 bytes"),
        (bytes(4000), "no .seq file: it begins with"),
        (b"RIFF" + WHOLE[4:], "no .seq file: it begins with b'RIFF"),
        (WHOLE[:4] + "Norpix mov".encode("utf-16-le") + WHOLE[24:], "no .seq file"),
        (seq_bytes([jpeg()], header_bytes=2048), "a header of 2048 bytes; expected 1,024"),
        (seq_bytes([jpeg()], image_format=100), "images of format 100; expected 102 or 201, which is JPEG"),
        (seq_bytes([jpeg()], size=(320, 240)), "images of 320x240 pixels; expected 640x480"),
        (WHOLE[:1024], r"holds no frames: cut off in frame 0 of 2: the file ends after 1,024 bytes"),
        (seq_bytes([]), "holds no frames: it ends behind its header"),
        (WHOLE[:1028] + b"\x89PNG" + WHOLE[1032:], "holds no frames: frame 0 of 2, at byte 1,024, is no JPEG"),
    ],
    ids=["empty", "short header", "zeros", "magic", "name", "header", "raw", "size", "no frame", "none", "PNG"],
)
def test_what_is_no_video_is_refused(tmp_path, content, message):
    path = copy(tmp_path, content)
    with pytest.raises(InputError, match=message) as error:
        seq.index(path)
    assert str(error.value).startswith(f"{path}: ")


def test_absent_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"V000\.seq: cannot be read \(No such file or directory\)"):
        seq.index(tmp_path / "V000.seq")


def test_damaged_length_ends_the_video_there(tmp_path):
    content = bytearray(seq_bytes([jpeg(0), jpeg(1), jpeg(2)]))
    place = 1024 + 4 + len(jpeg(0)) + 16
    content[place : place + 4] = struct.pack("<I", 100)
    video = seq.index(copy(tmp_path, content))
    # The second frame's beginning is still one; what is found behind its wrong length is not.
    assert len(video.offsets) == 2
    assert "frame 2 of 3" in video.problem
    with pytest.raises(InputError, match="frame 1 is no JPEG from begin to end"):
        seq.read_frame(video, 1)


def test_file_that_shrank_after_it_was_looked_at_is_noticed(tmp_path):
    path = copy(tmp_path, WHOLE)
    video = seq.index(path)
    path.write_bytes(WHOLE[:-5000])
    assert seq.read_frame(video, 0) == jpeg(0)
    with pytest.raises(InputError, match="frame 1 is no JPEG from begin to end"):
        seq.read_frame(video, 1)
