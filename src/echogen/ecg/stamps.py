"""Time stamps of samples: the sampling rate they state, the gaps between them, and samples put where their stamps say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from echogen.arrays import Floats
from echogen.errors import InputError

#: Rates that make sense of stamps whose unit is not stated, in Hz.
_SLOWEST_HZ, _FASTEST_HZ = 50.0, 5000.0
#: Units that are tried for such stamps, in s.
UNITS_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
#: A stated rate and the stamps differ when they differ by this share.
_CONTRADICTS = 0.01
#: Below this share they are the same, and the stated one is exact.
_SAME = 1e-3
#: A step this much longer than usual, in sampling intervals, is a gap.
_GAP_STEPS = 1.6
#: Rows over which the usual step is measured, so that stamps rounded to few digits average out.
_BLOCK_ROWS = 64
#: Stamps that stray further from an even clock than this are refused, in s.
_LARGEST_STRAY_S = 0.05
#: Gaps may be this many times longer than what was recorded, and an hour more.
_LONGEST_GAPS, _LONGEST_GAPS_S = 20, 3600.0
#: No recording is longer, in s.
_LONGEST_SPAN_S = 1e8
#: Samples of an array that are looked at for a row that counts.
HEAD_SAMPLES = 2000
#: Fewer rows than this say nothing.
_FEWEST_ROWS = 8
#: A column that rises through this many rows is no ECG.
_FEWEST_COUNTED = 50
#: So many of the steps must be forward in a column that counts rows or time.
_FORWARD = 0.5


@dataclass(frozen=True)
class Clock:
    """An even clock that time stamps lie on.

    rate_hz: samples per second. samples: of the whole clock, gaps included. pieces: (first sample, first row, rows) of each
    stretch without a gap, in order. notes: sentences on what was guessed.
    """

    rate_hz: float
    samples: int
    pieces: tuple[tuple[int, int, int], ...]
    notes: tuple[str, ...] = ()


def counts_up(values: Floats) -> bool:
    """Tell whether a column counts rows or time: it never falls, mostly rises, and by steps that are about equal."""
    if len(values) < 3 or (np.diff(values[:_FEWEST_COUNTED]) < 0).any() or not np.isfinite(values).all():
        return False
    steps = np.diff(values)
    if (steps < 0).any() or (steps > 0).mean() < _FORWARD:
        return False
    rising = steps[steps > 0]
    usual = float(np.median(rising))
    even = np.mean(np.abs(rising - usual) <= 0.5 * usual)
    return bool(even >= 0.8 if len(values) >= 20 else np.ptp(rising) <= 0.2 * usual)


def counts_rows(values: Floats) -> bool:
    """Tell whether stamps are whole numbers one apart: they count samples and tell no time."""
    steps = np.diff(values)
    return len(steps) > 0 and not (values % 1).any() and float(np.median(steps)) == 1.0


def usual_step(stamps: Floats) -> float:
    """The interval of stamps that may be rounded and have gaps: the median over blocks of rows of their mean step."""
    rows = min(_BLOCK_ROWS, len(stamps) - 1)
    blocks = (stamps[rows:] - stamps[:-rows])[:: max(rows // 4, 1)] / rows
    return float(np.median(blocks))


def unit_of(step: float, rate_hz: float | None) -> float | None:
    """Seconds per unit of stamps with this step: the unit that fits the rate, or else one that makes an ECG; None without."""
    if rate_hz is not None:
        fitting = [unit for unit in UNITS_S.values() if abs(1.0 / (step * unit) / rate_hz - 1) <= _CONTRADICTS]
        if fitting:
            return fitting[0]
    return next((unit for unit in UNITS_S.values() if _SLOWEST_HZ <= 1.0 / (step * unit) <= _FASTEST_HZ), None)


def _rounded(rate_hz: float, tolerance: float) -> float:
    """The whole number near a rate, or one with a half or quarter, where the stamps cannot tell them apart."""
    for parts in (1, 2, 4):
        near = round(rate_hz * parts) / parts
        if abs(near - rate_hz) <= tolerance * rate_hz:
            return near
    return rate_hz


def even_rate(first: float, last: float, rows: int, step: float) -> float | None:
    """The rate in Hz of stamps in s whose span fits their first steps, so that no gap lies between; None where one may.

    step: the usual step of the first rows.
    """
    if not last > first or rows < _FEWEST_ROWS:
        return None
    mean = (last - first) / (rows - 1)
    rate = _rounded(1.0 / mean, 1.0 / (rows - 1))
    return rate if abs((last - first) * rate - (rows - 1)) < 1.0 and abs(step / mean - 1) < 0.02 else None


def clock_of(stamps_s: Floats, where: str, resolution_s: float = 0.0) -> Clock:
    """The clock of the time stamps of all rows, (rows,) in s. resolution_s: what they are rounded to.

    Raises `InputError` where they go backwards, stray far from an even clock, or leave gaps longer than any recording.
    """
    rows = len(stamps_s)
    if rows < _FEWEST_ROWS or not np.isfinite(stamps_s).all():
        raise InputError(f"{where} has time stamps that are missing or too few; remove their column and give --ecg-rate.")
    steps = np.diff(stamps_s)
    if (steps < 0).any():
        row = int(np.argmax(steps < 0))
        raise InputError(
            f"{where} has time stamps that go back from {stamps_s[row]:.3f} s to {stamps_s[row + 1]:.3f} s at row {row + 2};"
            " save its parts as files of their own."
        )
    if stamps_s[-1] - stamps_s[0] > _LONGEST_SPAN_S:
        raise InputError(f"{where} has time stamps that span years; remove their column and give --ecg-rate.")
    step = usual_step(stamps_s)
    if not step > 0:
        raise InputError(f"{where} has time stamps that stand still; remove their column and give --ecg-rate.")
    if (steps == 0).mean() > 1 - _FORWARD and resolution_s < step:
        return _packets(stamps_s, where)
    breaks = np.flatnonzero(steps > max(_GAP_STEPS * step, step + 1.5 * resolution_s)) + 1
    starts = np.concatenate([[0], breaks])
    sizes = np.diff(np.concatenate([starts, [rows]]))
    ends = starts + sizes - 1
    long = sizes >= min(_FEWEST_ROWS, int(sizes.max()))
    spans = (stamps_s[ends] - stamps_s[starts])[long]
    counted = float((sizes[long] - 1).sum())
    if counted <= 0 or spans.sum() <= 0:
        raise InputError(f"{where} has time stamps with a gap after every sample; remove their column and give --ecg-rate.")
    tolerance = max((resolution_s + 0.5 * step) * long.sum() / spans.sum(), 1e-6)
    rate = _rounded(counted / float(spans.sum()), min(tolerance, 0.002))
    pieces, end, stray = [], 0, 0.0
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
        at = max(round(float(stamps_s[start] - stamps_s[0]) * rate), end)
        own = stamps_s[start : start + size] - stamps_s[0] - (at + np.arange(size)) / rate
        stray = max(stray, float(np.abs(own).max()))
        pieces.append((at, start, size))
        end = at + size
    if stray > max(_LARGEST_STRAY_S, 2 * resolution_s):
        raise InputError(
            f"{where} has uneven time stamps: they stray up to {stray:.2f} s from an even clock of {rate:g} Hz;"
            " resample it evenly, or remove their column and give --ecg-rate."
        )
    check_gaps(end, rows, rate, where)
    noted = stray > 2.0 / rate + 2 * resolution_s
    note = f"The time stamps are uneven, by up to {1000 * stray:.0f} ms; the samples are read as {rate:g} Hz throughout."
    return Clock(rate, end, _joined(pieces), (note,) if noted else ())


def check_gaps(samples: int, recorded: int, rate_hz: float, where: str) -> None:
    """Raise `InputError` where a clock of so many samples holds far more gaps than the samples that were recorded."""
    if samples > _LONGEST_GAPS * recorded + _LONGEST_GAPS_S * rate_hz:
        raise InputError(f"{where} has time stamps with gaps of hours; save its parts as files of their own.")


def _joined(pieces: list[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    """Pieces without gaps between them made one."""
    out = pieces[:1]
    for piece in pieces[1:]:
        at, row, size = out[-1]
        if piece[0] == at + size:
            out[-1] = (at, row, size + piece[2])
        else:
            out.append(piece)
    return tuple(out)


def _packets(stamps_s: Floats, where: str) -> Clock:
    """The clock of stamps that many rows share: each is that of a packet."""
    rows = len(stamps_s)
    rate = _rounded((rows - 1) / float(stamps_s[-1] - stamps_s[0]), 0.002)
    stray = float(np.ptp(stamps_s - np.arange(rows) / rate))
    longest = float(np.diff(stamps_s).max())
    if stray > 2 * longest:
        raise InputError(f"{where} has time stamps of packets that come unevenly; remove their column and give --ecg-rate.")
    return Clock(rate, rows, ((0, 0, rows),), (f"Many samples share a time stamp; they are read as {rate:g} Hz throughout.",))


def follows_stamps(rate_hz: float, given: float | None, stated: float | None, where: str) -> bool:
    """Tell whether time stamps of this rate agree with the rate that the user gave, else with the one that the file states.

    False where given and stated rate agree with each other and not with the stamps. Raises `InputError` for any other
    contradiction.
    """

    def differ(one: float, other: float) -> bool:
        return abs(one / other - 1) > _CONTRADICTS

    if given is not None and differ(given, rate_hz):
        if stated is not None and not differ(given, stated):
            return False
        raise InputError(
            f"{where} has time stamps of {rate_hz:.6g} Hz, which contradict the {given:g} Hz given as rate_hz (--ecg-rate);"
            " leave it out, or remove the column of stamps."
        )
    if given is None and stated is not None and differ(stated, rate_hz):
        raise InputError(
            f"{where} states {stated:g} Hz, but its time stamps say {rate_hz:.6g} Hz; give the true one as rate_hz (--ecg-rate)."
        )
    return True


def counting_columns(head: Floats) -> list[int]:
    """Columns of the first rows, (rows, columns), that count rows or time; none where no other column would be left."""
    if len(head) < _FEWEST_COUNTED or head.shape[1] < 2:
        return []
    found = [n for n in range(head.shape[1]) if counts_up(head[:, n])]
    return found if len(found) < head.shape[1] else []


def array_clock(
    stamps: Floats | None, given: float | None, stated: float | None, where: str
) -> tuple[Clock | None, float, str, tuple[str, ...]]:
    """Clock (None: one sample after the other), rate in Hz, its `Source.rate_source`, and notes, of an array's time stamps.

    stamps: in an unstated unit, or None. Raises `InputError` without any rate, and for one that contradicts the stamps.
    """
    known = given or stated
    source = "given" if given else "file"
    if stamps is not None and counts_up(stamps[:HEAD_SAMPLES]):
        step = usual_step(stamps[:HEAD_SAMPLES])
        rows_only = counts_rows(stamps[:HEAD_SAMPLES])
        unit = (1.0 / known if known else None) if rows_only else unit_of(step, known)
        if unit is not None:
            whole = not (stamps[:HEAD_SAMPLES] % 1).any()
            clock = clock_of(stamps * unit, where, unit if whole else 0.0)
            clock = replace(clock, rate_hz=float(known)) if rows_only and known else clock
            gaps = clock if len(clock.pieces) > 1 else None
            if rows_only and known:
                return gaps, known, source, clock.notes
            if follows_stamps(clock.rate_hz, given, stated, where):
                close = known is not None and abs(known / clock.rate_hz - 1) < _SAME
                rate = float(known) if close and known else clock.rate_hz
                return gaps, rate, source if close else "time stamps", clock.notes
            return None, float(known or 0), source, (f"The time stamps say {clock.rate_hz:.6g} Hz; they are not believed.",)
    if known is None:
        raise InputError(f"{where} does not state its sampling rate; give it as rate_hz (--ecg-rate).")
    return None, float(known), source, ()


def on_clock(clock: Clock, leads: int, rows: Callable[[int, int], Floats]) -> Callable[[int, int], Floats]:
    """A `read` on the clock, nan in its gaps, from one that reads rows of the file: (first, last) -> (leads, last - first)."""

    def read(first: int, last: int) -> Floats:
        out = np.full((leads, last - first), np.nan)
        for at, row, size in clock.pieces:
            low, high = max(first, at), min(last, at + size)
            if low < high:
                out[:, low - first : high - first] = rows(row + low - at, row + high - at)
        return out

    return read
