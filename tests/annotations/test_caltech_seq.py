"""Videos: frames as they are stored, and files that are no video or no complete one."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from caltech_files import jpeg, seq_bytes

from dcrl_jax.annotations.caltech import seq
from dcrl_jax.errors import InputError

EXCERPT = Path(__file__).resolve().parents[1] / "data" / "peds30" / "first_frame.seq"


def frames(video):
    return [seq.read_frame(video, number) for number in range(len(video.offsets))]


def index(tmp_path, content):
    (tmp_path / "V000.seq").write_bytes(content)
    return seq.index(tmp_path / "V000.seq")


@pytest.mark.parametrize("count", [30, 0])
def test_real_video_that_is_cut_off_has_the_frames_before_the_cut(tmp_path, count):
    content = bytearray(EXCERPT.read_bytes())
    assert struct.unpack_from("<I", content, 572) == (30,)
    content[572:576] = struct.pack("<I", count)
    video = index(tmp_path, content)
    (encoded,) = frames(video)
    assert content[video.offsets[0] :].startswith(encoded)
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (480, 640, 3)
    assert image.std() > 20
    assert video.problem == f"cut off in frame 1{' of 30' * bool(count)}: the file ends after 38,100 bytes"


@pytest.mark.parametrize(
    ("length", "options", "cut"),
    [
        (1, {"extra": 8, "image_format": 102}, 0),
        (3, {"extra": 8, "count": 0}, 0),
        (3, {"extra": 16, "image_format": 102, "count": 0}, 0),
        (3, {"count": 2}, 0),  # frames beyond the count of the header are skipped
        (2, {"extra": 16}, 16),  # the last frame may lack the bytes after its JPEG
    ],
)
def test_frames_are_those_that_were_written(tmp_path, length, options, cut):
    jpegs = [jpeg(number) for number in range(length)]
    content = seq_bytes(jpegs, **options)
    video = index(tmp_path, content[: len(content) - cut])
    assert frames(video) == jpegs[: options.get("count") or length]
    assert video.problem is None


COPY = seq_bytes([jpeg(0), jpeg(1)])
OTHER_FILES = {
    "header": (COPY[:1023], "cut off: 1023 bytes; a .seq file has a header of 1,024"),
    "magic": (b"RIFF" + COPY[4:], "no .seq file: it begins with b'RIFF"),
    "name": (COPY[:4] + "Norpix mov".encode("utf-16-le") + COPY[24:], "no .seq file"),
    "header size": (seq_bytes([jpeg()], header_bytes=2048), "a header of 2048 bytes; expected 1,024"),
    "raw": (seq_bytes([jpeg()], image_format=100), "images of format 100; expected 102 or 201, which is JPEG"),
    "size": (seq_bytes([jpeg()], size=(320, 240)), "images of 320x240 pixels; expected 640x480"),
    "no frame": (COPY[:1024], "holds no frames: cut off in frame 0 of 2: the file ends after 1,024 bytes"),
    "none": (seq_bytes([]), "holds no frames: it ends after its header"),
    "PNG": (COPY[:1028] + b"\x89PNG" + COPY[1032:], "holds no frames: frame 0 of 2, at byte 1,024, is no JPEG"),
    "absent": (None, r"cannot be read \(No such file or directory\)"),
}


@pytest.mark.parametrize(("content", "message"), OTHER_FILES.values(), ids=OTHER_FILES)
def test_other_files_are_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=rf"{tmp_path}/V000\.seq: {message}"):
        index(tmp_path, content) if content is not None else seq.index(tmp_path / "V000.seq")


def test_damaged_length_and_a_shrunk_or_absent_file_are_noticed(tmp_path):
    content = bytearray(seq_bytes([jpeg(0), jpeg(1), jpeg(2)]))
    start = 1024 + 4 + len(jpeg(0)) + 16
    content[start : start + 4] = struct.pack("<I", 100)
    damaged = index(tmp_path, content)
    # The second frame still begins like a JPEG; the bytes after its wrong length do not.
    assert len(damaged.offsets) == 2
    assert "frame 2 of 3" in damaged.problem
    complete = index(tmp_path, COPY)
    damaged.path.write_bytes(COPY[:-5000])
    assert seq.read_frame(complete, 0) == jpeg(0)
    for video in (damaged, complete):
        with pytest.raises(InputError, match="frame 1 is no complete JPEG"):
            seq.read_frame(video, 1)
    damaged.path.unlink()
    with pytest.raises(InputError, match=r"V000\.seq: cannot be read"):
        seq.read_frame(complete, 0)
