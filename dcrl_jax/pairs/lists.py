"""Lists of pairs: CSV files with the columns ``visible`` and ``lwir``, and others."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from dcrl_jax.annotations.modality_words import MODALITY_WORDS
from dcrl_jax.annotations.text import read_text
from dcrl_jax.errors import InputError

LIST_SUFFIXES = (".csv", ".tsv")


class Row(NamedTuple):
    """A line of a list."""

    line: int
    cells: dict[str, str]  # by the name of the column, without columns that are empty in this line


def read_rows(
    path: Path, required: Sequence[str], optional: Sequence[str], problems: list[str], one_is_enough: bool = False
) -> Iterator[Row]:
    """Yield the lines of a list; every line that lacks a required cell becomes a problem instead.

    A comma, a semicolon or a tab separates the cells. A first line with the word ``visible`` or ``lwir``, or another
    one of these modalities, is a header, which names the columns in any order and among others. Without a header, the
    required columns come first, in their order.

    Args:
        path: the file.
        required: names of columns. ``visible`` and ``lwir`` also have the other words of their modalities.
        optional: names of columns that only a header can announce.
        problems: gets one line each.
        one_is_enough: whether a line needs only one of the required cells, and a header one of their columns.

    Raises:
        InputError: the file cannot be read or is no such list, a required column is missing, or a column is there
            twice.
    """
    text = read_text(path, f"a list with the columns {', '.join(required)}", "surrogateescape")
    first_line = re.sub('"[^"]*"', "", text.partition("\n")[0])
    delimiter = max(",;\t", key=first_line.count)
    columns, width, start = None, None, 1
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if reader.line_num > start:
                raise csv.Error("a quote goes on in the next line")
            start = reader.line_num + 1
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if columns is None:
                columns, is_header = _columns(f"{path}:{reader.line_num}", cells, required, optional)
                width = len(cells) if is_header else None
                missing = [name for name in required if name not in columns]
                if missing and not (one_is_enough and len(missing) < len(required)):
                    raise InputError(f"{path}:{reader.line_num}: no column {' and '.join(missing)}.")
                if is_header:
                    continue
            if width and any(cells[width:]):
                problems.append(f"{path}:{reader.line_num}: {delimiter.join(row)!r}; expected {width} cells.")
                continue
            given = {name: cells[index] for name, index in columns.items() if index < len(cells) and cells[index]}
            lacking = [name for name in required if name not in given]
            if lacking and not (one_is_enough and len(lacking) < len(required)):
                found, joined = delimiter.join(row), (" or " if one_is_enough else " and ").join(required)
                problems.append(f"{path}:{reader.line_num}: {found!r}; expected paths in {joined}.")
                continue
            yield Row(reader.line_num, given)
    except csv.Error as error:
        expected = ", ".join(required)
        raise InputError(f"{path}:{start}: {error}; expected a list with the columns {expected}.") from error


def _columns(place, cells, required, optional):
    """Return the index of each column, and whether the first line is a header."""
    words = [cell.lower() for cell in cells]
    if not any(word in modality.certain for word in words for modality in MODALITY_WORDS.values()):
        return {name: index for index, name in enumerate(required)}, False
    columns = {}
    for name in (*required, *optional):
        spellings = MODALITY_WORDS[name].certain if name in MODALITY_WORDS else (name,)
        indices = [index for index, word in enumerate(words) if word in spellings]
        if len(indices) > 1:
            raise InputError(f"{place}: {len(indices)} columns {name}, {' and '.join(cells[i] for i in indices)}.")
        if indices:
            columns[name] = indices[0]
    return columns, True
