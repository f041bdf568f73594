"""Tables as text or Markdown."""

import math
import numbers
from collections.abc import Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """The arguments of ``format_table``."""

    rows: Sequence[Sequence[object]]
    columns: Sequence[str]
    decimals: int = 2


def format_table(
    rows: Sequence[Sequence[object]], columns: Sequence[str], decimals: int = 2, markdown: bool = False
) -> str:
    """Return a table as aligned plain text or as Markdown.

    Columns whose values are all numbers (or missing) are aligned to the right, the others to the left.

    Args:
        rows: one value per column: text, integers (1,000), other numbers (rounded), or None or NaN, which become "-".
        columns: the titles.
        decimals: digits after the decimal point of numbers that are not integers.
        markdown: whether to return a Markdown table.

    Returns:
        The lines, without a line feed after the last.

    Raises:
        ValueError: a row does not have one value per column.
    """
    cells = [[format_value(value, decimals) for value in row] for row in rows]
    for row in cells:
        if len(row) != len(columns):
            raise ValueError(f"row {row} has {len(row)} values; expected {len(columns)}: {', '.join(columns)}")
    titles = list(columns)
    if markdown:
        titles, *cells = [[cell.replace("|", r"\|") for cell in line] for line in (titles, *cells)]
    is_numeric = [
        bool(rows) and all(row[index] is None or isinstance(row[index], numbers.Real) for row in rows)
        for index in range(len(columns))
    ]
    # Some Markdown parsers need at least three characters in the line below the titles.
    narrowest = 3 if markdown else 0
    widths = [max(narrowest, *map(len, column)) for column in zip(titles, *cells, strict=True)]

    def lay_out(line: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if numeric else cell.ljust(width)
            for cell, width, numeric in zip(line, widths, is_numeric, strict=True)
        ]
        return f"| {' | '.join(padded)} |" if markdown else "  ".join(padded).rstrip()

    rules = [
        "-" * (width - 1) + ":" if markdown and numeric else "-" * width
        for width, numeric in zip(widths, is_numeric, strict=True)
    ]
    return "\n".join([lay_out(titles), lay_out(rules), *map(lay_out, cells)])


def format_value(value: object, decimals: int) -> str:
    """Return one cell as text, by the rules of ``format_table``."""
    if value is None:
        return "-"
    if isinstance(value, numbers.Integral):
        return f"{value:,}"
    if isinstance(value, numbers.Real):
        return "-" if math.isnan(value) else f"{value:.{decimals}f}"
    return str(value)
