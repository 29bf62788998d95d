"""WFDB records (PhysioNet): a `.hea` header beside its signal files, one segment or many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from echogen.ecg.source import Floats, Source, mv_per_unit, pick_leads
from echogen.errors import InputError


def find_header(path: Path) -> Path | None:
    """The header of the record that `path` means: a `.hea`, a signal file beside its header, or a name without suffix."""
    if path.suffix.lower() == ".hea":
        return path if path.is_file() else None
    if not path.exists():
        header = path.with_name(path.name + ".hea")
        return header if header.is_file() else None
    beside = path.with_suffix(".hea")
    candidates = [beside] if beside.is_file() else sorted(path.parent.glob("*.hea")) if path.suffix.lower() == ".dat" else []
    for header in candidates:
        text = header.read_text(encoding="latin-1")[:100_000]
        if any(line.split(maxsplit=1)[:1] == [path.name] for line in text.splitlines()):
            return header
    return None


def open_wfdb(header_path: Path, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open a WFDB record by its header; only the ECG leads are kept, and only the part asked for is read."""
    import wfdb

    record = str(header_path.with_suffix(""))
    damaged = f"The WFDB record {header_path.name} cannot be read; its header or signal file is missing, cut short or damaged."

    def read_record(first: int, last: int | None, channels: list[int] | None = None) -> Any:
        try:
            return wfdb.rdrecord(record, sampfrom=first, sampto=last, channels=channels)
        except Exception as error:
            raise InputError(damaged) from error

    try:
        header = wfdb.rdheader(record, rd_segments=True)
    except Exception as error:
        raise InputError(damaged) from error
    if not header.n_sig or not header.fs:
        raise InputError(f"The WFDB record {header_path.name} has no signals.")
    several = hasattr(header, "segments")
    samples = header.sig_len if header.sig_len else read_record(0, None).sig_len
    if not samples:
        raise InputError(f"The WFDB record {header_path.name} is empty.")
    # Reading the last sample shows a signal file that is cut short.
    end = read_record(samples - 1, samples)
    labels, units = list(end.sig_name or [""] * end.n_sig), list(end.units)
    volts = [index for index, unit in enumerate(units) if mv_of_unit or mv_per_unit(unit or "mV") is not None]
    chosen, names = pick_leads([labels[index] or "" for index in volts], f"The WFDB record {header_path.name}")
    channels = [volts[index] for index in chosen]
    scale = np.array([mv_of_unit or mv_per_unit(units[index] or "mV") for index in channels], dtype=np.float64)

    def read(first: int, last: int) -> Floats:
        part = read_record(first, last, None if several else channels).p_signal
        picked = part[:, channels] if several else part
        return np.asarray(picked.T * scale[:, None], dtype=np.float64)

    return Source("WFDB", names, float(rate_hz or header.fs), int(samples), read)
