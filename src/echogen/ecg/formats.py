"""Recognise an ECG file by its content, open it, and read the part that is wanted."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import Floats
from echogen.ecg.apple import apple_layout
from echogen.ecg.gaps import Gap, fill_short_gaps, find_gaps, longest_stretch, stretch_around, whole_leads
from echogen.ecg.readers import ECG_READERS
from echogen.ecg.source import Source, split_record
from echogen.ecg.tables import table_layout
from echogen.ecg.text import MAXIMUM_BYTES, text_encoding
from echogen.ecg.text_source import open_text
from echogen.ecg.units import stated_mv
from echogen.ecg.wfdb_file import find_header, open_wfdb
from echogen.errors import InputError
from echogen.records import Ecg

_FORMATS = (
    "WFDB, DICOM, EDF, BDF, SCP-ECG, HL7 aECG, MUSE XML, Philips XML, ISHNE, AliveCor ATC, MATLAB, CODE-15 HDF5, Apple Watch CSV,"
    " Apple Health exports, PDF traces, CSV, TXT, XLSX, NPY or pickled arrays"
)
#: Beyond this an ECG in mV is taken for one in other units: median and 99.5th percentile of the deviation from the baseline.
_IMPLAUSIBLE_MEDIAN_MV, _IMPLAUSIBLE_PEAK_MV = 3.0, 40.0
#: Lines of a text file that tell its layout.
_HEAD_LINES = 440
_PICKLE_SUFFIXES = {".pt", ".pth", ".joblib"}
_FOREIGN = (
    (0, rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{4}\0\0\0\0|II\*\0|MM\0\*|RIFF.{4}WEBP", "a picture"),
    (0, rb"RIFF.{4}AVI |\x1aE\xdf\xa3|\0\0\x01\xba", "a video"),
    (4, rb"ftyp", "a video"),
    (0, rb"\xd0\xcf\x11\xe0", "an old Office file; save it as XLSX or CSV first"),
    (0, rb"PK\x03\x04.{26}mimetypeapplication/vnd.oasis", "an OpenDocument file; save it as XLSX or CSV first"),
    (0, rb"PK\x03\x04.{26}[^/]{1,60}\.npy", "an NPZ without signal_mv, rate_hz and lead_names; save the array of the ECG as NPY"),
    (0, rb"PK\x03\x04|PK\x05\x06|\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ", "a compressed archive; unpack it first"),
    (0, rb"(\xef\xbb\xbf)?\s*<|\xff\xfe<|\xfe\xff\0<", "an XML or HTML file"),
)


class NoValues(InputError):
    """The part of an ECG that was asked for holds nothing but gaps."""


@dataclass(frozen=True)
class EcgInfo:
    """Facts about an ECG file, without its signal.

    format: its name for people. lead_names: canonical. rate_hz: samples per second. duration_s: length in s, gaps included.
    record: which of several recordings. rate_source, unit_source, notes: as in `Source`; what was guessed is said there.
    """

    format: str
    lead_names: tuple[str, ...]
    rate_hz: float
    duration_s: float
    record: str | None = None
    rate_source: str = "file"
    unit_source: str = "file"
    notes: tuple[str, ...] = ()


def _foreign(start: bytes) -> str | None:
    for offset, pattern, what in _FOREIGN:
        if re.match(pattern, start[offset:], re.DOTALL):
            return what
    return None


def _open_unknown(path: Path, start: bytes, mv: float | None, rate_hz: float | None) -> Source:
    """Text, or nothing that is known."""
    encoding = text_encoding(start)
    if encoding is None:
        raise InputError(f"{path.name} is of no known kind; an ECG is read from {_FORMATS}.")
    if path.stat().st_size > MAXIMUM_BYTES:
        raise InputError(
            f"The text file {path.name} is over {MAXIMUM_BYTES // 1_000_000} MB; save long ECGs as EDF, WFDB or NPY."
        )
    with path.open("rb") as file:
        raw = file.read(200_000)
    head = raw.decode(encoding, errors="replace").splitlines()
    head = head[:-1] if len(raw) == 200_000 else head
    layout = apple_layout(head[:400], encoding) or table_layout(head[:_HEAD_LINES], f"The text file {path.name}", encoding)
    return open_text(path, layout, mv, rate_hz)


def open_ecg(
    path: str | os.PathLike[str], rate_hz: float | None = None, unit: str | None = None, record: str | None = None
) -> Source:
    """Recognise and open an ECG file; arguments and errors as in `read_ecg`."""
    path, marked = split_record(Path(path))
    record = marked if record is None else record
    mv = stated_mv(unit)
    if rate_hz is not None and not (np.isfinite(rate_hz) and 20 <= rate_hz <= 100_000):
        raise InputError(f"The sampling rate of an ECG must lie between 20 and 100,000 Hz, not {rate_hz}.")
    folder = path.is_dir()
    header = None if folder else find_header(path)
    if not path.exists() and header is None:
        raise InputError(f"There is no file {path}.")
    start = b""
    if path.exists() and not folder:
        if not path.is_file():
            raise InputError(f"{path} is a pipe or a device; write what it gives into a file, and give that.")
        try:
            with path.open("rb") as file:
                start = file.read(4096)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}.") from error
        if not start:
            raise InputError(f"{path.name} is empty.")
    reader = None if header else next((each for _, each in ECG_READERS.usable() if each.recognises(path, start)), None)
    if header is not None:
        source = open_wfdb(header, mv, rate_hz)
    elif reader is not None:
        source = reader.open(path, mv, rate_hz, record) if reader.several else reader.open(path, mv, rate_hz)
    elif folder:
        raise InputError(f"{path} is a directory; give one ECG file.")
    elif path.suffix.lower() in _PICKLE_SUFFIXES:
        raise InputError(
            f"{path.name} is a Python pickle, which could run code and is never opened; save the array with numpy.save."
        )
    elif (what := _foreign(start)) is not None:
        raise InputError(
            f"{path.name} is {what}; an ECG is read from {_FORMATS}." if ";" not in what else f"{path.name} is {what}."
        )
    elif path.suffix.lower() == ".dat" and text_encoding(start) is None:
        raise InputError(f"{path.name} needs its WFDB header: put {path.stem}.hea beside it.")
    else:
        source = _open_unknown(path, start, mv, rate_hz)
    if record is not None and source.record is None:
        raise InputError(f"{path.name} holds one ECG only; leave out the record {record!r}.")
    if not 20 <= source.rate_hz <= 100_000:
        raise InputError(
            f"{path.name} has a sampling rate of {source.rate_hz:g} Hz, at which no ECG can be told; if that is wrong, give the"
            " true one as rate_hz (--ecg-rate)."
        )
    if source.samples < 2:
        raise InputError(f"{path.name} holds fewer than two samples.")
    given_rate = source.rate_source if rate_hz is None else "given"
    return replace(source, rate_source=given_rate, unit_source=source.unit_source if mv is None else "given")


def ecg_info(
    path: str | os.PathLike[str], *, rate_hz: float | None = None, unit: str | None = None, record: str | None = None
) -> EcgInfo:
    """Tell what an ECG file holds without reading its signal; arguments and errors as in `read_ecg`."""
    source = open_ecg(path, rate_hz, unit, record)
    length_s = source.samples / source.rate_hz
    said = (source.record, source.rate_source, source.unit_source, source.notes)
    return EcgInfo(source.format, source.lead_names, source.rate_hz, length_s, *said)


def _span(source: Source, name: str, start_s: float, seconds: float | None) -> tuple[int, int]:
    """First and last sample of the part asked for."""
    length = source.samples / source.rate_hz
    if not np.isfinite(start_s) or start_s < 0:
        raise InputError(f"The start within an ECG must be 0 s or later, not {start_s} s.")
    if seconds is not None and not (np.isfinite(seconds) and seconds > 0):
        raise InputError(f"The length of an ECG must be more than 0 s, not {seconds} s.")
    first = int(np.ceil(start_s * source.rate_hz - 1e-6))
    last = source.samples if seconds is None else first + max(round(seconds * source.rate_hz), 1)
    if first >= source.samples:
        raise InputError(f"{name} is {length:.2f} s long, so nothing can be read from {start_s:.2f} s on.")
    if last > source.samples:
        raise InputError(f"{name} is {length:.2f} s long, too short for {seconds:.2f} s from {start_s:.2f} s on.")
    return first, last


def _check_unit(signal: Floats, rate_hz: float, name: str) -> None:
    """Raise `InputError` where most leads are far larger than an ECG in mV."""
    # No deviation is larger than its lead's swing: where most leads swing less than the smaller limit, all is well.
    if float(np.median(signal.max(axis=1) - signal.min(axis=1))) <= _IMPLAUSIBLE_MEDIAN_MV:
        return
    block = max(min(round(rate_hz), signal.shape[1]), 1)
    count = signal.shape[1] // block
    blocks = signal[:, : count * block].reshape(signal.shape[0], count, block)
    deviation = np.abs(blocks - np.median(blocks, axis=2, keepdims=True)).reshape(signal.shape[0], -1)
    middle = float(np.median(np.median(deviation, axis=1)))
    peak = float(np.median(np.percentile(deviation, 99.5, axis=1)))
    if middle > _IMPLAUSIBLE_MEDIAN_MV or peak > _IMPLAUSIBLE_PEAK_MV:
        raise InputError(
            f"The values in {name} swing by {peak:.4g} mV, far beyond an ECG; state their unit with unit (--ecg-unit),"
            " such as uV, or scale raw counts to mV first."
        )


def read_ecg(
    path: str | os.PathLike[str],
    *,
    rate_hz: float | None = None,
    unit: str | None = None,
    start_s: float = 0.0,
    seconds: float | None = None,
    record: str | None = None,
) -> Ecg:
    """Read an ECG file, or a part of it, in mV.

    Recognised by content: WFDB (the `.hea`, a signal file beside it, or the record's name), DICOM waveform, EDF / EDF+ / BDF,
    SCP-ECG, HL7 aECG, MUSE and Philips XML, ISHNE Holter, AliveCor ATC, MATLAB, CODE-15 HDF5, Apple Watch CSV, Apple Health
    exports, PDFs that draw the trace as lines, text tables, exports of AcqKnowledge, LabChart, OpenSignals and Shimmer, and Excel
    sheets (one column a lead), NPY and pickled arrays (leads and samples in either order; nothing in a pickle is run) and the
    NPZ of an `Ecg`.
    Only ECG leads are kept, under their canonical names (I, aVR, V1, MLII ...); twelve unnamed leads are taken in the
    standard order.

    rate_hz: samples per second; needed where neither the file nor its time stamps say it, overrides what the file says; where it
    contradicts the stamps, nothing is read. unit: mV, uV or V of the stored values,
    or their size (`0.005 mV`); overrides what the file says; without either, mV. start_s, seconds: the part to read, on the
    file's clock, which the `Ecg` keeps; only that part is loaded. record: which ECG of a file of several (an exam id, the CSV of
    an Apple Health export, a MATLAB variable), also as `FILE#RECORD`. Gaps (nan) under 0.2 s are interpolated; a lead without
    any value is left out.
    Raises `InputError` when the file is missing, of a foreign kind, damaged, without ECG leads, shorter than asked, has a
    longer gap, or holds values that cannot be mV.

    >>> import echogen
    >>> from pydicom.data import get_testdata_file
    >>> ecg = echogen.read_ecg(get_testdata_file("waveform_ecg.dcm"), start_s=1.0, seconds=5.0)
    >>> len(ecg.lead_names), ecg.rate_hz, ecg.end_s
    (12, 1000.0, 6.0)
    """
    name = Path(path).name
    source = open_ecg(path, rate_hz, unit, record)
    first, last = _span(source, name, start_s, seconds)
    signal = _stored(source, name, first, last)
    present = np.asarray(np.isfinite(signal).any(axis=1))
    return _finished(source, name, signal[present], _those(source.lead_names, present), first)


def read_around_gaps(
    path: str | os.PathLike[str],
    *,
    rate_hz: float | None = None,
    unit: str | None = None,
    start_s: float = 0.0,
    seconds: float | None = None,
    record: str | None = None,
    keep_s: tuple[float, float] | None = None,
) -> tuple[Ecg, tuple[Gap, ...]]:
    """Read a part of an ECG file like `read_ecg`, but cut it short before long gaps; also the gaps of the part.

    keep_s: start and end, in s on the file's clock, of what must be whole: the ECG is the longest stretch around it in which
    the leads have no gap that have none there. Without it the ECG is the longest stretch in which any lead has none. Leads that
    have a gap in the stretch are left out. Raises `InputError` as `read_ecg` does; for a gap only where no lead is whole.
    """
    name = Path(path).name
    source = open_ecg(path, rate_hz, unit, record)
    first, last = _span(source, name, start_s, seconds)
    signal = _stored(source, name, first, last)
    rate = source.rate_hz
    gaps = tuple(find_gaps(signal, rate, source.lead_names, first))
    if keep_s is None:
        low, high = longest_stretch(signal, rate)
    else:
        begin, end = (min(max(round(at * rate) - first, 0), last - first) for at in keep_s)
        whole = whole_leads(signal[:, begin:end], rate)
        if not whole.any():
            present = np.asarray(np.isfinite(signal[:, begin:end]).any(axis=1))
            part = signal[:, begin:end][present]
            return _finished(source, name, part, _those(source.lead_names, present), first + begin), gaps
        low, high = stretch_around(signal[whole], rate, begin, end)
    whole = whole_leads(signal[:, low:high], rate)
    return _finished(source, name, signal[whole, low:high], _those(source.lead_names, whole), first + low), gaps


def _those(names: tuple[str, ...], chosen: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(name for name, there in zip(names, chosen, strict=True) if there)


def _stored(source: Source, name: str, first: int, last: int) -> Floats:
    """(leads, last - first) the signal in mV, nan in its gaps. Raises `InputError` where it is cut short."""
    signal = source.read(first, last)
    if signal.shape[1] != last - first:
        raise InputError(f"{name} is cut short or damaged: {last - first} samples were expected, {signal.shape[1]} are there.")
    return signal


def _finished(source: Source, name: str, signal: Floats, names: tuple[str, ...], first: int) -> Ecg:
    """The ECG of a signal that begins at sample `first` of the file, its short gaps filled. Raises `InputError` for long ones."""
    if not names:
        raise NoValues(f"{name} has no values (only NaN) in the part that was asked for.")
    signal = fill_short_gaps(signal, source.rate_hz, names, first)
    _check_unit(signal, source.rate_hz, name)
    return Ecg(signal.astype(np.float32), source.rate_hz, names, first / source.rate_hz)
