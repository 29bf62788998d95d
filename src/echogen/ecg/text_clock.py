"""The sampling rate of a table of text: as given, as its header states it, or as its column of time stamps says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import islice

import numpy as np

from echogen.arrays import Floats
from echogen.ecg.stamps import (
    UNITS_S,
    Clock,
    clock_of,
    counts_rows,
    counts_up,
    even_rate,
    follows_stamps,
    unit_of,
    usual_step,
)
from echogen.ecg.text import TextLayout, column_values, number, split
from echogen.errors import InputError

#: Rows whose stamps tell their step, and those that tell their digits.
_HEAD_ROWS, _DIGIT_ROWS = 200, 50
_OF_DAY = re.compile(r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2}(?:[.,:]\d+)?)")
_HALF_DAY_S, _DAY_S = 43_200.0, 86_400.0


def seconds_of(token: str) -> float | None:
    """Seconds of a clock time (`0:00.004`, `10:31:07.25`, with or without a date), or None if it is none."""
    found = _OF_DAY.search(token)
    if found is None:
        return None
    return 3600.0 * float(found[1] or 0) + 60.0 * float(found[2]) + float(found[3].replace(",", ".").replace(":", "."))


def time_column(lines: list[str], layout: TextLayout, column: int) -> tuple[Floats, bool] | None:
    """(lines,) a column of numbers or clock times, and whether it holds clock times in s; None where it holds neither."""
    fast = column_values(lines, layout, (column,)) if lines else None
    if fast is not None:
        return fast[0], False
    cells = [row[column] if column < len(row) else "" for row in (split(line, layout.delimiter) for line in lines)]
    numbers = [number(cell, layout.decimal) for cell in cells]
    if all(value is not None for value in numbers):
        return np.array(numbers, dtype=np.float64), False
    times = [seconds_of(cell) for cell in cells]
    if any(value is None for value in times):
        return None
    stamps = np.array(times, dtype=np.float64)
    days = np.cumsum(np.concatenate([[0], np.diff(stamps) < -_HALF_DAY_S]))
    return stamps + _DAY_S * days, True


def _resolution(lines: list[str], layout: TextLayout) -> float:
    """The unit of the last digit of the time stamps, in their own units."""
    most = 0
    for line in lines[:_DIGIT_ROWS]:
        cell = split(line, layout.delimiter)[layout.time or 0].strip(" '\"[]")
        if found := re.search(r"[.,](\d+)", cell):
            most = max(most, len(found[1]))
    return float(10.0**-most)


def table_clock(
    lines: Callable[[], Iterable[str]], layout: TextLayout, rows: int, last: str, given: float | None, where: str
) -> tuple[Clock | None, float, str, tuple[str, ...]]:
    """Clock (None: one sample after the other), rate in Hz, its `Source.rate_source`, and notes.

    Raises `InputError` without any rate, for several stated ones, and for one that contradicts the time stamps.
    """
    if given is None and len(layout.rates) > 1:
        listed = ", ".join(f"{rate:g}" for rate in layout.rates[:4])
        raise InputError(f"{where} states several sampling rates ({listed} Hz); give the true one as rate_hz (--ecg-rate).")
    stated = layout.rates[0] if len(layout.rates) == 1 else None
    known = given or stated
    source = "given" if given else "file"
    found = _clock(lines, layout, rows, last, known, where) if layout.time is not None and rows > 1 else None
    if found is not None:
        clock, own_clock = found
        if not own_clock:
            return (clock if len(clock.pieces) > 1 else None), clock.rate_hz, source, clock.notes
        if follows_stamps(clock.rate_hz, given, stated, where):
            rate = known if known and abs(known / clock.rate_hz - 1) < 1e-3 else clock.rate_hz
            source = source if rate == known else "time stamps"
            return (clock if len(clock.pieces) > 1 else None), rate, source, clock.notes
        note = f"The time stamps say {clock.rate_hz:.6g} Hz; they are not believed."
        return None, float(known or clock.rate_hz), source, (note,)
    if known is None:
        raise InputError(f"{where} does not state its sampling rate; give it as rate_hz (--ecg-rate).")
    return None, float(known), source, ()


def _clock(
    lines: Callable[[], Iterable[str]], layout: TextLayout, rows: int, last: str, known: float | None, where: str
) -> tuple[Clock, bool] | None:
    """The clock of the column of time stamps, and whether it states a rate of its own; None where it says nothing.

    A column that counts rows shows gaps where the rate is known, and states none.
    """
    column = layout.time or 0
    head = list(islice(lines(), _HEAD_ROWS))
    found = time_column(head, layout, column)
    if found is None or not counts_up(found[0]):
        return None
    stamps, in_s = found
    step = usual_step(stamps)
    if not step > 0:
        return None
    unit = 1.0 if in_s else layout.time_unit_s
    notes: tuple[str, ...] = ()
    own = True
    if unit is None and counts_rows(stamps):
        if known is None:
            return None
        unit, own = 1.0 / known, False
    elif unit is None:
        unit = unit_of(step, known)
        if unit is None:
            return None
        if known is None:
            name = next(name for name, size in UNITS_S.items() if size == unit)
            notes = (f"The unit of the time stamps is not stated and is taken for {name}.",)
    end = time_column([last], layout, column)
    if end is not None:
        rate = even_rate(stamps[0] * unit, end[0][0] * unit, rows, step * unit)
        if rate is not None and rows * _rounding(head, layout, unit, in_s) < rows / rate:
            return Clock(rate, rows, ((0, 0, rows),), notes), own
    whole = time_column(list(lines()), layout, column)
    if whole is None:
        raise InputError(f"{where} has time stamps that are no numbers; remove their column and give --ecg-rate.")
    clock = clock_of(whole[0] * unit, where, _rounding(head, layout, unit, in_s))
    return Clock(clock.rate_hz, clock.samples, clock.pieces, (*notes, *clock.notes)), own


def _rounding(head: list[str], layout: TextLayout, unit_s: float, in_s: bool) -> float:
    """The unit of the last digit of the time stamps, in s."""
    return _resolution(head, layout) * (1.0 if in_s else unit_s)
