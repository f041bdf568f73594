"""Tables as text and Markdown, character by character."""

import numpy as np
import pytest

from dcrl_jax.tables import format_table


def test_numbers_are_aligned_to_the_right():
    rows = [("MLPD", 7.584, 1455), ("a longer name", np.float32(11.25), None), ("MBNet", float("nan"), np.int64(20))]
    assert format_table(rows, ("method", "miss rate %", "people")).split("\n") == [
        "method         miss rate %  people",
        "-------------  -----------  ------",
        "MLPD                  7.58   1,455",
        "a longer name        11.25       -",
        "MBNet                    -      20",
    ]
    assert format_table([], ("x", "yy")).split("\n") == ["x  yy", "-  --"]


def test_markdown_escapes_bars_and_has_columns_of_three_characters():
    table = format_table([("p|q", 7.584, 1)], ("method", "miss rate %", "x"), decimals=1, markdown=True)
    assert table.split("\n") == [
        "| method | miss rate % |   x |",
        "| ------ | ----------: | --: |",
        r"| p\|q   |         7.6 |   1 |",
    ]


def test_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="has 2 values; expected 3"):
        format_table([("a", 1)], ("x", "y", "z"))
