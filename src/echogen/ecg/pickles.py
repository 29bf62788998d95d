"""ECGs as pickled numpy arrays, as ECHOPulse's and ST-MEM's published code stores them; nothing that a pickle names is run.

ST-MEM lists the rates in `index.csv` (FILE_NAME, SAMPLE_RATE) beside the pickles or one folder up. ECHOPulse states none: its
files hold one beat each, about 6.43 samples per video frame, in half pixels of a trace on the screen.
"""

from __future__ import annotations

import csv
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echogen.ecg.arrays import array_source
from echogen.ecg.restricted_pickle import read_array_pickle
from echogen.ecg.source import Source
from echogen.errors import InputError

SUFFIXES = (".pkl", ".pickle")
_INDEX = "index.csv"
_MAXIMUM_INDEX_ROWS = 2_000_000
#: Half-pixel heights above this are taken for pixels rather than mV.
_PIXELS_ABOVE = 5.0


def is_pickle(path: Path, start: bytes) -> bool:
    """Tell whether a file is a pickle, by its suffix or by its first bytes (protocol 2 and later)."""
    return path.suffix.lower() in SUFFIXES or (start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"))


def _listed_rate(path: Path) -> float | None:
    """The rate that ST-MEM's index states for a pickle, or None."""
    for folder in (path.parent, path.parent.parent):
        try:
            with (folder / _INDEX).open(encoding="utf-8", errors="replace", newline="") as file:
                for row in islice(csv.DictReader(file), _MAXIMUM_INDEX_ROWS):
                    if row.get("FILE_NAME") == path.name:
                        return float(row.get("SAMPLE_RATE") or "nan")
        except (OSError, ValueError, TypeError, csv.Error):
            continue
    return None


def _in_pixels(array: NDArray[np.generic]) -> bool:
    """Tell whether an array of one row holds heights on a screen: not negative, in half steps, larger than any ECG in mV."""
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        return False
    values = np.asarray(array, dtype=np.float64)
    return bool(np.isfinite(values).all() and values.min() >= 0 and values.max() > _PIXELS_ABOVE and not (values * 2 % 1).any())


def open_pickle(path: Path, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open a pickle of one numpy array: (samples,), (leads, samples) or (samples, leads).

    Raises `InputError` for anything else within it, without a rate, and for heights in pixels whose size was not stated.
    """
    where = f"The pickle {path.name}"
    array = read_array_pickle(path)
    rate = rate_hz if rate_hz is not None else _listed_rate(path)
    if array.size and _in_pixels(array) and (rate is None or mv_of_unit is None):
        raise InputError(
            f"{where} seems to hold a trace in pixels, without unit or rate; give the size of a pixel as unit (--ecg-unit),"
            " such as '0.02 mV', and its rate as rate_hz (--ecg-rate), for ECHOPulse's files about 6.43 times the frame rate."
        )
    return array_source(array, "pickle", where, mv_of_unit, rate)
