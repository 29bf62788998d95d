"""EDF, EDF+ and BDF: the header is read, and of the data records only those asked for."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from echogen.arrays import Floats
from echogen.ecg.leads import pick_voltages
from echogen.ecg.source import Source
from echogen.ecg.units import is_garbled
from echogen.errors import InputError


def _parse(data: bytes, bdf: bool) -> Any:
    """An edfio record from a header and some of its data records; the count of records in the header may differ."""
    import edfio

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return edfio.read_bdf(io.BytesIO(data)) if bdf else edfio.read_edf(io.BytesIO(data), header_encoding="latin-1")


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
    if start[192:197] in (b"EDF+D", b"BDF+D"):
        raise InputError(f"{where} is an interrupted recording (EDF+D); export its parts as continuous files.")
    signals = record._signals
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

    return Source(
        kind,
        tuple(name for _, name, _ in leads),
        float(rate_hz or size / record_s),
        records * size,
        read,
        unit_source="assumed" if unstated or guessed else "file",
        notes=notes,
    )
