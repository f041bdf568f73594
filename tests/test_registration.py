"""Registration of thermal images: hand values, OpenCV's own functions, and what is refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from ml_collections import ConfigDict

from dcrl_jax import homography
from dcrl_jax.errors import InputError
from dcrl_jax.homography import apply
from dcrl_jax.registration import (
    Registration,
    keep_numbers,
    map_boxes,
    read_registration,
    register_lwir,
    registration_of,
)

PART = Registration((10.0, 20.0, 50.0, 60.0))
HOMOGRAPHY = Registration((1.9, 0.1, -12.0, -0.05, 2.1, -30.0, 1e-4, -2e-4, 1.0))
MATRIX = np.reshape(HOMOGRAPHY.numbers, (3, 3))


def rendered(box, size):
    """A thermal image, uint8, with a bright box, x, y, width, height."""
    x, y, width, height = box
    image = np.full((size[1], size[0]), 20, np.uint8)
    image[y : y + height, x : x + width] = 220
    return image


def test_stretch_doubles_with_the_border_repeated():
    pixels = np.array([[0, 100]], np.uint8)
    assert register_lwir(pixels, Registration(()), (4, 2)).tolist() == [[0, 25, 75, 100]] * 2
    assert register_lwir(pixels, Registration((0.0, 0.0, 2.0, 1.0)), (4, 2)).tolist() == [[0, 25, 75, 100]] * 2


def test_stretch_averages_where_the_thermal_image_is_larger():
    pixels = np.array([[0, 10, 100, 50], [20, 30, 0, 50]], np.uint16)
    assert register_lwir(pixels, Registration(()), (2, 1)).tolist() == [[15, 50]]


def test_the_visible_image_shows_a_part_of_the_thermal_one():
    pixels = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8)
    part = Registration((2.0, 1.0, 6.0, 4.0))
    np.testing.assert_array_equal(register_lwir(pixels, part, (4, 3)), pixels[1:4, 2:6])
    beyond = Registration((6.0, -1.0, 10.0, 2.0))
    assert register_lwir(pixels, beyond, (4, 3)).tolist() == [[0, 0, 0, 0], [6, 7, 0, 0], [14, 15, 0, 0]]


@pytest.mark.parametrize("registration", [Registration(()), PART, HOMOGRAPHY])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(64, 80), (64, 80, 1), (64, 80, 3)])
def test_number_type_and_channels_are_kept(registration, dtype, shape):
    pixels = np.random.default_rng(0).integers(1, 200, shape).astype(dtype)
    registered = register_lwir(pixels, registration, (128, 96))
    assert (registered.dtype, registered.shape) == (pixels.dtype, (96, 128, *shape[2:]))
    assert registered.max() <= pixels.max()


def test_values_equal_opencvs_homography():
    """OpenCV counts pixels from 0 at their centres."""
    pixels = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 256, (64, 80)).astype(np.float32), (5, 5), 1.0)
    shift = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    matrix = np.linalg.inv(shift) @ MATRIX @ shift
    expected = cv2.warpPerspective(pixels, matrix, (140, 110), flags=cv2.INTER_LINEAR, borderValue=-1e6)  # pyright: ignore
    registered, is_inside = register_lwir(pixels, HOMOGRAPHY, (140, 110)), expected >= 0
    assert is_inside.mean() > 0.5
    # OpenCV rounds positions to a 32nd of a pixel.
    np.testing.assert_allclose(registered[is_inside], expected[is_inside], atol=4)
    outside = register_lwir(np.full((64, 80), 255, np.uint8), HOMOGRAPHY, (140, 110)) == 0
    np.testing.assert_array_equal(outside[expected < -9e5], True)


def test_boxes_of_stretch_and_part_by_hand():
    boxes = np.array([[10, 20, 4, 8], [30, 40, 20, 20]])
    stretched = map_boxes(boxes, Registration(()), (80, 64), (160, 192))
    assert stretched.tolist() == [[20, 60, 8, 24], [60, 120, 40, 60]]
    assert map_boxes(boxes, PART, (80, 64), (80, 120)).tolist() == [[0, 0, 8, 24], [40, 60, 40, 60]]
    assert map_boxes(np.zeros((0, 4)), PART, (80, 64), (80, 120)).shape == (0, 4)


def test_boxes_of_a_homography_surround_the_corners_that_opencv_maps():
    x, y, width, height = 20.0, 25.0, 8.0, 16.0
    corners = np.array([[[x, y], [x + width, y], [x, y + height], [x + width, y + height]]])
    mapped = cv2.perspectiveTransform(corners, MATRIX)[0]
    expected = [*mapped.min(axis=0), *np.ptp(mapped, axis=0)]
    for matrix in (HOMOGRAPHY.numbers, tuple(-number for number in HOMOGRAPHY.numbers)):
        boxes = map_boxes(np.array([[x, y, width, height]]), Registration(matrix), (80, 64), (140, 110))
        np.testing.assert_allclose(boxes[0], expected)


@pytest.mark.parametrize(
    ("registration", "lwir_size", "size"),
    [
        (Registration(()), (80, 64), (160, 192)),
        (Registration(()), (160, 128), (53, 61)),
        (PART, (80, 64), (160, 120)),
        (HOMOGRAPHY, (80, 64), (140, 110)),
        (Registration((-2.0, 0.0, 160.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0)), (80, 64), (160, 128)),  # mirrored
        (Registration((0.0, -1.5, 96.0, 1.5, 0.0, 0.0, 0.0, 0.0, 1.0)), (80, 64), (96, 120)),  # turned
    ],
)
def test_the_box_lands_on_its_pattern(registration, lwir_size, size):
    box = (24, 28, 12, 20)
    registered = register_lwir(rendered(box, lwir_size), registration, size)
    x, y, width, height = map_boxes(np.array([box]), registration, lwir_size, size)[0]
    # The edge of the pattern is where its brightness is half, to the half pixel.
    columns, rows = np.flatnonzero((registered > 120).any(axis=0)), np.flatnonzero((registered > 120).any(axis=1))
    found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(found, [x, y, x + width, y + height], atol=0.75)


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        (None, None),
        ("", None),
        ((), None),
        ("stretch", ()),
        (" Stretch ", ()),
        ("10, 20, 50, 60", (10, 20, 50, 60)),
        ("(10 20;50\t60)", (10, 20, 50, 60)),
        ((10, 20.0, 50, 60), (10, 20, 50, 60)),
        ([[2, 0, 1], [0, 2, 1], [0, 0, 1]], (2, 0, 1, 0, 2, 1, 0, 0, 1)),
        (np.eye(3), (1, 0, 0, 0, 1, 0, 0, 0, 1)),
    ],
)
def test_numbers_of_an_option(value, numbers):
    registration = read_registration(value, Path("/nowhere"))
    assert registration == (None if numbers is None else Registration(numbers))
    if registration is not None:
        assert read_registration(registration.describe(), Path()) == registration


def test_files_below_the_folder(tmp_path):
    expected = Registration((2.0, 0.0, -1.5, 0.0, 2.0, 1.0, 0.0, 1e-05, 1.0))
    matrix = np.reshape(expected.numbers, (3, 3))
    (tmp_path / "calib").mkdir()
    np.save(tmp_path / "calib" / "H.npy", matrix)
    np.savetxt(tmp_path / "H.txt", matrix, header="thermal to visible")
    (tmp_path / "Übersicht 1.csv").write_bytes(b"\xef\xbb\xbf2;0;-1.5\r\n0;2;1\r\n0;1e-5;1\r\n")
    (tmp_path / "H.json").write_text(json.dumps(matrix.tolist()))
    (tmp_path / "printed.txt").write_text(str(matrix))
    for name in ("calib/H.npy", "H.txt", "Übersicht 1.csv", "H.json", "printed.txt", str(tmp_path / "H.json")):
        assert read_registration(name, tmp_path) == expected, name


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("H.txt", "H.txt: No such file or directory; expected 'stretch'"),
        ("strech", "strech: No such file"),
        (".", "Is a directory"),
        ("pickle.npy", "pickle.npy: cannot be read"),
        ("cut.npy", "cut.npy: cannot be read"),
        ("empty.npy", "empty.npy: cannot be read"),
        ("words.txt", "words.txt: not only numbers"),
        ("none.txt", "none.txt: not only numbers"),
        ("binary.txt", "binary.txt: cannot be read"),
        ("cut.json", "cut.json: cannot be read"),
        ("object.json", "object.json: not only numbers"),
        ("ragged.json", "ragged.json: not only numbers"),
        ("bools.json", "bools.json: not only numbers"),
        ("bool.json", r"bool.json: not only numbers \(Expected `float \| array`, got `bool` - at `\$\[0\]`\)"),
        ("nested.json", "nested.json: not only numbers"),
        ("large.json", "large.json: not only numbers .*out of range"),
        ("large.npy", "large.npy: cannot be read"),
        ("zip.npy", "zip.npy: cannot be read"),
        ("header.npy", r"header.npy: cannot be read \("),
        ("long.txt", "long.txt: cannot be read .more than 1,048,576 bytes"),
        ("/dev/zero", "/dev/zero: neither a file nor a folder"),
        ("1_0, 20, 300, 400", "1_0, 20, 300, 400: No such file"),
        ("1, 2, 3", "3 numbers; expected"),
        ("1 0 0 0 1 0", "6 numbers; expected .* add the third row 0, 0, 1"),
        ((1, 0, 0, 0, "1", 0, 0, 0, 1), "not only numbers"),
        (True, "not only numbers"),
        (5, "1 numbers"),
        ("0, 0, nan, 5", "not finite"),
        ("0, 0, inf, 5", "not finite"),
        ("5, 5, 5, 9", "a part of 0 x 4 pixels"),
        ("500, 300, 200, 100", "a part of -300 x -200 pixels; expected .* x1 < x2"),
        ("0, 0, 0.9, 0.8", "a part of 0.9 x 0.8 pixels; expected pixels"),
        ("1 2 3 2 4 6 0 0 1", "a singular matrix"),
        ("0 0 0 0 0 0 0 0 0", "a singular matrix"),
    ],
)
def test_other_options_are_refused(value, message, tmp_path):
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "whole.npy", np.eye(3))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:-9])
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "words.txt").write_text("1 0 0\n0 one 0\n0 0 1")
    (tmp_path / "none.txt").write_text("# a comment\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe1")
    (tmp_path / "cut.json").write_text("[1, 0")
    (tmp_path / "object.json").write_text('{"H": [1, 0, 0, 0, 1, 0, 0, 0, 1]}')
    (tmp_path / "ragged.json").write_text("[[1, 0, 0], [0, 1], [0, 0, 1]]")
    (tmp_path / "bools.json").write_text("[true, true, true, true]")
    (tmp_path / "bool.json").write_text("[true, 20, 300, 400]")
    (tmp_path / "nested.json").write_text("[" * 100_000)
    (tmp_path / "large.json").write_text(f"[1, 2, 3, {10**400}]")
    header = (tmp_path / "whole.npy").read_bytes().replace(b"(3, 3), }              ", b"(3, 30000000000000), }")
    (tmp_path / "large.npy").write_bytes(header)
    (tmp_path / "header.npy").write_bytes((tmp_path / "whole.npy").read_bytes().replace(b"(3, 3), }", b"((3, 3, }"))
    (tmp_path / "zip.npy").write_bytes(b"PK\3\4")
    (tmp_path / "long.txt").write_text("1 " * 2**20)
    with pytest.raises(InputError, match=message):
        read_registration(value, tmp_path)


def test_a_config_keeps_the_numbers_of_a_file(tmp_path):
    (tmp_path / "H.txt").write_text("10 20 50 60\n")
    data = ConfigDict({"manual_dir": str(tmp_path), "options": {"lwir_to_visible": "H.txt"}}).lock()
    assert registration_of(data) == PART
    for _ in range(2):
        keep_numbers(data)
        assert data.options.lwir_to_visible == "10.0, 20.0, 50.0, 60.0"
    for unchanged in ({}, {"lwir_to_visible": None}, {"lwir_to_visible": (10, 20, 50, 60)}):
        data = ConfigDict({"manual_dir": None, "options": unchanged}).lock()
        keep_numbers(data)
        assert data.options.to_dict() == unchanged
    data = ConfigDict({"manual_dir": None, "options": {"lwir_to_visible": "H.txt"}}).lock()
    with pytest.raises(InputError, match=r"^config.data.options.lwir_to_visible H.txt: .*data.manual_dir, which is"):
        keep_numbers(data)


@pytest.mark.parametrize(
    ("registration", "words"),
    [
        (Registration(()), "Resize the thermal image to the size of the visible one."),
        (PART, "x1, y1, x2, y2 = 10, 20, 50, 60 of the thermal image"),
        (
            Registration((1, 0, 1234.56789, 0, 1, -3.0, 1.23456789e-5, 0, 1)),
            "(1 0 1234.56789; 0 1 -3; 1.23456789e-05",
        ),
        (Registration(tuple(range(9))), "homography (0 1 2; 3 4 5; 6 7 8, by rows), which maps thermal to visible"),
    ],
)
def test_instructions_have_the_numbers(registration, words):
    assert words in registration.instructions()


def test_an_image_that_is_too_long_is_refused():
    with pytest.raises(InputError, match="a side of more than 32000 pixels"):
        register_lwir(np.zeros((2, 40_000), np.uint8), Registration(()), (20_000, 2))
    with pytest.raises(InputError, match="a side of more than 32000 pixels"):
        register_lwir(np.zeros((2, 40), np.uint8), Registration(()), (2, 40_000))
    assert register_lwir(np.zeros((2, 31_999), np.uint8), Registration(()), (9, 2)).shape == (2, 9)


@pytest.mark.parametrize("numbers", [(0.0, 0.0, 1e6, 1e6), (1e-4, 0, 0, 0, 1e-4, 0, 0, 0, 1)])
def test_a_part_far_beyond_the_thermal_image_takes_no_memory(numbers, monkeypatch):
    monkeypatch.setattr(homography, "_MAX_SAMPLES", 100_000)
    sampled = []
    monkeypatch.setattr(homography, "apply", lambda matrix, x, y: sampled.append(np.size(x)) or apply(matrix, x, y))
    registered = register_lwir(np.full((48, 64), 9, np.uint8), Registration(numbers), (80, 64))
    assert registered.shape == (64, 80)
    assert max(sampled) == 80 * 64 * 4**2


@pytest.mark.parametrize(
    "registration",
    [
        Registration((100.0, 0.0, 200.0, 64.0)),  # beside the thermal image
        Registration((1.0, 0.0, 500.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)),  # beside the visible image
        Registration((1.0, 0.0, 0.0, 0.0, 1.0, 0.0, -0.05, 0.0, 1.0)),  # a horizon through the thermal image
    ],
)
def test_a_registration_without_a_common_part_is_refused(registration):
    with pytest.raises(InputError, match="80x64 pixels does not lie in its visible image of 160x128"):
        register_lwir(np.zeros((64, 80), np.uint8), registration, (160, 128))
    with pytest.raises(InputError, match="does not lie in"):
        map_boxes(np.array([[1, 1, 2, 2]]), registration, (80, 64), (160, 128))
