"""YOLO text annotations, good and bad."""

import numpy as np
import pytest

from dcrl_jax.annotations import yolo
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.errors import InputError

CLASSES = ("person", "bicycle", "car")
WIDTH, HEIGHT = 640, 480


def write(tmp_path, text):
    path = tmp_path / "00004N.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(tmp_path, text):
    return yolo.read(write(tmp_path, text), WIDTH, HEIGHT, CLASSES)


def test_centre_and_relative_size_become_corner_and_pixels(tmp_path):
    person, car = read(tmp_path, "0 0.5 0.25 0.1 0.2\n2 0.125 0.75 0.25 0.5\n")
    assert person == Annotation("person", pytest.approx((288, 72, 64, 96)), 0, False)
    assert car == Annotation("car", pytest.approx((0, 240, 160, 240)), 0, False)


def test_spaces_blank_lines_carriage_returns_and_byte_order_mark_are_no_matter(tmp_path):
    text = "\ufeff0  0.5  0.5\t0.25 0.5  \r\n\r\n   \r\n1 0.5 0.5 0.5 0.5"
    assert [annotation.label for annotation in read(tmp_path, text)] == ["person", "bicycle"]


def test_empty_file_is_an_image_without_objects(tmp_path):
    assert read(tmp_path, "") == []


def test_box_that_reaches_over_the_border_stays_as_annotated(tmp_path):
    (annotation,) = read(tmp_path, "0 0.0 0.5 0.1 0.2")
    np.testing.assert_allclose(annotation.box, (-32, 192, 64, 96))


def test_rounding_beyond_one_is_accepted(tmp_path):
    assert len(read(tmp_path, "0 0.5 1.000001 1.000001 0.2")) == 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0 0.5 0.5 0.1", "4 fields"),
        ("0 0.5 0.5 0.1 0.2 0.9", "6 fields"),
        ("person 0.5 0.5 0.1 0.2", "not a whole number"),
        ("0.0 0.5 0.5 0.1 0.2", "not a whole number"),
        ("0 0.5 0,5 0.1 0.2", "not a whole number"),
        ("3 0.5 0.5 0.1 0.2", "unknown class 3; known are 0 person, 1 bicycle, 2 car"),
        ("-1 0.5 0.5 0.1 0.2", "unknown class -1"),
        ("0 1.01 0.5 0.1 0.2", "x = 1.01"),
        ("0 0.5 -0.01 0.1 0.2", "y = -0.01"),
        ("0 320 0.5 0.1 0.2", "x = 320"),
        ("0 0.5 0.5 nan 0.2", "w = nan"),
        ("0 0.5 0.5 0.1 inf", "h = inf"),
        ("0 0.5 0.5 0 0.2", "no size"),
        ("0 0.5 0.5 0.1 -0.00001", "no size"),
        ("0 1.00005 0.5 0.00001 0.2", "outside"),
        ("0 0.5 -0.00005 0.1 0.00001", "outside"),
    ],
)
def test_malformed_line_is_named_with_file_line_and_cause(tmp_path, line, problem):
    with pytest.raises(InputError) as caught:
        read(tmp_path, f"0 0.5 0.5 0.1 0.2\n\n{line}\n")
    assert "00004N.txt:3: " in str(caught.value)
    assert problem in str(caught.value)


def test_all_malformed_lines_are_in_one_message(tmp_path):
    with pytest.raises(InputError) as caught:
        read(tmp_path, "9 0.5 0.5 0.1 0.2\n0 0.5 0.5 0.1 0.2\n0 0.5\n")
    assert "2 problems" in str(caught.value)
    assert "00004N.txt:1: unknown class 9" in str(caught.value)
    assert "00004N.txt:3: 2 fields" in str(caught.value)


def test_missing_file_and_binary_file_are_input_errors(tmp_path):
    with pytest.raises(InputError, match=r"absent\.txt: cannot be read"):
        yolo.read(tmp_path / "absent.txt", WIDTH, HEIGHT, CLASSES)
    with pytest.raises(InputError, match=r"00004N\.txt: is not a text file"):
        read(tmp_path, b"\xff\xd8\xff\xe0")


def test_many_problems_are_counted_and_the_first_twenty_written_out():
    with pytest.raises(InputError) as caught:
        raise_if_any([f"file {i:02}" for i in range(23)], "reading", "remedy")
    lines = str(caught.value).splitlines()
    assert lines[0] == "reading: 23 problems"
    assert lines[1:21] == [f"  file {i:02}" for i in range(20)]
    assert lines[21:] == ["  ... and 3 more", "remedy"]


def test_no_problems_raise_nothing():
    raise_if_any([], "reading", "remedy")
