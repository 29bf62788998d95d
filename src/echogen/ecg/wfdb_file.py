"""WFDB records (PhysioNet): a `.hea` header beside its signal files, one segment or many."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from echogen.arrays import Floats
from echogen.ecg.leads import pick_voltages
from echogen.ecg.source import Source
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
    """Open a WFDB record by its header; only the ECG leads are kept, and only the part asked for is read.

    A lead with several samples in each frame is read at their rate; leads of another rate than most are left out.
    """
    import wfdb

    record = str(header_path.with_suffix(""))
    damaged = f"The WFDB record {header_path.name} cannot be read; its header or signal file is missing, cut short or damaged."

    def read_record(first: int, last: int | None, channels: list[int] | None = None, expanded: bool = False) -> Any:
        try:
            return wfdb.rdrecord(record, sampfrom=first, sampto=last, channels=channels, smooth_frames=not expanded)
        except Exception as error:
            raise InputError(damaged) from error

    try:
        header = wfdb.rdheader(record, rd_segments=True)
    except Exception as error:
        raise InputError(damaged) from error
    if not header.n_sig or not header.fs:
        raise InputError(f"The WFDB record {header_path.name} has no signals.")
    several = hasattr(header, "segments")
    frames = header.sig_len if header.sig_len else read_record(0, None).sig_len
    if not frames:
        raise InputError(f"The WFDB record {header_path.name} is empty.")
    # Reading the last frame shows a signal file that is cut short.
    end = read_record(frames - 1, frames, expanded=True)
    labels, units = [label or "" for label in end.sig_name or [""] * end.n_sig], [unit or "mV" for unit in end.units]
    channels, names, scale, notes = pick_voltages(labels, units, mv_of_unit, f"The WFDB record {header_path.name}")
    sizes = [len(end.e_p_signal[index]) for index in channels]
    # The rate that most leads have, the higher one in a tie.
    size = max(Counter(sizes).items(), key=lambda item: (item[1], item[0]))[0]
    kept = [n for n, own in enumerate(sizes) if own == size]
    if len(kept) < len(channels):
        left_out = ", ".join(name for name, own in zip(names, sizes, strict=True) if own != size)
        notes = (*notes, f"Left out, since they have another sampling rate: {left_out}.")
    if size > 1:
        notes = (*notes, f"Each frame of {header.fs:g} Hz holds {size} samples of a lead, which are all read.")
    channels, names, factors = [channels[n] for n in kept], tuple(names[n] for n in kept), np.array([scale[n] for n in kept])

    def read(first: int, last: int) -> Floats:
        low, high = first // size, -(-last // size)
        part = read_record(low, high, None if several else channels, expanded=size > 1)
        rows = channels if several else range(len(channels))
        if size > 1:
            picked = np.stack([np.asarray(part.e_p_signal[row], dtype=np.float64) for row in rows])
        else:
            picked = np.asarray(part.p_signal[:, list(rows)].T, dtype=np.float64)
        return np.asarray(picked[:, first - low * size : last - low * size] * factors[:, None])

    rate = float(rate_hz or header.fs * size)
    return Source("WFDB", names, rate, int(frames * size), read, notes=notes)
