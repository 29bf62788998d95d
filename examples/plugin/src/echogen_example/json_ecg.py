"""A reader of ECGs in JSON: {"format": "example-ecg", "rate_hz": 500, "leads": {"II": [0.01, ...]}}, values in mV."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from echogen import InputError
from echogen.ecg.formats import Reader
from echogen.ecg.source import Source

#: Largest file in bytes that is read; twelve leads of a quarter of an hour at 500 Hz.
LARGEST_BYTES = 50_000_000


def recognises(path: Path, start: bytes) -> bool:
    """Tell from the first 4096 bytes of a file whether it is of this format."""
    return start.lstrip().startswith(b"{") and b'"example-ecg"' in start


def open_json(path: Path, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open a file. mv_of_unit, rate_hz: what the user states instead of the file, None where nothing is stated.

    Raises `InputError` for a file that is too large or damaged.
    """
    if path.stat().st_size > LARGEST_BYTES:
        raise InputError(f"{path.name} is over {LARGEST_BYTES // 1_000_000} MB; save a shorter part of the ECG.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = tuple(str(name) for name in content["leads"])
        signal_mv = np.array(list(content["leads"].values()), dtype=np.float64) * (mv_of_unit or 1.0)
        rate_hz = rate_hz or float(content["rate_hz"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path.name} is damaged: an ECG in JSON holds rate_hz, and leads of equal length.") from error
    if signal_mv.ndim != 2 or signal_mv.size == 0:
        raise InputError(f"{path.name} is damaged: its leads are not lists of numbers of equal length.")
    return Source("JSON", names, rate_hz, signal_mv.shape[1], lambda first, last: signal_mv[:, first:last])


JSON_ECG = Reader(recognises, open_json, says="an example: ECGs in JSON")
