"""Gaps in the leads of an ECG: where they are, short ones filled, and the stretches between long ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import Floats
from echogen.errors import InputError

#: Shorter gaps are interpolated, in s.
LONGEST_GAP_S = 0.2

Runs = NDArray[np.int64]


@dataclass(frozen=True)
class Gap:
    """A stretch without values in some leads or all; start and end in s on the clock of the file."""

    leads: tuple[str, ...]
    start_s: float
    end_s: float


def _runs(mask: NDArray[np.bool_]) -> Runs:
    """(runs, 2) first sample and the one after the last of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2)


def _long_runs(row: Floats, rate_hz: float) -> Runs:
    runs = _runs(~np.isfinite(row))
    return runs[(runs[:, 1] - runs[:, 0]) / rate_hz >= LONGEST_GAP_S]


def find_gaps(signal: Floats, rate_hz: float, lead_names: tuple[str, ...], first: int = 0) -> list[Gap]:
    """Gaps of 0.2 s or more in a (leads, samples) signal that begins at sample `first` of its file."""
    if np.isfinite(signal).all():
        return []
    found: dict[tuple[int, int], list[str]] = {}
    for row, name in zip(signal, lead_names, strict=True):
        for low, high in _long_runs(row, rate_hz):
            found.setdefault((int(low), int(high)), []).append(name)
    return [Gap(tuple(names), (first + low) / rate_hz, (first + high) / rate_hz) for (low, high), names in sorted(found.items())]


def fill_short_gaps(signal: Floats, rate_hz: float, lead_names: tuple[str, ...], first: int = 0) -> Floats:
    """Interpolate runs of nan shorter than 0.2 s in a (leads, samples) signal.

    Raises `InputError` naming lead and time for a longer run; `first` is the sample in the file that the signal starts at.
    """
    if np.isfinite(signal).all():
        return signal
    signal = signal.copy()
    for row, name in zip(signal, lead_names, strict=True):
        bad = ~np.isfinite(row)
        for low, high in _long_runs(row, rate_hz):
            at = f"{(first + low) / rate_hz:.2f} s to {(first + high) / rate_hz:.2f} s"
            raise InputError(f"Lead {name} has no values (NaN) from {at}; choose a part of the ECG without this gap.")
        if bad.any():
            row[bad] = np.interp(np.flatnonzero(bad), np.flatnonzero(~bad), row[~bad])
    return signal


def longest_stretch(signal: Floats, rate_hz: float) -> tuple[int, int]:
    """First sample, and the one after the last, of the longest stretch in which a lead has no gap; (0, 0) without any value."""
    best = (0, 0)
    for row in signal:
        mask = np.ones(len(row), dtype=np.bool_)
        for low, high in _long_runs(row, rate_hz):
            mask[low:high] = False
        for low, high in _runs(mask):
            if high - low > best[1] - best[0] and np.isfinite(row[low:high]).any():
                best = (int(low), int(high))
    return best


def stretch_around(signal: Floats, rate_hz: float, first: int, last: int) -> tuple[int, int]:
    """The longest stretch around samples first to last without a gap in those leads that have none between them."""
    low, high = 0, signal.shape[1]
    for row in signal:
        runs = _long_runs(row, rate_hz)
        if any(start < last and end > first for start, end in runs):
            continue
        low = max([low, *(int(end) for _, end in runs if end <= first)])
        high = min([high, *(int(start) for start, _ in runs if start >= last)])
    return low, high


def whole_leads(signal: Floats, rate_hz: float) -> NDArray[np.bool_]:
    """(leads,) which leads have values and no gap of 0.2 s or more."""
    return np.array([bool(np.isfinite(row).any()) and not len(_long_runs(row, rate_hz)) for row in signal], dtype=np.bool_)
