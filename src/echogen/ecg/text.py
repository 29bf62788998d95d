"""ECGs as text: CSV, TSV or plain columns of numbers, one column a lead."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from echogen.ecg.source import Floats, Source, canonical_lead, default_lead_names, mv_per_unit, pick_leads, unit_in_name
from echogen.errors import InputError

MAXIMUM_BYTES = 200_000_000
MAXIMUM_COLUMNS = 64
_COMMENT = ("#", "%", "//")
_MISSING = {"", "nan", "na", "n/a", "null", "none", "-", "--", "?"}
_TIME_NAME = re.compile(
    r"(elapsed[ _]?)?(time|t|timestamp|secs?|seconds?|ms|index|idx|samples?|sample[ _]?(number|no|interval)|n|no|nr|date\w*)?"
    r"([ _]*[(\[]?(s|sec|seconds|ms|us|hh.*)[)\]]?)?|unnamed.*",
    re.IGNORECASE,
)
_RATE_COMMENT = re.compile(r"(?:sampling|sample|rate|freq|fs)[^0-9]*?(\d+(?:\.\d+)?)\s*(?:hz)?\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class TextLayout:
    """How a text file holds its ECG: lines to skip, delimiter (None: white space), decimal sign, columns, names, units."""

    format: str
    skip: int
    delimiter: str | None
    decimal: str
    columns: tuple[int, ...]
    lead_names: tuple[str, ...]
    mv: tuple[float | None, ...]
    rate_hz: float | None
    encoding: str = "utf-8-sig"


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


def _split(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return line.split()
    return next(csv.reader([line.strip("\r\n")], delimiter=delimiter), [])


def _is_comment(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith(_COMMENT)


def _dialect(line: str) -> tuple[str | None, str, list[float | None]] | None:
    """Delimiter, decimal sign and values of a line of numbers, or None if it is none; the first may be a date or clock time."""
    for unread in (0, 1):
        for delimiter, decimal in (("\t", "."), ("\t", ","), (";", "."), (";", ","), (",", "."), (None, "."), (None, ",")):
            if delimiter is not None and delimiter not in line:
                continue
            values = [number(token, decimal) for token in _split(line, delimiter)]
            known = [value for value in values[unread:] if value is not None]
            if known and len(known) == len(values) - unread and np.isfinite(known).any():
                return delimiter, decimal, values
    return None


def table_layout(head: list[str], path: Path, encoding: str) -> TextLayout:
    """The layout of a table of numbers from its first lines. Raises `InputError` if it is none."""
    where = f"The text file {path.name}"
    first = next((n for n, line in enumerate(head) if not _is_comment(line) and _dialect(line)), None)
    if first is None:
        raise InputError(f"{where} is not a table of numbers; give an ECG with one column per lead.")
    delimiter, decimal, values = _dialect(head[first]) or (None, ".", [])
    if len(values) > MAXIMUM_COLUMNS:
        raise InputError(f"{where} has {len(values)} columns; give one lead per column and one sample per line.")
    rows = [r for line in head[first:] if not _is_comment(line) and len(r := _split(line, delimiter)) == len(values)]
    headers = [_split(line, delimiter) for line in head[:first] if not _is_comment(line)]
    headers = [[token.strip().strip("'\"").strip() for token in tokens] for tokens in headers if len(tokens) == len(values)]
    units: list[float | None] = [None] * len(values)
    if len(headers) > 1 and any(mv_per_unit(token) is not None for token in headers[-1]):
        units = [mv_per_unit(token) for token in headers.pop()]
    names = headers[-1] if headers else [""] * len(values)
    units = [unit if unit is not None else unit_in_name(name) for unit, name in zip(units, names, strict=True)]
    kept = [n for n, value in enumerate(values) if value is not None]
    if len(kept) > 1 and (names[0] == "" or _TIME_NAME.fullmatch(names[0])) and kept[0] == 0:
        column = np.array([number(row[0], decimal) or 0.0 for row in rows])
        steps = np.diff(column)
        named = bool(names[0])
        if named or (len(steps) and (steps > 0).all() and np.ptp(steps) <= 0.2 * np.median(steps)):
            kept = kept[1:]
    if not any(names) or not any(names[n] for n in kept):
        chosen, lead_names = list(range(len(kept))), default_lead_names(len(kept))
    else:
        chosen, lead_names = pick_leads([names[n] for n in kept], where)
        if not any(canonical_lead(names[n]) for n in kept):
            lead_names = default_lead_names(len(chosen))
    columns = tuple(kept[n] for n in chosen)
    comments = (line for line in head[:first] if line.lstrip().startswith(_COMMENT))
    rates = [float(found[1]) for line in comments if (found := _RATE_COMMENT.search(line.strip()))]
    return TextLayout(
        "text",
        first,
        delimiter,
        decimal,
        columns,
        lead_names,
        tuple(units[n] for n in columns),
        rates[0] if rates else None,
        encoding,
    )


def _data_lines(path: Path, layout: TextLayout) -> Iterator[str]:
    with path.open(encoding=layout.encoding, errors="replace", newline=None) as file:
        yield from (line for line in islice(file, layout.skip, None) if not _is_comment(line))


def _values(lines: list[str], layout: TextLayout, path: Path, first: int) -> Floats:
    if layout.decimal == "." and '"' not in lines[0]:
        try:
            table = np.loadtxt(lines, delimiter=layout.delimiter, usecols=layout.columns, ndmin=2, comments=None)
            return np.ascontiguousarray(table.T)
        except (ValueError, IndexError):
            pass  # Empty cells or worse: read with care below.
    table = np.empty((len(lines), len(layout.columns)))
    single = layout.columns == (0,) and layout.delimiter in (None, ",")
    for row, line in enumerate(lines):
        tokens = [line] if single and layout.decimal == "," else _split(line, layout.delimiter)
        for n, column in enumerate(layout.columns):
            value = number(tokens[column], layout.decimal) if column < len(tokens) else None
            if value is None:
                raise InputError(f"Sample {first + row + 1} of {path.name} is not a number: {line.strip()[:40]!r}.")
            table[row, n] = value
    return table.T


def open_text(path: Path, layout: TextLayout, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open a text file of a known layout; without a stated unit its own counts, else mV."""
    rate = rate_hz or layout.rate_hz
    if rate is None:
        raise InputError(f"The text file {path.name} does not state its sampling rate; give it as rate_hz (--ecg-rate).")
    scale = np.array([mv_of_unit or own or 1.0 for own in layout.mv])
    samples = sum(1 for _ in _data_lines(path, layout))

    def read(first: int, last: int) -> Floats:
        lines = list(islice(_data_lines(path, layout), first, last))
        return _values(lines, layout, path, first) * scale[:, None]

    return Source(layout.format, layout.lead_names, float(rate), samples, read)
