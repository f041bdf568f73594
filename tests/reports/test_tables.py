"""Tables as text and Markdown, character by character."""

import numpy as np
import pytest

from dcrl_jax.reports.tables import format_table


@pytest.mark.parametrize(
    ("rows", "columns", "options", "expected"),
    [
        (
            [("MLPD", 7.584, 1455), ("a longer name", np.float32(11.25), None), ("MBNet", float("nan"), np.int64(20))],
            ("method", "miss rate %", "people"),
            {},
            [
                "method         miss rate %  people",
                "-------------  -----------  ------",
                "MLPD                  7.58    1455",
                "a longer name        11.25       -",
                "MBNet                    -      20",
            ],
        ),
        (
            [("p|q", 7.584, 1)],
            ("method", "miss rate %", "x"),
            {"decimals": 1, "markdown": True},
            [
                "| method | miss rate % |   x |",
                # Three characters at least, which some parsers need.
                "| ------ | ----------: | --: |",
                r"| p\|q   |         7.6 |   1 |",
            ],
        ),
        ([], ("x", "yy"), {}, ["x  yy", "-  --"]),
    ],
    ids=["text", "Markdown", "no rows"],
)
def test_numbers_are_aligned_to_the_right(rows, columns, options, expected):
    assert format_table(rows, columns, **options).split("\n") == expected


def test_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="has 2 values; expected 3"):
        format_table([("a", 1)], ("x", "y", "z"))
