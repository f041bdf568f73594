"""Norpix ``.seq`` videos of JPEG images, as the Caltech videos are: frames are handed out as the bytes that are stored.

Little-endian. The header has 1,024 bytes: u32 0xFEED at 0, ``Norpix seq`` in UTF-16 at 4, the header's size at 32, and
from 548 on u32 width, height, bits, real bits, image bytes, format, frames, 0, true size. A frame is a u32, the number
of bytes up to the end of its JPEG, itself counted, then the JPEG, then a time of 6 bytes and 2 or 10 that are empty.
There is no index: where a frame begins is known from all before it.
"""

import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dcrl_jax.annotations.caltech.frames import HEIGHT_PX, WIDTH_PX
from dcrl_jax.errors import InputError

HEADER_BYTES = 1024
_MAGIC = struct.pack("<I", 0xFEED) + "Norpix seq".encode("utf-16-le")
JPEG_FORMATS = (102, 201)
_BEGIN, _END = b"\xff\xd8", b"\xff\xd9"
# After the JPEG: the time, and nothing or eight bytes more.
_EXTRA, _LONG_EXTRA = 8, 16


class SeqFile(NamedTuple):
    """Where the frames of a video lie."""

    path: Path
    offsets: np.ndarray  # int64 [N], byte at which each JPEG begins
    sizes: np.ndarray  # int64 [N], bytes of each JPEG
    problem: str | None  # why frames are missing behind the last one; None where the file is whole


def index(path: str | os.PathLike[str]) -> SeqFile:
    """Finds the frames of a video by going through it from frame to frame; nothing is decoded.

    Where the header counts no frames, as some recorders leave it, the file is followed to its end. Of a file that is
    cut off the complete frames are found, and ``problem`` says what is missing.

    Raises:
        InputError: the file cannot be read, is no .seq file, holds no JPEG images or images of another size, or not one
            complete frame.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            count = _read_header(path, file.read(HEADER_BYTES))
            offsets, sizes, problem = _scan(file.fileno(), size, count)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not offsets:
        raise InputError(f"{path}: holds no frames: {problem or 'it ends behind its header'}; get it again")
    return SeqFile(path, np.asarray(offsets, np.int64), np.asarray(sizes, np.int64), problem)


def read_frame(video: SeqFile, number: int) -> bytes:
    """The JPEG of a frame, counted from 0, as it is stored.

    Raises:
        InputError: the file cannot be read, or what it holds there is no JPEG from begin to end.
    """
    offset, size = int(video.offsets[number]), int(video.sizes[number])
    try:
        with video.path.open("rb") as file:
            file.seek(offset)
            encoded = file.read(size)
    except OSError as error:
        raise InputError(f"{video.path}: cannot be read ({error.strerror})") from error
    if len(encoded) < size or not (encoded.startswith(_BEGIN) and encoded.endswith(_END)):
        raise InputError(
            f"{video.path}: frame {number} is no JPEG from begin to end; the file is damaged: get it again"
        )
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
    """Offsets and sizes of the complete frames, and what is wrong with the next one."""
    offsets, sizes = [], []
    position, extra = HEADER_BYTES, _EXTRA
    while len(offsets) < count or (count == 0 and position < size):
        number = f"frame {len(offsets)}" + (f" of {count}" if count else "")
        start = os.pread(file, 6, position)
        (length,) = struct.unpack("<I", start[:4]) if len(start) == 6 else (0,)
        if len(start) < 6 or position + length > size:
            return offsets, sizes, f"cut off in {number}: the file ends after {size:,} bytes"
        if start[4:] != _BEGIN or length < 4 + len(_BEGIN + _END):
            return offsets, sizes, f"{number}, at byte {position:,}, is no JPEG: the file is damaged"
        offsets.append(position + 4)
        sizes.append(length - 4)
        position += length + extra
        # Which of the two it is shows behind the first frame: no frame has length 0.
        if len(offsets) == 1 and os.pread(file, 4, position) == bytes(4):
            position, extra = position + _LONG_EXTRA - _EXTRA, _LONG_EXTRA
    return offsets, sizes, None
