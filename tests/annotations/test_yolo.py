"""YOLO text annotations, valid and invalid."""

import re

import pytest

from dcrl_jax.annotations import yolo
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.annotations.types import NO_SIZE, OUTSIDE, Annotation
from dcrl_jax.annotations.yolo import BEYOND
from dcrl_jax.errors import InputError


def parse(text):
    return yolo.parse(text, (640, 480), ("person", "bicycle", "car"), "00004N.txt")


def test_centre_and_relative_size_become_corner_and_pixels():
    (person, car, outside), *rest = parse("0 0.5 0.25 0.1 0.2\n2 0.125 0.75 0.25 0.5\n0 0.0 0.5 0.1 0.2")
    assert person == Annotation("person", pytest.approx((288, 72, 64, 96)), 0, False)
    assert car == Annotation("car", pytest.approx((0, 240, 160, 240)), 0, False)
    assert outside.box == pytest.approx((-32, 192, 64, 96))  # stays as annotated
    assert rest == [[], []]
    rounded, spaced = "0 0.5 1.000001 1.000001 0.2", "0  0.5  0.5\t0.25 0.5  \r\n\r\n   \r\n1 0.5 0.5 0.5 0.5"
    for text, count in (("", 0), (rounded, 1), (spaced, 2)):
        annotations, *rest = parse(text)
        assert (len(annotations), rest) == (count, [[], []])


def test_polygon_and_rotated_box_become_the_box_around_them():
    corners = "1 0.25 0.5 0.5 0.25 0.75 0.5 0.5 0.75"
    triangle = "0 0.1 0.2 0.30 0.2 0.2 0.6"
    (rotated, person, five), *rest = parse(f"{corners}\n{triangle}\n2 0 0 1 0 1 1 0 1 0 0")
    assert rotated == Annotation("bicycle", (160, 120, 320, 240))
    assert person == Annotation("person", pytest.approx((64, 96, 128, 192)))
    assert five == Annotation("car", (0, 0, 640, 480))
    assert rest == [[], []]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        *((f"0 0.5 0.5{end}", "4 fields instead of the five") for end in (" 0.1", " 0.1  ")),
        ("0 0.5 0.5 0.1 0.2 0.9", "6 fields .* confidence .* remove it"),
        ("0 0.5 0.5 0.1 0.2 0.9 1", "7 fields .* track, is no part of labels"),
        ("0 0.5 0.5 0.1 0.2 0.9 0.9 0.8", "8 fields instead"),
        *((f"{line} 0.1 0.2", "not a whole number") for line in ("person 0.5 0.5", "0.0 0.5 0.5", "0 0.5 0,5")),
        *((f"{line} 0.1 0.2", "not a whole number") for line in ("\u0661 0.5 0.5", "0 0.5 nan", "0 1_0 .5", "0 inf 0")),
        ("3 0.5 0.5 0.1 0.2", "unknown class 3; known are 0 person, 1 bicycle, 2 car"),
        ("-1 0.5 0.5 0.1 0.2", "unknown class -1"),
        *(("0 320 0.5 0.1 0.2", "x = 320 is not relative"), ("0 0.5 0.5 0.1 2", "h = 2 is not relative")),
        ("0 0.5 0.5 0.1 0.2 0.6 2.5", "y3 = 2.5 is not relative"),
    ],
)
def test_each_malformed_line_is_named_with_its_number_and_problem(line, problem):
    annotations, findings, (first, second) = parse(f"9 0.5 0.5 0.1 0.2\n0 0.5 0.5 0.1 0.2\n{line}\n")
    assert (len(annotations), findings) == (1, [])
    assert first.startswith("00004N.txt:1: unknown class 9")
    assert re.match(rf"00004N\.txt:3: {problem}", second)


@pytest.mark.parametrize(
    ("line", "kind", "text", "is_kept"),
    [
        ("0 1.01 0.5 0.1 0.2", BEYOND, "x = 1.01 is not in 0..1", True),
        ("0 0.5 -0.01 0.1 0.2", BEYOND, "y = -0.01 is not in 0..1", True),
        ("0 0.5 0.5 1.2 0.2", BEYOND, "w = 1.2 is not in 0..1", True),
        ("0 0.5 0.5 0.6 -0.1 0.9 0.8", BEYOND, "y2 = -0.1 is not in 0..1", True),
        ("0 0.5 0.5 0 0.2", NO_SIZE, "a box of no size, w = 0, h = 0.2", False),
        ("0 0.5 0.5 0.1 -0.00001", NO_SIZE, "a box of no size, w = 0.1, h = -1e-05", False),
        ("0 0.5 0.5 0.5 0.6 0.5 0.7", NO_SIZE, "a box of no size, w = 0, h = 0.2", False),
        ("0 1.00005 0.5 0.00001 0.2", OUTSIDE, "a box completely outside the image", False),
        ("0 0.5 -0.00005 0.1 0.00001", OUTSIDE, "a box completely outside the image", False),
        ("0 1.3 0.5 0.1 0.2", OUTSIDE, "a box completely outside the image", False),
    ],
)
def test_doubtful_box_is_a_finding_with_its_line(line, kind, text, is_kept):
    annotations, (finding,), problems = parse(f"\n{line}\n")
    assert (len(annotations), problems) == (is_kept, [])
    assert (finding.kind, finding.text) == (kind, f"00004N.txt:2: {text}")


def test_twenty_of_many_problems_are_shown():
    raise_if_any([], "reading", "remedy")
    with pytest.raises(InputError) as caught:
        raise_if_any([f"file {i:02}" for i in range(23)], "reading", "remedy")
    lines = str(caught.value).splitlines()
    assert lines == ["reading: 23 problems", *(f"  file {i:02}" for i in range(20)), "  and 3 more", "remedy"]
