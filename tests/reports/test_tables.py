"""Tables as text and Markdown, character by character."""

import numpy as np
import pytest

from dcrl_jax.reports.tables import format_table

ROWS = [("MLPD", 7.584, 1455), ("a longer name", 11.336, 20)]
COLUMNS = ("method", "miss rate %", "people")


def test_plain_text_aligns_numbers_to_the_right():
    assert format_table(ROWS, COLUMNS).split("\n") == [
        "method         miss rate %  people",
        "-------------  -----------  ------",
        "MLPD                  7.58    1455",
        "a longer name        11.34      20",
    ]


def test_markdown_has_the_alignment():
    assert format_table(ROWS, COLUMNS, decimals=1, markdown=True).split("\n") == [
        "| method        | miss rate % | people |",
        "| ------------- | ----------: | -----: |",
        "| MLPD          |         7.6 |   1455 |",
        "| a longer name |        11.3 |     20 |",
    ]


def test_missing_values_are_dashes_and_numpy_numbers_are_numbers():
    rows = [("a", np.float32(1.25), np.int64(3)), ("b", None, None), ("c", float("nan"), 12)]
    assert format_table(rows, ("x", "y", "z"), decimals=2).split("\n") == [
        "x     y   z",
        "-  ----  --",
        "a  1.25   3",
        "b     -   -",
        "c     -  12",
    ]


def test_markdown_escapes_bars_and_keeps_rules_of_three():
    assert format_table([("p|q",)], ("x",), markdown=True).split("\n") == ["| x    |", "| ---- |", r"| p\|q |"]
    assert format_table([(1,)], ("x",), markdown=True).split("\n") == ["|   x |", "| --: |", "|   1 |"]


def test_table_without_rows_has_its_titles():
    assert format_table([], ("x", "yy")) == "x  yy\n-  --"


def test_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="has 2 values; expected 3"):
        format_table([("a", 1)], COLUMNS)
