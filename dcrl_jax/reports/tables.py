"""Tables of scores as text."""

import math
import numbers
from collections.abc import Sequence
from typing import NamedTuple


class Table(NamedTuple):
    """What ``format_table`` lays out as text."""

    rows: Sequence[Sequence[object]]
    columns: Sequence[str]
    decimals: int = 2


def format_table(
    rows: Sequence[Sequence[object]], columns: Sequence[str], decimals: int = 2, markdown: bool = False
) -> str:
    """Lays out a table as aligned text or as Markdown, which reads well as plain text too.

    Columns whose values are all numbers (or missing) are aligned to the right, the others to the left.

    Args:
        rows: one value a column: text, whole numbers (written as they are), other numbers (rounded), or None or NaN,
            which become "-".
        columns: the titles.
        decimals: digits after the point, of all numbers that are not whole by type.
        markdown: a Markdown table instead of plain text.

    Returns:
        the lines, without an end of line after the last.

    Raises:
        ValueError: a row of another length than ``columns``.
    """
    cells = [[format_value(value, decimals) for value in row] for row in rows]
    for row in cells:
        if len(row) != len(columns):
            raise ValueError(f"row {row} has {len(row)} values; expected {len(columns)}: {', '.join(columns)}")
    titles = list(columns)
    if markdown:
        titles, *cells = [[cell.replace("|", r"\|") for cell in line] for line in (titles, *cells)]
    is_numeric = [
        bool(rows) and all(row[place] is None or isinstance(row[place], numbers.Real) for row in rows)
        for place in range(len(columns))
    ]
    # Three characters are the shortest rule that every Markdown reader takes.
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
    """One cell as text, by the rules of ``format_table``."""
    if value is None:
        return "-"
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        return "-" if math.isnan(value) else f"{value:.{decimals}f}"
    return str(value)
