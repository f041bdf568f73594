"""YOLO text annotations, valid and invalid."""

import pytest

from dcrl_jax.annotations import yolo
from dcrl_jax.annotations.problems import raise_if_any
from dcrl_jax.annotations.types import Annotation
from dcrl_jax.errors import InputError


def parse(text):
    return yolo.parse(text, 640, 480, ("person", "bicycle", "car"), "00004N.txt")


def test_centre_and_relative_size_become_corner_and_pixels():
    (person, car, outside), problems = parse("0 0.5 0.25 0.1 0.2\n2 0.125 0.75 0.25 0.5\n0 0.0 0.5 0.1 0.2")
    assert person == Annotation("person", pytest.approx((288, 72, 64, 96)), 0, False)
    assert car == Annotation("car", pytest.approx((0, 240, 160, 240)), 0, False)
    assert outside.box == pytest.approx((-32, 192, 64, 96))  # stays as annotated
    assert problems == []
    rounded, spaced = "0 0.5 1.000001 1.000001 0.2", "0  0.5  0.5\t0.25 0.5  \r\n\r\n   \r\n1 0.5 0.5 0.5 0.5"
    for text, count in (("", 0), (rounded, 1), (spaced, 2)):
        annotations, problems = parse(text)
        assert (len(annotations), problems) == (count, [])


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        *(("0 0.5 0.5 0.1", "4 fields"), ("0 0.5 0.5 0.1 0.2 0.9", "6 fields")),
        *((f"{line} 0.1 0.2", "not a whole number") for line in ("person 0.5 0.5", "0.0 0.5 0.5", "0 0.5 0,5")),
        ("3 0.5 0.5 0.1 0.2", "unknown class 3; known are 0 person, 1 bicycle, 2 car"),
        ("-1 0.5 0.5 0.1 0.2", "unknown class -1"),
        *(("0 1.01 0.5 0.1 0.2", "x = 1.01"), ("0 0.5 -0.01 0.1 0.2", "y = -0.01"), ("0 320 0.5 0.1 0.2", "x = 320")),
        *(("0 0.5 0.5 nan 0.2", "w = nan"), ("0 0.5 0.5 0.1 inf", "h = inf")),
        *(("0 0.5 0.5 0 0.2", "no size"), ("0 0.5 0.5 0.1 -0.00001", "no size")),
        *(("0 1.00005 0.5 0.00001 0.2", "outside"), ("0 0.5 -0.00005 0.1 0.00001", "outside")),
    ],
)
def test_each_malformed_line_is_named_with_its_number_and_problem(line, problem):
    annotations, (first, second) = parse(f"9 0.5 0.5 0.1 0.2\n0 0.5 0.5 0.1 0.2\n{line}\n")
    assert len(annotations) == 1
    assert first.startswith("00004N.txt:1: unknown class 9")
    assert second.startswith("00004N.txt:3: ")
    assert problem in second


def test_twenty_of_many_problems_are_shown():
    raise_if_any([], "reading", "remedy")
    with pytest.raises(InputError) as caught:
        raise_if_any([f"file {i:02}" for i in range(23)], "reading", "remedy")
    lines = str(caught.value).splitlines()
    assert lines == ["reading: 23 problems", *(f"  file {i:02}" for i in range(20)), "  and 3 more", "remedy"]
