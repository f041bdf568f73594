"""Average precision on cases worked by hand."""

import math

import pytest
from scoring_cases import ANYONE, make_truth, ranked

from dcrl_jax.evaluation.average_precision import average_precision
from dcrl_jax.evaluation.rules import Subset

PEOPLE = ((0, 0, 10, 20), (30, 0, 10, 20), (60, 0, 10, 20))
TRUTHS = [make_truth("a", *PEOPLE, (90, 0, 50, 50), labels=("person", "person", "person", "people"))]


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ("ttt", 1.0),
        ("t", 1 / 3),
        ("tft", (1 + 2 / 3) / 3),
        # Precision 1/2 at the first person is lifted to the 2/3 of the second.
        ("ftt", (2 / 3 + 2 / 3) / 3),
        ("fftftt", (1 / 2 + 1 / 2 + 1 / 2) / 3),
        ("itiitt", 1.0),
        ("fff", 0.0),
        ("", 0.0),
    ],
)
def test_area_under_the_interpolated_curve(outcomes, expected):
    """Outcomes by descending score: true (t), false (f) or ignored (i)."""
    people = iter(PEOPLE)
    boxes = {"f": (300, 0, 10, 20), "i": (100, 10, 10, 20)}
    detections = ranked(*(next(people) if letter == "t" else boxes[letter] for letter in outcomes))
    assert average_precision(TRUTHS, {"a": detections}, ANYONE) == pytest.approx(expected)
    assert math.isnan(average_precision(TRUTHS, {"a": detections}, Subset("tall", min_height_px=100)))
