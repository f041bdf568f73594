"""YOLO text annotations, good and bad."""

import numpy as np
import pytest

from dcrl_jax.annotations import yolo
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.errors import InputError

CLASSES = ("person", "bicycle", "car")
WIDTH, HEIGHT = 640, 480


def parse(text):
    return yolo.parse(text, WIDTH, HEIGHT, CLASSES, "00004N.txt")


def annotations_of(text):
    annotations, problems = parse(text)
    assert problems == []
    return annotations


def test_centre_and_relative_size_become_corner_and_pixels():
    person, car = annotations_of("0 0.5 0.25 0.1 0.2\n2 0.125 0.75 0.25 0.5\n")
    assert person == Annotation("person", pytest.approx((288, 72, 64, 96)), 0, False)
    assert car == Annotation("car", pytest.approx((0, 240, 160, 240)), 0, False)


def test_spaces_blank_lines_and_carriage_returns_are_no_matter():
    text = "0  0.5  0.5\t0.25 0.5  \r\n\r\n   \r\n1 0.5 0.5 0.5 0.5"
    assert [annotation.label for annotation in annotations_of(text)] == ["person", "bicycle"]


def test_empty_file_is_an_image_without_objects():
    assert annotations_of("") == []


def test_box_that_reaches_over_the_border_stays_as_annotated():
    (annotation,) = annotations_of("0 0.0 0.5 0.1 0.2")
    np.testing.assert_allclose(annotation.box, (-32, 192, 64, 96))


def test_rounding_beyond_one_is_accepted():
    assert len(annotations_of("0 0.5 1.000001 1.000001 0.2")) == 1


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
def test_malformed_line_is_named_with_file_line_and_cause(line, problem):
    annotations, (found,) = parse(f"0 0.5 0.5 0.1 0.2\n\n{line}\n")
    assert len(annotations) == 1
    assert found.startswith("00004N.txt:3: ")
    assert problem in found


def test_every_malformed_line_is_a_problem():
    annotations, (first, second) = parse("9 0.5 0.5 0.1 0.2\n0 0.5 0.5 0.1 0.2\n0 0.5\n")
    assert len(annotations) == 1
    assert first.startswith("00004N.txt:1: unknown class 9")
    assert second.startswith("00004N.txt:3: 2 fields")


def test_many_problems_are_counted_and_the_first_twenty_written_out():
    with pytest.raises(InputError) as caught:
        raise_if_any([f"file {i:02}" for i in range(23)], "reading", "remedy")
    lines = str(caught.value).splitlines()
    assert lines[0] == "reading: 23 problems"
    assert lines[1:21] == [f"  file {i:02}" for i in range(20)]
    assert lines[21:] == ["  ... and 3 more", "remedy"]


def test_no_problems_raise_nothing():
    raise_if_any([], "reading", "remedy")
