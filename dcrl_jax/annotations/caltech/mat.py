"""Reading of MAT files, as far as Caltech's annotations need them: numbers, texts, cells and structs.

The format is MATLAB's Level 5 ("MAT-File Format", MathWorks), which versions 5 to 7.2 write. Such files may be
anybody's. SciPy's reader believes the sizes and types that a file states: of 1,500 copies of a file with one changed
word, it crashed the interpreter with 51 and asked for gigabytes with 22 (SciPy 1.17.1). Here no array is larger than
the content that the file has for it. Functions, objects and classes are refused.
"""

import math
import os
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np

from dcrl_jax.errors import InputError
from dcrl_jax.opening import open_regular

# Caltech's largest file has a hundredth of these bytes, and a twentieth of these arrays.
MAX_BYTES = 64 * 2**20  # of a file, and of what its compressed elements become
MAX_ARRAYS = 200_000
MAX_DEPTH = 16  # of cells and structs in one another

# float64 of any shape, a text, the elements of a cell, or those of an array of structs by field; both by columns.
Value = np.ndarray | str | tuple[Any, ...] | list[dict[str, Any]]

_MATRIX, _COMPRESSED = 14, 15
_NUMBER_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_DTYPES = {order: {kind: np.dtype(order + name) for kind, name in _NUMBER_TYPES.items()} for order in "<>"}
_ENCODINGS = {1: "utf-8", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _STRUCT, _CHAR, _NUMBERS = 1, 2, 4, range(6, 16)
_IS_COMPLEX = 0x0800  # a bit of the flags
_EMPTY = np.zeros((0, 0))


class _DamagedError(ValueError):
    """A part of the file is not as the format says."""


class _Element(NamedTuple):
    """Where the content of an element is, in bytes."""

    type: int
    start: int
    stop: int
    following: int  # the start of the next element


def read(path: str | os.PathLike[str], name: str) -> Value | None:
    """Return a variable of a file, or None if the file has no such variable.

    Raises:
        InputError: the file cannot be read, is damaged or no MAT file of Level 5, is too large, or the variable holds
            something else than numbers, texts, cells and structs of these.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        return _find(content, name)
    except (_DamagedError, UnicodeDecodeError, struct.error, zlib.error) as error:
        raise InputError(f"{path}: no MAT file, or cut off ({error}); get it again") from error


def _find(content, name):
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise _DamagedError("no header of a MAT file")
    version = int.from_bytes(content[124:126], "little" if order == "<" else "big") >> 8
    if version != 1:
        raise _DamagedError("of version 7.3, HDF5; save it as version 7" if version == 2 else f"of version {version}")
    position, room = 128, MAX_BYTES
    while position < len(content):
        if len(content) > room:
            raise _DamagedError(f"more than {MAX_BYTES:,} bytes")
        reader = _Reader(content, order)
        element = reader.element(position, len(content))
        position = element.stop if element.type == _COMPRESSED else element.following
        if element.type == _COMPRESSED:
            inflated = zlib.decompressobj().decompress(content[element.start : element.stop], room + 1)
            room -= len(inflated)
            if room < 0:
                raise _DamagedError(f"its compressed parts have more than {MAX_BYTES:,} bytes")
            reader = _Reader(inflated, order)
            element = reader.element(0, len(inflated))
        if reader.name(element) == name:
            return reader.value(element, 0)
    return None


class _Reader:
    """The elements of some bytes."""

    def __init__(self, content: bytes, order: str):
        self._content, self._order = content, order
        self._two_words = struct.Struct(f"{order}II")
        self._dtypes, self._arrays = _DTYPES[order], 0

    def element(self, position: int, end: int) -> _Element:
        """Return the element at a position, which must lie before ``end``."""
        if position + 8 > end:
            raise _DamagedError(f"an element is missing at byte {position}")
        kind, size = self._two_words.unpack_from(self._content, position)
        if kind >> 16:  # a small element: up to 4 bytes in place of the size
            start, stop = position + 4, position + 4 + (kind >> 16)
            is_whole, following = stop <= position + 8, position + 8
        else:
            start, stop = position + 8, position + 8 + size
            is_whole, following = stop <= end, min(end, stop + -size % 8)
        if not is_whole:
            raise _DamagedError(f"the element at byte {position} is longer than the file has room for")
        return _Element(kind & 0xFFFF, start, stop, following)

    def name(self, matrix: _Element) -> str:
        """Return the name of a variable; empty if it is no array."""
        return self._header(matrix)[2] if matrix.type == _MATRIX and matrix.stop > matrix.start else ""

    def value(self, matrix: _Element, depth: int) -> Value:
        """Return an array."""
        self._arrays += 1
        if self._arrays > MAX_ARRAYS or depth > MAX_DEPTH:
            raise _DamagedError(f"more than {MAX_ARRAYS:,} arrays, or {MAX_DEPTH} in one another")
        if matrix.type != _MATRIX:
            raise _DamagedError(f"no array at byte {matrix.start}")
        if matrix.start == matrix.stop:
            return _EMPTY
        flags, shape, _, position = self._header(matrix)
        kind, count = flags & 0xFF, math.prod(shape)
        if kind in _NUMBERS and not flags & _IS_COMPLEX:
            values = self._numbers(self.element(position, matrix.stop))
            # NumPy has limits for the sides of an empty array, too.
            if len(values) != count or math.prod(side or 1 for side in shape) > 2**32:
                raise _DamagedError(f"the array at byte {matrix.start} has {len(values)} values for shape {shape}")
            return values.astype(np.float64).reshape(shape, order="F")
        if kind == _CHAR:
            return self._text(self.element(position, matrix.stop))
        if kind == _CELL:
            return tuple(self._values(position, matrix, count, depth))
        if kind == _STRUCT:
            fields, position = self._fields(position, matrix.stop)
            values = self._values(position, matrix, count * len(fields), depth)
            rows = range(0, len(values), len(fields))
            return [dict(zip(fields, values[row : row + len(fields)], strict=True)) for row in rows]
        raise _DamagedError(
            f"the array at byte {matrix.start} is of class {kind}; expected numbers, text, cell, struct"
        )

    def _header(self, matrix):
        """Return the flags, the shape and the name of an array, and where its content begins."""
        flags = self.element(matrix.start, matrix.stop)
        shape = self.element(flags.following, matrix.stop)
        name = self.element(shape.following, matrix.stop)
        words, sides = self._numbers(flags).tolist(), self._numbers(shape).tolist()
        # NumPy takes up to 64 sides.
        are_whole = all(isinstance(number, int) and 0 <= number < 2**31 for number in [*words, *sides])
        if len(words) != 2 or not 2 <= len(sides) <= 32 or not are_whole:
            raise _DamagedError(f"the array at byte {matrix.start} has flags {words} and shape {sides}")
        return words[0], sides, self._text(name), name.following

    def _numbers(self, element):
        dtype, size = self._dtypes.get(element.type), element.stop - element.start
        if dtype is None or size % dtype.itemsize:
            raise _DamagedError(f"the numbers at byte {element.start} have type {element.type} and {size} bytes")
        return np.frombuffer(self._content, dtype, size // dtype.itemsize, element.start)

    def _text(self, element):
        if element.type not in _ENCODINGS:
            raise _DamagedError(f"the text at byte {element.start} has type {element.type}")
        encoding = _ENCODINGS[element.type]
        suffix = "" if encoding == "utf-8" else "-le" if self._order == "<" else "-be"
        return self._content[element.start : element.stop].decode(encoding + suffix)

    def _fields(self, position, end):
        """Return the names of a struct's fields, and where their values begin."""
        length = self.element(position, end)
        names = self.element(length.following, end)
        width, size = self._numbers(length).tolist(), names.stop - names.start
        if len(width) != 1 or not isinstance(width[0], int) or width[0] < 1 or not size or size % width[0]:
            raise _DamagedError(f"the fields at byte {names.start} have names of {width} bytes, together {size}")
        starts = range(names.start, names.stop, width[0])
        fields = [self._content[start : start + width[0]].partition(b"\0")[0].decode() for start in starts]
        if len(set(fields)) < len(fields):
            raise _DamagedError(f"the fields at byte {names.start} have names twice")
        return fields, names.following

    def _values(self, position, matrix, count, depth):
        if 8 * count > matrix.stop - position:  # each has a header of 8 bytes
            raise _DamagedError(f"the array at byte {matrix.start} has no room for {count} elements")
        values = []
        for _ in range(count):
            element = self.element(position, matrix.stop)
            values.append(self.value(element, depth + 1))
            position = element.following
        return values
