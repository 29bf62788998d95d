"""EDF, EDF+ and BDF: the header is read, and of the data records only those asked for."""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import Floats
from echogen.ecg.leads import pick_voltages
from echogen.ecg.source import Source
from echogen.ecg.stamps import Clock, check_gaps, on_clock
from echogen.ecg.units import is_garbled
from echogen.errors import InputError

#: Starts of data records are rounded to this at most, in s.
_ROUNDED_S = 0.002


def _parse(data: bytes, bdf: bool) -> Any:
    """An edfio record from a header and some of its data records; the count of records in the header may differ."""
    import edfio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return edfio.read_bdf(io.BytesIO(data)) if bdf else edfio.read_edf(io.BytesIO(data), header_encoding="latin-1")


def _starts(annotations: NDArray[np.uint8], where: str) -> Floats:
    """Start of each data record in s, (records,): the time that its first annotation begins with (EDF+ 2.2.4).

    annotations: (records, bytes) of the first signal of annotations.
    """
    found = [re.match(rb"([+-]\d{1,12}(?:\.\d{1,12})?)\x14", bytes(row)) for row in annotations]
    if not all(found):
        missing = found.index(None) + 1
        raise InputError(f"{where} does not say when its data record {missing} begins; it is damaged, so export it anew.")
    return np.array([float(one[1]) for one in found if one])


def _clock(starts_s: Floats, size: int, record_s: float, where: str) -> Clock:
    """Clock of the data records of an interrupted recording, which begins with the first; gaps lie where nothing was recorded.

    size: samples of a record. record_s: its length.
    """
    rate = size / record_s
    at = np.rint((starts_s - starts_s[0]) * rate)
    steps = np.diff(at)
    # Starts may be rounded by a little: so much less than a record follows on from the one before.
    close = np.abs(steps - size) <= max(1.0, _ROUNDED_S * rate)
    if (steps[~close] < size).any():
        row = int(np.flatnonzero(~close & (steps < size))[0]) + 2
        raise InputError(f"{where} has data records that go back in time, at record {row}; save its parts as files of their own.")
    pieces: list[tuple[int, int, int]] = [(0, 0, size)]
    for row, follows in enumerate(close.tolist(), 1):
        first, own, held = pieces[-1]
        if follows:
            pieces[-1] = (first, own, held + size)
        else:
            pieces.append((max(int(at[row]), first + held), row * size, size))
    first, own, held = pieces[-1]
    check_gaps(first + held, own + held, rate, where)
    return Clock(rate, first + held, tuple(pieces))


def open_edf(path: Path, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open an EDF, EDF+ or BDF file; channels that are no ECG, or of another rate than most leads, are left out."""
    with path.open("rb") as file:
        start = file.read(256)
        kind = "BDF" if start[:1] == b"\xff" else "EDF"
        where = f"The {kind} file {path.name}"
        try:
            header = start + file.read(256 * int(start[252:256]))
            record = _parse(header, kind == "BDF")
            stated = int(start[236:244])
            sizes = [int(signal.samples_per_data_record) for signal in record._signals]
            record_s = float(record.data_record_duration)
        except Exception as error:
            raise InputError(f"{where} cannot be read; its header is cut short or damaged.") from error
    per_sample = 3 if kind == "BDF" else 2
    record_bytes = sum(sizes) * per_sample
    if not record_bytes or record_s <= 0:
        raise InputError(f"{where} has no signals.")
    present = max(path.stat().st_size - len(header), 0) // record_bytes
    if present < stated:
        raise InputError(f"{where} is cut short: its header tells of {stated} data records, but {present} are there.")
    records = present if stated < 0 else stated
    signals = record._signals
    interrupted = start[192:197] in (b"EDF+D", b"BDF+D")
    usable = [index for index, signal in enumerate(signals) if not signal.label.endswith("Annotations")]
    units = [signals[index].physical_dimension or "uV" for index in usable]
    chosen, names, scale, notes = pick_voltages([signals[index].label for index in usable], units, mv_of_unit, where)
    leads = [(usable[index], name, factor) for index, name, factor in zip(chosen, names, scale, strict=True)]
    # The rate that most leads have, the higher one in a tie.
    size = max(Counter(sizes[index] for index, _, _ in leads).items(), key=lambda item: (item[1], item[0]))[0]
    others = [name for index, name, _ in leads if sizes[index] != size]
    leads = [lead for lead in leads if sizes[lead[0]] == size]
    if others:
        notes = (*notes, f"Left out, since they have another sampling rate: {', '.join(others)}.")
    unstated = any(not signals[index].physical_dimension for index, _, _ in leads)
    guessed = any(is_garbled(signals[index].physical_dimension) for index, _, _ in leads)
    if unstated and mv_of_unit is None:
        notes = (*notes, "The unit is not stated and is taken for uV.")

    def read(first: int, last: int) -> Floats:
        low, high = first // size, -(-last // size)
        with path.open("rb") as file:
            file.seek(len(header) + low * record_bytes)
            data = file.read((high - low) * record_bytes)
        part = _parse(header + data, kind == "BDF")._signals
        cut = slice(first - low * size, last - low * size)
        return np.stack([part[index].data[cut] * factor for index, _, factor in leads])

    clock = None
    if interrupted:
        places = [n for n, signal in enumerate(signals) if signal.label.endswith("Annotations")]
        if not places:
            raise InputError(f"{where} is an interrupted recording (EDF+D) without the times of its parts; export them as files.")
        at = sum(sizes[: places[0]]) * per_sample
        stored = np.memmap(path, np.uint8, "r", len(header), (records, record_bytes))
        starts_s = _starts(stored[:, at : at + sizes[places[0]] * per_sample], where)
        clock = _clock(starts_s, size, record_s, where)
    return Source(
        kind,
        tuple(name for _, name, _ in leads),
        float(rate_hz or size / record_s),
        clock.samples if clock else records * size,
        on_clock(clock, len(leads), read) if clock else read,
        unit_source="assumed" if unstated or guessed else "file",
        notes=notes,
    )
