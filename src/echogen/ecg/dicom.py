"""DICOM waveforms: ECG and hemodynamic objects; the rhythm group, not the median beat."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import Floats
from echogen.ecg.leads import canonical_lead, pick_voltages
from echogen.ecg.source import Source
from echogen.ecg.traces import MAXIMUM_SAMPLES, check_size
from echogen.errors import InputError

#: Transfer syntaxes: numbers are little endian in all but one.
_IMPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
_SAMPLE_TYPES = {"SB": "i1", "UB": "u1", "SS": "i2", "US": "u2", "SL": "i4", "UL": "u4"}
#: Lead numbers of SCP-ECG (5.6.3-9-n) and MDC (2:n) codes, for channels without a readable name.
_CODED_LEADS = {1: "I", 2: "II", 61: "III", 62: "aVR", 63: "aVL", 64: "aVF"} | {n + 2: f"V{n}" for n in range(1, 7)}


def _first(sequence: Any) -> Any:
    return sequence[0] if sequence else None


def _label(channel: Any) -> str:
    source = _first(channel.get("ChannelSourceSequence"))
    code = str(source.get("CodeValue", "")) if source is not None else ""
    number = re.fullmatch(r"(?:5\.6\.3-9-|2:)(\d+)", code)
    if number and int(number[1]) in _CODED_LEADS:
        return _CODED_LEADS[int(number[1])]
    meaning = str(source.get("CodeMeaning", "")) if source is not None else ""
    return meaning or str(channel.get("ChannelLabel", ""))


def _unit(channel: Any) -> str:
    unit = _first(channel.get("ChannelSensitivityUnitsSequence"))
    return str(unit.get("CodeValue", "")) if unit is not None else ""


def _numbers(channels: list[Any], keyword: str, unstated: float) -> Floats:
    """Numbers that channels state under a keyword; `unstated` where it is absent or empty."""
    stated = [channel.get(keyword) for channel in channels]
    return np.array([unstated if value in (None, "") else float(value) for value in stated])


def _rank(group: Any) -> tuple[bool, bool, float]:
    """Sort key: a rhythm strip before a derived beat, then the longer recording."""
    label = str(group.get("MultiplexGroupLabel", "")).upper()
    derived = str(group.get("WaveformOriginality", "")) == "DERIVED" or any(w in label for w in ("MEDIAN", "TEMPLATE", "AVERAGE"))
    seconds = float(group.NumberOfWaveformSamples) / float(group.SamplingFrequency)
    return not derived, "RHYTHM" in label, seconds


def _offset_s(group: Any) -> float:
    """Start of a group on the clock of the recording, in s; MultiplexGroupTimeOffset is in ms."""
    return float(group.get("MultiplexGroupTimeOffset") or 0.0) / 1000.0


def _beside(group: Any, best: Any) -> bool:
    """Tell whether a group holds other leads of the recording of `best`: as long, as fast, and as original."""
    own = (_rank(group)[0], int(group.NumberOfWaveformSamples), float(group.SamplingFrequency))
    if own != (_rank(best)[0], int(best.NumberOfWaveformSamples), float(best.SamplingFrequency)):
        return False
    labels = {_label(channel) for channel in group.ChannelDefinitionSequence}
    return not labels & {_label(channel) for channel in best.ChannelDefinitionSequence}


@dataclass(frozen=True)
class _Group:
    """One multiplex group: label and unit of each channel, the sample it begins at, and its counts, (samples, channels).

    sensitivity, baseline: of each channel, in its unit. missing: the count that stands for no value, or None.
    """

    labels: list[str]
    units: list[str]
    first: int
    counts: NDArray[np.integer[Any]]
    sensitivity: Floats
    baseline: Floats
    missing: int | None

    def millivolts(self, channel: int, first: int, last: int, scale: float) -> Floats:
        """Samples first to last of a channel in mV, nan where there is no value."""
        raw = self.counts[first:last, channel]
        values = (raw.astype(np.float64) * self.sensitivity[channel] + self.baseline[channel]) * scale
        if self.missing is not None:
            values[raw == self.missing] = np.nan
        return values


def _group(group: Any, order: str, where: str) -> _Group:
    channels = list(group.ChannelDefinitionSequence)
    count, samples = len(channels), int(group.NumberOfWaveformSamples)
    code = _SAMPLE_TYPES.get(str(group.WaveformSampleInterpretation))
    if code is None:
        raise InputError(f"{where} stores its waveform in a packed form that is not supported; export it as 16-bit samples.")
    dtype = np.dtype(order + code)
    counts = np.frombuffer(group.WaveformData, dtype=dtype, count=count * samples).reshape(samples, count)
    padding = group.get("WaveformPaddingValue")
    missing = int(np.frombuffer(padding, dtype=dtype, count=1)[0]) if isinstance(padding, bytes) and padding else None
    sensitivity = _numbers(channels, "ChannelSensitivity", 1.0) * _numbers(channels, "ChannelSensitivityCorrectionFactor", 1.0)
    first = min(max(round(_offset_s(group) * float(group.SamplingFrequency)), 0), MAXIMUM_SAMPLES)
    labels, units = [_label(channel) for channel in channels], [_unit(channel) for channel in channels]
    return _Group(labels, units, first, counts, sensitivity, _numbers(channels, "ChannelBaseline", 0.0), missing)


def is_dicom(start: bytes) -> bool:
    """Tell whether a file is DICOM by its first bytes, also one without the 128 bytes and `DICM` that should come first."""
    if start[128:132] == b"DICM":
        return True
    group, element, kind = start[:2], int.from_bytes(start[2:4], "little"), start[4:6]
    length = int.from_bytes(start[4:8], "little")
    explicit = kind in (b"UL", b"CS", b"UI", b"DA", b"LO", b"SH", b"OB", b"IS", b"DT", b"TM")
    return group in (b"\x02\0", b"\x08\0") and element <= 0x60 and (explicit or (group == b"\x08\0" and length <= 64))


def open_dicom(path: Path, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open the ECG of a DICOM waveform file.

    Leads of several groups that are as long and as fast are joined, each at its own time; elsewhere they have no values.
    """
    import pydicom

    where = f"The DICOM file {path.name}"
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        groups = list(dataset.get("WaveformSequence") or [])
        modality = re.sub(r"\W+", " ", str(dataset.get("Modality") or "unknown"))[:16].strip()
    except Exception as error:
        raise InputError(f"{where} cannot be read; it is cut short or damaged.") from error
    if not groups:
        raise InputError(f"{where} holds no waveform (its modality is {modality}); give a DICOM ECG.")
    try:
        little = not hasattr(dataset, "file_meta") or dataset.file_meta.get("TransferSyntaxUID", _IMPLICIT) != _BIG_ENDIAN
        best = max(groups, key=_rank)
        chosen = [best, *(group for group in groups if group is not best and _beside(group, best))]
        parts = [_group(group, "<" if little else ">", where) for group in chosen]
        others = [group for group in groups if group not in chosen and _rank(group)[0]]
        unread = sorted({_label(channel) for group in others for channel in group.ChannelDefinitionSequence})
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{where} cannot be read; its waveform is cut short or damaged.") from error
    labels = [label for part in parts for label in part.labels]
    units = [unit for part in parts for unit in part.units]
    rows, names, scales, notes = pick_voltages(labels, units, mv_of_unit, where)
    places = [(part, row, part.first) for part in parts for row in range(len(part.labels))]
    begin = min(places[row][2] for row in rows)
    samples = max(places[row][2] + len(places[row][0].counts) for row in rows) - begin
    check_size(len(rows), samples, where)

    def read(first: int, last: int) -> Floats:
        values = np.full((len(rows), last - first), np.nan)
        for n, (row, scale) in enumerate(zip(rows, scales, strict=True)):
            part, own, start = places[row]
            low, high = max(first, start - begin), min(last, start - begin + len(part.counts))
            if low < high:
                values[n, low - first : high - first] = part.millivolts(own, low + begin - start, high + begin - start, scale)
        return values

    if len({part.first for part in parts}) > 1:
        when = [f"{', '.join(part.labels)} from {part.first / float(best.SamplingFrequency):g} s" for part in parts]
        notes = (*notes, f"The leads were recorded one after another: {'; '.join(when)}.")
    missing = [label for label in unread if canonical_lead(label) and canonical_lead(label) not in names]
    if missing:
        notes = (*notes, f"Other waveforms of the file are not read: those of {', '.join(missing)}.")
    return Source("DICOM", names, float(rate_hz or best.SamplingFrequency), samples, read, notes=notes)
