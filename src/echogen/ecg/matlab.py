"""ECGs in MATLAB files: versions 4, 5 to 7.2 (read by scipy) and 7.3 (HDF5); a PhysioNet header beside one goes to WFDB.

The signal is the array `val`, `ecg`, `data`, `signal`, `feats` ... of leads x samples or samples x leads, at the top or within a
structure (`ECG.data`), or one vector per lead (`I`, `II`, `V1` ...). A scalar such as `fs` or `curr_sample_rate` is the rate.
LabChart's exports have a layout of their own (`matlab_labchart`).
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from echogen.arrays import Floats
from echogen.ecg.hdf5 import member, numbers, opened
from echogen.ecg.leads import default_lead_names, lead_names, pick_leads
from echogen.ecg.matlab_elements import MAXIMUM_BYTES, check_elements
from echogen.ecg.matlab_labchart import is_labchart, open_labchart
from echogen.ecg.rates import rate_of_text
from echogen.ecg.source import Source
from echogen.ecg.stamps import HEAD_SAMPLES, array_clock, counting_columns, on_clock
from echogen.ecg.units import mv_per_unit, seconds_per_unit
from echogen.errors import InputError

_MAXIMUM_VALUES = 50_000_000
_MAXIMUM_LEADS, _FEWEST_SAMPLES = 64, 50
_MAXIMUM_FIELDS = 500
_SIGNALS = ("val", "ecg", "ecgdata", "data", "signal", "signals", "sig", "psignal", "feats", "tracings", "tracing", "x", "y")
#: Names of the sampling rate; those that may mean another rate (the mains, the heart) come last and never beat the others.
_RATES = (
    *("fs", "sf", "fsamp", "srate", "sfreq", "samplerate", "samplingrate", "samplefreq", "samplesperseconds", "samplespersecond"),
    *("samplingfrequency", "samplefrequency", "samplingfreq", "currsamplerate", "fshz", "ratehz", "ecgfs", "fsecg", "tickrate"),
)
_OTHER_RATES = ("freq", "frequency", "rate", "hz")
#: Below these a number of that name may well be the mains frequency, or be a heart rate a minute.
_MAINS_HZ, _FASTEST_HEART = 61.0, 240.0
#: Names of the sampling interval, in s unless a variable `..._units` says otherwise, and of a vector of time stamps.
_INTERVALS = ("isi", "dt", "sampleinterval", "samplinginterval", "samplingperiod", "sampleperiod", "ts")
_TIMES = ("t", "time", "times", "timestamp", "timestamps", "tm", "timevector", "tvec", "times_s", "zeit")
_NAMES = ("leads", "leadnames", "leadname", "labels", "channels", "channelnames", "signame", "signames")
_UNITS = ("unit", "units")


@dataclass(frozen=True)
class _Content:
    """Contents of a file by variable (`name` or `structure.field`): arrays of numbers, and lists of text."""

    arrays: dict[str, Any]
    texts: dict[str, list[str]]


def is_matlab(path: Path, start: bytes) -> bool:
    """Recognise a MATLAB file: by its opening words, or for version 4 by its suffix and a header that makes sense."""
    if re.match(rb"MATLAB (5\.0|7\.3) MAT-file", start):
        return True
    if path.suffix.lower() != ".mat" or len(start) < 20:
        return False
    for order in "<>":
        kind, rows, columns, imaginary, length = struct.unpack(f"{order}5i", start[:20])
        name = start[20 : 20 + length]
        if kind // 1000 == (order == ">") and kind % 10 <= 2 and kind // 10 % 10 <= 5 and rows > 0 and columns > 0:
            return imaginary in (0, 1) and 1 < length <= 64 and name[-1:] == b"\0" and name[:-1].decode("latin-1").isidentifier()
    return False


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.rsplit(".", 1)[-1].lower())


def _add(name: str, value: Any, content: _Content) -> None:
    """Sort what scipy made of a variable into arrays and texts; one level of structure is entered."""
    value = np.asarray(value)
    if value.dtype.names and value.size == 1:
        for field in value.dtype.names[:_MAXIMUM_FIELDS]:
            inner = np.asarray(value[field].flat[0])
            if inner.dtype.names is None:
                _add(f"{name}.{field}", inner, content)
    elif value.dtype.kind in "iufb":
        content.arrays[name] = value
    elif value.dtype.kind in "UO" and 0 < value.size <= _MAXIMUM_LEADS:
        parts = [np.asarray(part) for part in value.flat]
        if all(part.dtype.kind == "U" and part.size == 1 for part in parts):
            content.texts[name] = [str(part.flat[0]).strip() for part in parts]


def _read_scipy(path: Path, where: str) -> _Content:
    from scipy.io import loadmat, whosmat

    if path.stat().st_size > MAXIMUM_BYTES:
        raise InputError(f"{where} is over {MAXIMUM_BYTES // 2**20} MiB; save a long ECG as WFDB, EDF or MATLAB 7.3 (-v7.3).")
    content = _Content({}, {})
    try:
        with path.open("rb") as file:
            version_5 = file.read(10) == b"MATLAB 5.0"
        if version_5:
            check_elements(path)
        wanted = [
            name
            for name, shape, kind in whosmat(path)
            if kind not in ("function", "opaque", "object", "sparse", "unknown") and math.prod(shape) <= _MAXIMUM_VALUES
        ]
        variables = loadmat(path, variable_names=wanted[:_MAXIMUM_FIELDS], verify_compressed_data_integrity=True)
        for name in wanted[:_MAXIMUM_FIELDS]:
            _add(name, variables[name], content)
    except Exception as error:  # damaged files can raise anything
        raise InputError(f"{where} cannot be read; it is cut short or damaged.") from error
    return content


def _read_hdf5(group: Any, where: str, prefix: str = "") -> _Content:
    import h5py

    content = _Content({}, {})
    for name in list(group)[:_MAXIMUM_FIELDS]:
        if name.startswith("#") or not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        found = member(group, name, where)
        if isinstance(found, h5py.Group) and not prefix:
            inner = _read_hdf5(found, where, f"{name}.")
            content.arrays.update(inner.arrays)
            content.texts.update(inner.texts)
        elif (array := numbers(group, name, where)) is not None:
            content.arrays[prefix + name] = array
            if array.dtype == np.uint16 and array.size <= 64 and array.attrs.get("MATLAB_class") == b"char":
                content.texts[prefix + name] = ["".join(map(chr, np.asarray(array[()]).T.flat)).strip()]
    return content


def _is_signal(array: Any) -> bool:
    """Tell whether an array is numbers of leads x samples (either way round), or of one lead; sides of 1 do not count."""
    sides = [side for side in array.shape if side != 1]
    if array.dtype.kind not in "iuf" or not 1 <= len(sides) <= 2 or max(sides) < _FEWEST_SAMPLES:
        return False
    return (len(sides) == 1 or min(sides) <= _MAXIMUM_LEADS) and (array.ndim == 2 or math.prod(sides) <= _MAXIMUM_VALUES)


def _signal_name(content: _Content, record: str | None, where: str) -> str:
    """The variable that is the ECG: the one asked for, a usual name, or the only candidate."""
    signals = [name for name, array in content.arrays.items() if _is_signal(array)]
    candidates = [name for name in signals if _plain(name) not in _TIMES] or signals
    listed = ", ".join(candidates[:8]) + (" ..." if len(candidates) > 8 else "")
    if record is not None:
        if record not in signals:
            raise InputError(f"{where} has no ECG {record!r}; its arrays are {listed or 'none'}.")
        return record
    usual = sorted((_SIGNALS.index(_plain(name)), name) for name in candidates if _plain(name) in _SIGNALS)
    if usual:
        return usual[0][1]
    if len(candidates) != 1:
        what = (
            f"several arrays ({listed}); choose one with record or as FILE#NAME"
            if candidates
            else "no array that could be an ECG"
        )
        raise InputError(f"{where} holds {what}.")
    return candidates[0]


def _lead_vectors(content: _Content) -> list[str]:
    """The variables that are one lead each and of one length, or none."""
    vectors = [name for name, array in content.arrays.items() if _is_signal(array) and max(array.shape) == math.prod(array.shape)]
    named = lead_names([name.rsplit(".", 1)[-1] for name in vectors])
    leads = [name for name, lead in zip(vectors, named, strict=True) if lead]
    sizes = {max(content.arrays[name].shape) for name in leads}
    return leads if len(leads) > 1 and len(sizes) == 1 and len(leads) * max(sizes) <= _MAXIMUM_VALUES else []


def _scalars(content: _Content) -> dict[str, float]:
    """Positive numbers by the plain name of their variable, also those written as text (`500 Hz`)."""
    found: dict[str, float] = {}
    for name, array in content.arrays.items():
        if math.prod(array.shape) == 1:
            value = float(np.asarray(array[()]).flat[0])
            if math.isfinite(value) and value > 0:
                found.setdefault(_plain(name), value)
    for name, texts in content.texts.items():
        value_or_none = rate_of_text(texts[0]) if len(texts) == 1 else None
        if value_or_none:
            found.setdefault(_plain(name), value_or_none)
    return found


def _rate(content: _Content) -> float | None:
    """The sampling rate in Hz that a variable states, or the inverse of the interval; None where none does."""
    scalars = _scalars(content)
    units = {_plain(key): texts[0] for key, texts in content.texts.items()}
    for name in _RATES:
        if name in scalars:
            return scalars[name]
    for name in _INTERVALS:
        if name in scalars:
            unit = seconds_per_unit(units.get(f"{name}units", "s")) or 1.0
            rate = 1.0 / (scalars[name] * unit)
            if 20 <= rate <= 100_000:
                return round(rate, 6)
    least = {"rate": _FASTEST_HEART}
    others = [scalars[name] for name in _OTHER_RATES if name in scalars and scalars[name] > least.get(name, _MAINS_HZ)]
    return others[0] if others else None


def _stamps(content: _Content, samples: int) -> Floats | None:
    """A vector of time stamps as long as the signal, or None."""
    for name, array in content.arrays.items():
        if _plain(name) in _TIMES and math.prod(array.shape) == samples == max(array.shape) and samples > 2:
            return np.asarray(array[()], dtype=np.float64).ravel()
    return None


def _table(content: _Content, record: str | None, where: str) -> tuple[Any, list[str], str | None]:
    """The two-dimensional array, the labels of its leads (maybe none), and the one variable that it came from."""
    vectors = _lead_vectors(content) if record is None else []
    if vectors:
        return np.stack([np.ravel(content.arrays[n][()]) for n in vectors]), [n.rsplit(".", 1)[-1] for n in vectors], None
    name = _signal_name(content, record, where)
    array = content.arrays[name]
    if array.ndim != 2:
        array = np.atleast_2d(np.asarray(array[()]).squeeze())
    count = min(array.shape)
    labels = [texts for key, texts in content.texts.items() if _plain(key) in _NAMES and len(texts) == count]
    return array, labels[0] if labels else [], name


def open_matlab(path: Path, mv_of_unit: float | None, rate_hz: float | None, record: str | None) -> Source:
    """Open a MATLAB file; `record` names the variable where a file holds several. Of version 7.3 only the part wanted is read.

    Raises `InputError` where no array or several could be the ECG, and where no rate is stated.
    """
    where = f"The MATLAB file {path.name}"
    with path.open("rb") as file:
        in_hdf5 = file.read(10) == b"MATLAB 7.3"
    if not in_hdf5:
        content = _read_scipy(path, where)
        if record is None and is_labchart(content.arrays, content.texts):
            return open_labchart(content.arrays, content.texts, where, mv_of_unit, rate_hz)
        return _source(content, path, where, mv_of_unit, rate_hz, record)
    with opened(path, where) as group:
        return _source(_read_hdf5(group, where), path, where, mv_of_unit, rate_hz, record)


def _source(
    content: _Content, path: Path, where: str, mv_of_unit: float | None, rate_hz: float | None, record: str | None
) -> Source:
    array, labels, name = _table(content, record, where)
    down = array.shape[0] > array.shape[1]
    samples, count = max(array.shape), min(array.shape)
    head = np.asarray(array[:HEAD_SAMPLES] if down else array[:, :HEAD_SAMPLES].T, dtype=np.float64)
    own = [] if labels and any(lead_names(labels)) else counting_columns(head)
    stamps = _stamps(content, samples)
    if stamps is None and own:
        stamps = np.asarray(array[:, own[0]] if down else array[own[0]], dtype=np.float64).ravel()
    clock, rate, rate_source, notes = array_clock(stamps, rate_hz, _rate(content), where)
    kept = [n for n in range(count) if n not in own]
    if labels:
        rows, names = pick_leads(labels, where)
    else:
        rows, names = kept, default_lead_names(len(kept))
    units = [mv_per_unit(texts[0]) for key, texts in content.texts.items() if _plain(key) in _UNITS]
    unit = next((factor for factor in units if factor is not None), None)
    scale = mv_of_unit or unit or 1.0
    in_memory = array if isinstance(array, np.ndarray) else None

    def part(stored: Any, first: int, last: int) -> Floats:
        values = (
            np.asarray(stored[first:last], dtype=np.float64).T if down else np.asarray(stored[:, first:last], dtype=np.float64)
        )
        return values[rows] * scale

    def read(first: int, last: int) -> Floats:
        if in_memory is not None or name is None:
            return part(in_memory, first, last)
        with opened(path, where) as file:
            group, _, own = name.rpartition(".")
            return part(numbers(member(file, group, where) if group else file, own, where), first, last)

    return Source(
        "MATLAB",
        names,
        rate,
        clock.samples if clock else int(samples),
        on_clock(clock, len(rows), read) if clock else read,
        name,
        rate_source,
        "assumed" if unit is None else "file",
        notes,
    )
