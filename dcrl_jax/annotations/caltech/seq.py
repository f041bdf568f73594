"""Norpix ``.seq`` videos of JPEG images, the format of the Caltech videos. Frames stay encoded.

The format is little-endian. The header has 1,024 bytes: u32 0xFEED at 0, ``Norpix seq`` in UTF-16 at 4, the header's
size at 32, and from 548 on u32 width, height, bits, real bits, image bytes, format, frames, 0, true size. A frame is a
u32 (4 plus the size of the JPEG in bytes), the JPEG, a time of 6 bytes, and 2 or 10 empty bytes. There is no index: the
offset of a frame follows from all frames before it.
"""

import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcrl_jax.annotations.caltech.frames import HEIGHT_PX, WIDTH_PX
from dcrl_jax.errors import InputError
from dcrl_jax.opening import open_regular

HEADER_BYTES = 1024
_MAGIC = struct.pack("<I", 0xFEED) + "Norpix seq".encode("utf-16-le")
JPEG_FORMATS = (102, 201)
_BEGIN, _END = b"\xff\xd8", b"\xff\xd9"
# Bytes after a JPEG: the time and 2 or 10 empty bytes.
_EXTRA, _LONG_EXTRA = 8, 16


class SeqFile(NamedTuple):
    """The positions of a video's frames in its file."""

    path: Path
    offsets: np.ndarray  # int64 [N], byte at which each JPEG begins
    sizes: np.ndarray  # int64 [N], bytes of each JPEG
    problem: str | None  # why frames after the last one are missing; None if the file is complete


def index(path: str | os.PathLike[str]) -> SeqFile:
    """Find the frames of a video by walking from frame to frame; nothing is decoded.

    If the header's number of frames is 0, as some recorders leave it, the walk ends with the file. If the file is cut
    off, the complete frames are returned and ``problem`` names the first missing one.

    Raises:
        InputError: the file cannot be read, is no .seq file, has images of another format or size, or has no complete
            frame.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            count = _read_header(path, file.read(HEADER_BYTES))
            offsets, sizes, problem = _scan(file.fileno(), size, count)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not offsets:
        raise InputError(f"{path}: holds no frames: {problem or 'it ends after its header'}; get it again")
    return SeqFile(path, np.asarray(offsets, np.int64), np.asarray(sizes, np.int64), problem)


def read_frame(video: SeqFile, number: int) -> bytes:
    """Return the stored JPEG of a frame, counted from 0.

    Raises:
        InputError: the file cannot be read, or the bytes of the frame are no complete JPEG.
    """
    offset, size = int(video.offsets[number]), int(video.sizes[number])
    try:
        with open_regular(video.path) as file:
            file.seek(offset)
            encoded = file.read(size)
    except OSError as error:
        raise InputError(f"{video.path}: cannot be read ({error.strerror})") from error
    if len(encoded) < size or not (encoded.startswith(_BEGIN) and encoded.endswith(_END)):
        raise InputError(f"{video.path}: frame {number} is no complete JPEG; the file is damaged: get it again")
    return encoded


def _read_header(path, header):
    if len(header) < HEADER_BYTES:
        raise InputError(f"{path}: cut off: {len(header)} bytes; a .seq file has a header of {HEADER_BYTES:,}")
    if not header.startswith(_MAGIC):
        raise InputError(f"{path}: no .seq file: it begins with {header[:24]!r} instead of {_MAGIC!r}")
    (header_bytes,) = struct.unpack_from("<I", header, 32)
    width, height, _, _, _, image_format, count, _, _ = struct.unpack_from("<9I", header, 548)
    if header_bytes != HEADER_BYTES:
        raise InputError(f"{path}: a header of {header_bytes} bytes; expected {HEADER_BYTES:,}")
    if image_format not in JPEG_FORMATS:
        raise InputError(
            f"{path}: images of format {image_format}; expected {' or '.join(map(str, JPEG_FORMATS))}, which is JPEG"
        )
    if (width, height) != (WIDTH_PX, HEIGHT_PX):
        raise InputError(
            f"{path}: images of {width}x{height} pixels; expected {WIDTH_PX}x{HEIGHT_PX}, in which the boxes are "
            "annotated"
        )
    return count


def _scan(file, size, count):
    """Return the offsets and sizes of the complete frames, and the problem of the next frame or None.

    ``file`` is a file descriptor, ``size`` the bytes of the file, ``count`` the header's number of frames.
    """
    offsets, sizes = [], []
    position, extra = HEADER_BYTES, _EXTRA
    while len(offsets) < count or (count == 0 and position < size):
        frame = f"frame {len(offsets)}" + (f" of {count}" if count else "")
        start = os.pread(file, 6, position)
        (length,) = struct.unpack("<I", start[:4]) if len(start) == 6 else (0,)
        if len(start) < 6 or position + length > size:
            return offsets, sizes, f"cut off in {frame}: the file ends after {size:,} bytes"
        if start[4:] != _BEGIN or length < 4 + len(_BEGIN + _END):
            return offsets, sizes, f"{frame}, at byte {position:,}, is no JPEG: the file is damaged"
        offsets.append(position + 4)
        sizes.append(length - 4)
        position += length + extra
        # No frame has length 0. So a zero 8 bytes after the first JPEG means that 16 bytes follow each JPEG.
        if len(offsets) == 1 and os.pread(file, 4, position) == bytes(4):
            position, extra = position + _LONG_EXTRA - _EXTRA, _LONG_EXTRA
    return offsets, sizes, None
