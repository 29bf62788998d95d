"""The layout of a table of numbers: where its samples begin, and which columns are ECG leads, time stamps or neither."""

from __future__ import annotations

import re

import numpy as np

from echogen.arrays import Floats
from echogen.ecg.lab_exports import LabHeader, lab_header
from echogen.ecg.leads import canonical_lead, default_lead_names, lead_names, pick_leads
from echogen.ecg.rates import stated_rates
from echogen.ecg.stamps import counts_rows, counts_up
from echogen.ecg.text import TextLayout, is_comment, number, split
from echogen.ecg.text_clock import seconds_of
from echogen.ecg.units import is_garbled, mv_per_unit, seconds_per_unit, unit_in_name
from echogen.errors import InputError

MAXIMUM_COLUMNS = 64
_TIME_NAME = re.compile(
    r"(?:(elapsed|relative|absolute|system|unix|device)[ _]?)?"
    r"(time(?:[ _]?stamps?)?|t|timestamps?|secs?|seconds?|milliseconds?|ms|zeit|temps|tiempo|tempo|index|idx|counter|nseq|frame"
    r"|samples?|sample[ _]?(?:number|no|interval|index|#)|n|no|nr|row|date\w*)?"
    r"(?:[ _]*[(\[]?(s|secs?|seconds?|ms|msecs?|milliseconds?|us|µs|μs|usecs?|ns|min|hh.*)[)\]]?)?|unnamed.*",
    re.IGNORECASE,
)
#: Names of signals beside an ECG, which may rise slowly through all of the first lines and yet tell no time.
_OTHER_SIGNAL = re.compile(
    r"(rsp|resp|breath|ppg|pleth|eda|gsr|scr|emg|eog|eeg|abp|art|bp|pressure|temp|spo2|flow|volume|acc|gyr|mag)", re.IGNORECASE
)
_DIALECTS = (("\t", "."), ("\t", ","), (";", "."), (";", ","), (",", "."), (",", ","), (None, "."), (None, ","))
#: Lines that are looked at to tell the columns apart, and the fewest that show a column to hold nothing but 0 and 1.
_ROWS, _FEWEST_FLAGS = 200, 20
#: Lines after the first that most must be like.
_ALIKE_ROWS = 12

Dialect = tuple[str | None, str, list[float | None]]


def _dialects(line: str) -> list[Dialect]:
    """Delimiters and decimal signs by which a line is numbers, with its values; the first cell may be a date or clock time."""
    found: list[Dialect] = []
    for unread in (0, 1):
        for delimiter, decimal in _DIALECTS:
            if (delimiter is not None and delimiter not in line) or (delimiter == decimal and '"' not in line):
                continue
            cells = split(line, delimiter)
            values = [number(cell, decimal) for cell in cells]
            known = [value for value in values[unread:] if value is not None]
            dated = not unread or (len(values) > 1 and values[0] is None and re.search(r"\d", cells[0]))
            if known and dated and len(known) == len(values) - unread and np.isfinite(known).any():
                found.append((delimiter, decimal, values))
    return found


def _fits(line: str, dialect: Dialect) -> bool:
    values = [number(cell, dialect[1]) for cell in split(line, dialect[0])]
    dated = dialect[2][0] is None
    return len(values) == len(dialect[2]) and None not in values[1:] and (dated or values[0] is not None)


def _first_row(head: list[str], begin: int) -> tuple[int, Dialect] | None:
    """The line where the table begins and its dialect: the first line of numbers that most of the next lines are like."""
    fallback: tuple[int, Dialect] | None = None
    for n in range(begin, len(head)):
        if is_comment(head[n]):
            continue
        found = _dialects(head[n])
        rows = [line for line in head[n + 1 : n + 1 + _ALIKE_ROWS] if not is_comment(line)]
        for dialect in found:
            if sum(_fits(line, dialect) for line in rows) >= 0.5 * len(rows):
                return n, dialect
        if found and fallback is None:
            fallback = n, found[0]
    return fallback


def _decimal_comma(rows: list[str], headers: list[list[str]]) -> bool:
    """Tell whether lines such as `0,0008` are one number with a decimal comma, not two columns."""
    if not all(re.fullmatch(r"[+-]?\d+(,\d*)?", line.strip()) for line in rows):
        return False
    named_two = any(len(cells) == 2 for cells in headers)
    zeros = any(re.search(r",0\d", line) for line in rows)
    return not named_two and (zeros or (bool(headers) and len(headers[-1]) == 1))


