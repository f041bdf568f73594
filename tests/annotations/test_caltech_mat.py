"""MAT files as SciPy writes and reads them, and those that anybody may have made."""

import contextlib
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import scipy.io
from caltech_files import NOWHERE, write_vbb

from dcrl_jax.annotations.caltech import mat, vbb
from dcrl_jax.errors import InputError


def save(path, compressed=False, **content):
    with path.open("wb") as file:
        scipy.io.savemat(file, content, format="5", do_compression=compressed)
    return path


def element(kind, content, stated=None):
    size = len(content) if stated is None else stated
    return struct.pack("<II", kind, size) + content + bytes(-len(content) % 8)


def matrix(kind, shape, *content, name=b"A"):
    flags = element(6, struct.pack("<II", kind, 0))
    sides = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, b"".join([flags, sides, element(1, name), *content]))


def header(version=0x0100):
    return bytes(124) + struct.pack("<H", version) + b"IM"


def assert_same(value, expected):
    """Compare with what SciPy reads."""
    if isinstance(value, tuple):
        assert len(value) == expected.size
        for own, other in zip(value, expected.ravel(order="F"), strict=True):
            assert_same(own, other)
    elif isinstance(value, list):
        assert len(value) == expected.size
        for own, other in zip(value, expected.ravel(order="F"), strict=True):
            assert tuple(own) == other.dtype.names
            for name in own:
                assert_same(own[name], other[name])
    elif isinstance(value, str):
        assert value == expected.item()
    else:
        assert value.dtype == np.float64
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("compressed", [False, True])
def test_values_are_those_that_scipy_reads(tmp_path, compressed):
    cell = np.empty((2, 3), object)
    for index, value in enumerate(["person", "Männer", np.arange(6.0).reshape(2, 3), np.zeros((0, 5)), 7, {"x": 1.5}]):
        cell.flat[index] = value
    kinds = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
    structs = np.zeros((1, 2), [("id", object), ("cell", object)])
    structs[0, 0], structs[0, 1] = (1.0, cell), ("two", np.zeros((2, 2, 2)))
    content = {"A": structs, "other": 3.0, "empty": np.zeros((0, 0)), "flag": True}
    content |= {kind: np.array([[1, 2], [3, 100]], kind) for kind in kinds}
    path = save(tmp_path / "a.mat", compressed, **content)
    read = scipy.io.loadmat(path)
    for name in content:
        assert_same(mat.read(path, name), read[name])
    assert mat.read(path, "absent") is None


def test_big_endian_file_is_read(tmp_path):
    body = struct.pack(">II", 14, 64) + struct.pack(">IIII", 6, 8, 6, 0) + struct.pack(">IIii", 5, 8, 1, 2)
    body += struct.pack(">HH", 1, 1) + b"A\0\0\0" + struct.pack(">IIdd", 9, 16, 1.5, -2.0)
    (tmp_path / "a.mat").write_bytes(bytes(124) + b"\1\0MI" + body)
    assert mat.read(tmp_path / "a.mat", "A").tolist() == [[1.5, -2.0]]


NUMBER = matrix(6, (1, 1), element(9, bytes(8)), name=b"")
NESTED = matrix(1, (1, 1), NUMBER)
for _ in range(20):
    NESTED = matrix(1, (1, 1), NESTED)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no header of a MAT file"),
        (b"\0" * 200, "no header of a MAT file"),  # of Level 4
        (header(0x0200) + bytes(99), "of version 7.3, HDF5; save it as version 7"),
        (header() + matrix(6, (2**30, 2**30), element(9, bytes(8))), "has 1 values for shape"),
        (header() + matrix(6, (1, -1), element(9, bytes(8))), r"shape \[1, -1\]"),
        (header() + matrix(6, (1,) * 40, element(9, bytes(8))), "and shape"),
        (header() + matrix(6, (1, 1), element(9, bytes(8), 2**31)), "longer than the file has room for"),
        (header() + matrix(6, (1, 1), element(77, bytes(8))), "have type 77"),
        (header() + matrix(1, (1, 2**31 - 1), NUMBER), "has no room for 2147483647 elements"),
        (header() + matrix(2, (1, 2**31 - 1), element(5, b"\4\0\0\0"), element(1, b"abc\0")), "no room for 2147483647"),
        (header() + matrix(2, (1, 9), element(5, b"\0\0\0\0"), element(1, b"")), "names of .* bytes, together 0"),
        (header() + matrix(3, (1, 1), element(1, b"cls")), "of class 3; expected numbers, text, cell, struct"),
        (header() + matrix(16, (1, 1), NUMBER), "of class 16; expected"),
        (header() + matrix(17, (1, 1), NUMBER), "of class 17; expected"),
        (header() + NESTED, "or 16 in one another"),
        (header() + element(15, zlib.compress(bytes(2**26 + 1))), "compressed parts have more than 67,108,864 bytes"),
        (header() + element(15, zlib.compress(matrix(1, (1, 2**22), bytes(8 * 2**22)))), "no array at byte"),
        (
            header() + element(15, zlib.compress(matrix(1, (1, 2000), element(14, b"") * 2000))),
            "more than 1,000 arrays",
        ),
    ],
    ids=[
        *("empty", "level 4", "hdf5", "giant", "negative", "sides", "long", "type", "cells", "structs", "no fields"),
        *("object", "function", "opaque", "nested", "zip bomb", "zeros", "arrays"),
    ],
)
def test_file_that_states_too_much_is_refused_without_the_memory(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(mat, "MAX_ARRAYS", 1000)
    path = tmp_path / "a.vbb"
    path.write_bytes(content)
    assert len(content) < 200_000
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=rf"^{path}: no MAT file, or cut off \(.*{message}.*\); get it again$"):
            vbb.read(path)
        assert tracemalloc.get_traced_memory()[1] < 3 * mat.MAX_BYTES
    finally:
        tracemalloc.stop()


def test_no_changed_word_of_a_vbb_ends_in_another_error(tmp_path):
    path = write_vbb(tmp_path / "V000.vbb", [[("person", (1, 2, 3, 4), NOWHERE)], []])
    content, rng = path.read_bytes(), np.random.default_rng(0)
    words = (0, 1, 2, 14, 15, 17, 0x10000000, 0x7FFFFFFF, 0xFFFFFFFF)
    for position in rng.choice(range(128, len(content) - 4, 4), 300):
        path.write_bytes(content[:position] + struct.pack("<I", rng.choice(words)) + content[position + 4 :])
        with contextlib.suppress(InputError):
            assert len(vbb.read(path)) == 2
