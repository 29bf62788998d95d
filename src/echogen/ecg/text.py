"""ECGs as text: CSV, TSV or plain columns of numbers, one column a lead."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from echogen.arrays import Floats
from echogen.errors import InputError

MAXIMUM_BYTES = 200_000_000
_COMMENT = ("#", "%", "//")
#: Beginnings of lines that are no comments.
_NUMERIC = frozenset("0123456789-+.'\"")
_MISSING = {"", "nan", "na", "n/a", "null", "none", "-", "--", "?"}
_BRACKETED_OR_PLAIN = re.compile(r"\[[^\]]*\]|\S+")


@dataclass(frozen=True)
class TextLayout:
    """The layout of an ECG in a text file.

    format: its name for people. skip: lines before the first sample. delimiter: None for white space. decimal: the decimal sign.
    columns, lead_names: of the leads. mv: mV per stored unit of each lead, None where no unit is stated.
    rates: the sampling rates in Hz that its header states. time: the column of time stamps or row numbers, or None.
    time_unit_s: seconds per unit of that column, None where it is not stated. zeros: stored value of 0 mV of each lead.
    notes: sentences on what was guessed or left out.
    """

    format: str
    skip: int
    delimiter: str | None
    decimal: str
    columns: tuple[int, ...]
    lead_names: tuple[str, ...]
    mv: tuple[float | None, ...]
    rates: tuple[float, ...] = ()
    encoding: str = "utf-8-sig"
    time: int | None = None
    time_unit_s: float | None = None
    zeros: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


def text_encoding(start: bytes) -> str | None:
    """The encoding of a text file from its first bytes, or None if they are no text."""
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    if b"\x00" in start or sum(byte < 9 or 13 < byte < 32 for byte in start) > 0:
        return None
    try:
        start[: max(len(start) - 4, 1)].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # A letter cut at the end of the sample is no fault.
        return "latin-1" if error.start < len(start) - 8 else "utf-8-sig"
    return "utf-8-sig"


def number(token: str, decimal: str = ".") -> float | None:
    """A number, nan for an empty or missing value, None for other text."""
    plain = token.strip().strip("'\"").strip().lower()
    if plain in _MISSING:
        return float("nan")
    if decimal == ",":
        plain = plain.replace(".", "").replace(",", ".")
    try:
        return float(plain) if "_" not in plain else None
    except ValueError:
        return None


def split(line: str, delimiter: str | None) -> list[str]:
    """The cells of a line; quotes and, between white space, square brackets keep theirs together. A newline delimits nothing."""
    if delimiter is None:
        return _BRACKETED_OR_PLAIN.findall(line) if "[" in line else line.split()
    if delimiter == "\n":
        return [line.strip()]
    return next(csv.reader([line.strip("\r\n")], delimiter=delimiter), [])


def is_comment(line: str) -> bool:
    """Tell whether a line holds no sample: empty, or a comment."""
    return not line.strip() or line.lstrip().startswith(_COMMENT)


def data_lines(path: Path, layout: TextLayout) -> Iterator[str]:
    """The lines of a text file that hold samples."""
    with path.open(encoding=layout.encoding, errors="replace", newline=None) as file:
        yield from (line for line in islice(file, layout.skip, None) if line[0] in _NUMERIC or not is_comment(line))


def column_values(lines: list[str], layout: TextLayout, columns: tuple[int, ...]) -> Floats | None:
    """(columns, lines) the numbers of these columns, read fast; None where a cell is empty or no number."""
    comma = layout.decimal == ","
    if comma and layout.delimiter == ",":
        return None
    try:
        table = np.loadtxt(
            (line.replace(",", ".") for line in lines) if comma else lines,
            delimiter=layout.delimiter if layout.delimiter != "\n" else None,
            usecols=columns,
            ndmin=2,
            comments=None,
            quotechar='"' if '"' in lines[0] else None,
        )
    except (ValueError, IndexError):
        return None
    return np.ascontiguousarray(table.T)


def read_values(lines: list[str], layout: TextLayout, where: str, first: int) -> Floats:
    """(leads, lines) the stored numbers of the leads; `first` counts the rows before these."""
    fast = column_values(lines, layout, layout.columns) if lines else None
    if fast is not None:
        return fast
    table = np.empty((len(lines), len(layout.columns)))
    for row, line in enumerate(lines):
        tokens = split(line, layout.delimiter)
        for n, column in enumerate(layout.columns):
            value = number(tokens[column], layout.decimal) if column < len(tokens) else None
            if value is None:
                raise InputError(f"Sample {first + row + 1} of {where} is not a number: {line.strip()[:40]!r}.")
            table[row, n] = value
    return table.T