def _comma_pairs(values: list[float | None], headers: list[list[str]], rows: list[str]) -> bool:
    """Tell whether commas stand both between the columns and as decimal sign, so that there are twice as many cells as names."""
    count = len(values)
    if count < 4 or count % 2 or not any(len(row) == count // 2 for row in headers):
        return False
    return all(re.fullmatch(r"\d+", cell.strip()) for line in rows[:50] for cell in line.split(",")[1::2])


def _header_cells(line: str, delimiter: str | None, count: int) -> list[str]:
    """The cells of a line of names; between white space a name may hold single spaces."""
    cells = split(line, delimiter)
    if delimiter is None and len(cells) != count:
        cells = re.split(r"\s{2,}|\t", line.strip())
    return [cell.strip().strip("'\"").strip() for cell in cells]


def _headers(head: list[str], first: int, delimiter: str | None, count: int, last_empty: bool) -> list[list[str]]:
    """Lines of names and units before the first sample, each with `count` cells."""
    plain = [_header_cells(line, delimiter, count) for line in head[:first] if not is_comment(line)]
    found = [cells for cells in plain if len(cells) == count]
    if not found and plain and len(plain[-1]) == count - 1 and count > 2:
        found = [[*plain[-1], ""] if last_empty else ["", *plain[-1]]]
    if not found:
        comments = [_header_cells(line.lstrip(" #%/"), delimiter, count) for line in head[:first] if line.strip(" #%/\r\n")]
        found = [cells for cells in comments if len(cells) == count and any(lead_names(cells))][-1:]
    return found


def _numbered_header(line: str, dialect: Dialect, rows: list[str]) -> list[str] | None:
    """The first line where it only numbers the columns, as data frames write it: `0,1,2` or `,0,1,2`; else None."""
    cells = [cell.strip(" '\"\r\n") for cell in split(line, dialect[0])]
    names = cells[1:] if len(cells) > 1 and not cells[0] else cells
    if names not in ([str(n) for n in range(len(names))], [str(n + 1) for n in range(len(names))]):
        return None
    if len(names) == len(cells) and len(names) < 3:
        # `0` may be a sample; all others written with a decimal sign say that it is not.
        others = [cell.strip() for row in rows[:50] for cell in split(row, dialect[0])]
        if len(rows) < _FEWEST_FLAGS or any(dialect[1] not in cell for cell in others if cell):
            return None
    return cells


def _unit_row(headers: list[list[str]]) -> list[str] | None:
    """The last header, if its cells are units; removed from the headers where names stand above it."""
    if not headers or not any(mv_per_unit(cell) is not None for cell in headers[-1]):
        return None
    of_units = [mv_per_unit(cell) is not None or seconds_per_unit(cell) is not None for cell in headers[-1] if cell]
    if len(headers) > 1 or (all(of_units) and not any(canonical_lead(cell) for cell in headers[-1])):
        return headers.pop()
    return None


def _matrix(rows: list[str], dialect: Dialect) -> Floats:
    """(rows, columns) of the first lines, nan where there is no number."""
    delimiter, decimal, values = dialect
    table = [[number(cell, decimal) for cell in cells] for line in rows if len(cells := split(line, delimiter)) == len(values)]
    return np.array([[np.nan if value is None else value for value in row] for row in table], dtype=np.float64)


def _only_flags(column: Floats) -> bool:
    present = column[np.isfinite(column)]
    return len(present) >= _FEWEST_FLAGS and bool(np.isin(present, (0.0, 1.0)).all()) and len(np.unique(present)) == 2


def _time_columns(names: list[str], units: list[str], table: Floats, clocks: list[int]) -> list[int]:
    """Columns of time stamps or row numbers, that which tells the time best first."""
    ranked: list[tuple[int, int]] = []
    for n, name in enumerate(names):
        named = bool(name) and _TIME_NAME.fullmatch(name) is not None and not name.lower().startswith("unnamed")
        counts = len(table) > 2 and counts_up(table[:, n])
        of_time = seconds_per_unit(units[n]) is not None or (named and _time_unit(name) is not None)
        if n in clocks:
            ranked.append((1, n))
        elif of_time and (counts or named or not canonical_lead(name)):
            ranked.append((0 if counts else 5, n))
        elif named:
            ranked.append(((2 if not counts_rows(table[:, n]) else 4) if counts else 6, n))
        elif counts and not _OTHER_SIGNAL.match(name) and (not canonical_lead(name) or len(table) >= _FEWEST_FLAGS):
            ranked.append((4 if counts_rows(table[:, n]) else 3, n))
    return [n for _, n in sorted(ranked)]


def _time_unit(name: str) -> float | None:
    """Seconds per unit where the name of a time column ends in one (`time_ms`, `Zeit (s)`, `ms`)."""
    found = _TIME_NAME.fullmatch(name)
    words = [word for word in (found[3], found[2]) if word] if found else []
    return next((unit for word in words if len(word) > 1 or word != "t" if (unit := seconds_per_unit(word)) is not None), None)


def _check_commas(pairs: bool, where: str) -> None:
    if pairs:
        raise InputError(
            f"{where} has commas both between its columns and within its numbers; export it with semicolons or tabs between them."
        )


def table_layout(head: list[str], where: str, encoding: str) -> TextLayout:
    """The layout of a table of numbers from its first lines. Raises `InputError` if it is none; `where` names it there."""
    lab = lab_header(head)
    found = _first_row(head, lab.first if lab else 0)
    if found is None:
        raise InputError(f"{where} is not a table of numbers; give an ECG with one column per lead.")
    first, dialect = found
    rows = [line for line in head[first:] if not is_comment(line)][:_ROWS]
    delimiter, decimal, values = dialect
    if (delimiter, decimal) == (",", ".") and len(values) == 2:
        plain = [line.strip().split(",") for line in head[:first] if not is_comment(line)]
        if _decimal_comma(rows, plain):
            delimiter, decimal, values = dialect = "\n", ",", [number(rows[0], ",")]
    if len(values) > MAXIMUM_COLUMNS:
        raise InputError(f"{where} has {len(values)} columns; give one lead per column and one sample per line.")
    count = len(values)
    table = _matrix(rows, dialect)
    if lab and len(lab.names) <= count:
        headers = []
        names, units = ([*own, *[""] * (count - len(own))] for own in (lab.names, lab.units))
    else:
        lab = None
        plain = [line.strip().split(",") for line in head[:first] if not is_comment(line)]
        _check_commas(delimiter == "," and decimal == "." and _comma_pairs(values, plain, rows), where)
        headers = _headers(head, first, delimiter, count, bool(len(table)) and bool(np.isnan(table[:, -1]).all()))
        if not headers and (cells := _numbered_header(rows[0], dialect, rows[1:])):
            headers, first, table = [cells], head.index(rows[0], first) + 1, table[1:]
        units = _unit_row(headers) or [""] * count
        names = headers[-1] if headers else [""] * count
    clocks = [n for n, value in enumerate(values) if value is None and seconds_of(split(rows[0], delimiter)[n]) is not None]
    readable = [n for n, value in enumerate(values) if value is not None]
    times = _time_columns(names, units, table, clocks)
    kept = [n for n in readable if n not in times] or readable
    kept = [n for n in kept if canonical_lead(names[n]) or not _only_flags(table[:, n])] or kept
    if not any(names[n] for n in kept):
        kept = [n for n in kept if np.isfinite(table[:, n]).any() or not len(table)] or kept
        chosen, leads = list(range(len(kept))), default_lead_names(len(kept))
    else:
        chosen, leads = pick_leads([names[n] for n in kept], where)
    columns = tuple(kept[n] for n in chosen)
    time = times[0] if times and times[0] not in columns else None
    mv, notes = _scales(columns, names, units, lab)
    return TextLayout(
        lab.program if lab else "text",
        first,
        delimiter,
        decimal,
        columns,
        leads,
        mv,
        tuple(stated_rates(head[:first])),
        encoding,
        time,
        None if time is None else _seconds_per_stamp(names[time], units[time]),
        _zeros(columns, lab),
        notes,
    )


def _seconds_per_stamp(name: str, unit: str) -> float | None:
    stated = seconds_per_unit(unit)
    return _time_unit(name) if stated is None else stated


def _zeros(columns: tuple[int, ...], lab: LabHeader | None) -> tuple[float, ...]:
    """Stored values of 0 mV: half the range of converters whose counts are stored."""
    converters = [_converter(lab, n) for n in columns]
    return tuple(2.0 ** (one[0] - 1) if one else 0.0 for one in converters)


def _converter(lab: LabHeader | None, column: int) -> tuple[int, float, float] | None:
    """Bits, volts of supply and gain of a column that holds counts; a damaged header may tell of fewer columns than there are."""
    return lab.adc[column] if lab and column < len(lab.adc) else None


def _scales(
    columns: tuple[int, ...], names: list[str], units: list[str], lab: LabHeader | None
) -> tuple[tuple[float | None, ...], tuple[str, ...]]:
    """MV per stored unit of each lead, None where no unit is stated, and notes on those that are guessed."""
    scales: list[float | None] = []
    notes: list[str] = []
    for n in columns:
        adc = _converter(lab, n)
        stated = mv_per_unit(units[n])
        scales.append(unit_in_name(names[n]) if stated is None else stated)
        if adc is not None:
            bits, supply, gain = adc
            scales[-1] = 1e3 * supply / gain / 2.0**bits
            notes.append(f"Counts of {bits} bits are taken for those of a sensor with {supply:g} V and a gain of {gain:g}.")
        elif is_garbled(units[n]):
            notes.append(f"The unit {units[n]!r} is taken for uV, with its micro sign lost.")
    return tuple(scales), tuple(dict.fromkeys(notes))
