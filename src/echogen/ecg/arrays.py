"""ECGs as numpy arrays: NPY of one or more leads, and the NPZ of an `Ecg`."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echogen.ecg.leads import default_lead_names, lead_names
from echogen.ecg.source import Floats, Source
from echogen.ecg.stamps import HEAD_SAMPLES, array_clock, counting_columns, on_clock
from echogen.errors import InputError

_MAXIMUM_NPZ_BYTES = 2_000_000_000
_NPZ_KEYS = ("signal_mv", "rate_hz", "lead_names")


def open_npy(path: Path, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open an NPY file of shape (samples,), (leads, samples) or (samples, leads); nothing in it is ever executed."""
    where = f"The numpy file {path.name}"
    try:
        array: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise InputError(f"{where} is cut short, damaged or holds Python objects; save a plain array of numbers.") from error
    return array_source(array, "NPY", where, mv_of_unit, rate_hz)


def array_source(array: NDArray[np.generic], kind: str, where: str, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """An array of shape (samples,), (leads, samples) or (samples, leads) as a source of the format `kind`.

    A row of time stamps or row numbers among the leads is no lead, and gives the rate where none is stated.

    Raises `InputError`, beginning with `where`, for another shape, for other things than real numbers, and without a rate.
    """
    if array.ndim not in (1, 2) or array.size == 0 or array.dtype.kind not in "iuf":
        raise InputError(
            f"{where} holds an array {array.shape} of {array.dtype}; an ECG is one of real numbers, (leads, samples)."
        )
    table = array[None] if array.ndim == 1 else array if array.shape[0] <= array.shape[1] else array.T
    counting = counting_columns(np.asarray(table[:, :HEAD_SAMPLES], dtype=np.float64).T)
    stamps = np.asarray(table[counting[0]], dtype=np.float64) if counting else None
    clock, rate, rate_source, notes = array_clock(stamps, rate_hz, None, where)
    kept = [n for n in range(len(table)) if n not in counting]
    scale = mv_of_unit or 1.0

    def read(first: int, last: int) -> Floats:
        part = table[:, first:last] if not counting else table[kept, first:last]
        return np.asarray(part, dtype=np.float64) * scale

    return Source(
        kind,
        default_lead_names(len(kept)),
        rate,
        clock.samples if clock else int(table.shape[1]),
        on_clock(clock, len(kept), read) if clock else read,
        rate_source=rate_source,
        unit_source="assumed",
        notes=notes,
    )


def is_ecg_npz(path: Path) -> bool:
    """Tell whether a zip file is the NPZ of an `Ecg` (keys signal_mv, rate_hz, lead_names)."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{key}.npy" for key in _NPZ_KEYS} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def open_npz(path: Path, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open the NPZ of an `Ecg`: signal_mv (leads, samples), rate_hz and lead_names."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > _MAXIMUM_NPZ_BYTES:
                raise InputError(f"The numpy file {path.name} is too large; save a shorter part of the ECG.")
        with np.load(path, allow_pickle=False) as content:
            signal, rate, names = (content[key] for key in _NPZ_KEYS)
        labels = [str(name) for name in np.atleast_1d(names)]
        leads = tuple(lead or label for lead, label in zip(lead_names(labels), labels, strict=True))
        table, own_rate = np.asarray(signal, dtype=np.float64) * (mv_of_unit or 1.0), float(rate)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"The numpy file {path.name} is damaged or holds Python objects; save plain arrays of numbers."
        ) from error
    if table.ndim != 2 or table.size == 0 or len(leads) != table.shape[0]:
        raise InputError(f"The numpy file {path.name} has {len(leads)} lead names but a signal of shape {table.shape}.")
    return Source("NPZ", leads, rate_hz or own_rate, table.shape[1], lambda first, last: table[:, first:last])
