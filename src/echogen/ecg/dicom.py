"""DICOM waveforms: ECG and hemodynamic objects; the rhythm group, not the median beat."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from echogen.ecg.leads import pick_leads
from echogen.ecg.source import Floats, Source
from echogen.ecg.units import mv_per_unit
from echogen.errors import InputError

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


def _mv_per_count(channel: Any, mv_of_unit: float | None) -> float | None:
    unit = _first(channel.get("ChannelSensitivityUnitsSequence"))
    code = str(unit.get("CodeValue", "")) if unit is not None else ""
    return mv_of_unit or mv_per_unit(code)


def _numbers(channels: list[Any], rows: list[int], keyword: str, unstated: float) -> Floats:
    """What the channels of these rows state under a keyword; `unstated` where it is absent or empty."""
    stated = [channels[row].get(keyword) for row in rows]
    return np.array([unstated if value in (None, "") else float(value) for value in stated])


def _rank(group: Any) -> tuple[bool, bool, float]:
    """Sort key: a rhythm strip before a derived beat, then the longer recording."""
    label = str(group.get("MultiplexGroupLabel", "")).upper()
    derived = str(group.get("WaveformOriginality", "")) == "DERIVED" or any(w in label for w in ("MEDIAN", "TEMPLATE", "AVERAGE"))
    seconds = float(group.NumberOfWaveformSamples) / float(group.SamplingFrequency)
    return not derived, "RHYTHM" in label, seconds


def open_dicom(path: Path, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open the ECG of a DICOM waveform file."""
    import pydicom

    where = f"The DICOM file {path.name}"
    try:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        groups = list(dataset.get("WaveformSequence") or [])
        modality = re.sub(r"\W+", " ", str(dataset.get("Modality") or "unknown"))[:16].strip()
    except Exception as error:
        raise InputError(f"{where} cannot be read; it is cut short or damaged.") from error
    if not groups:
        raise InputError(f"{where} holds no waveform (its modality is {modality}); give a DICOM ECG.")
    try:
        group = max(groups, key=_rank)
        channels = list(group.ChannelDefinitionSequence)
        count, samples = len(channels), int(group.NumberOfWaveformSamples)
        rate = float(rate_hz or group.SamplingFrequency)
        scales = [_mv_per_count(channel, mv_of_unit) for channel in channels]
        little = not hasattr(dataset, "file_meta") or dataset.file_meta.TransferSyntaxUID.is_little_endian
        order = "<" if little else ">"
        code = _SAMPLE_TYPES.get(str(group.WaveformSampleInterpretation))
        if code is None:
            raise InputError(f"{where} stores its waveform in a packed form that is not supported; export it as 16-bit samples.")
        dtype = np.dtype(order + code)
        data = np.frombuffer(group.WaveformData, dtype=dtype, count=count * samples).reshape(samples, count)
        padding = group.get("WaveformPaddingValue")
        missing = np.frombuffer(padding, dtype=dtype, count=1)[0] if isinstance(padding, bytes) and padding else None
        volts = [index for index, scale in enumerate(scales) if scale is not None]
        chosen, names = pick_leads([_label(channels[index]) for index in volts], where)
        rows = [volts[index] for index in chosen]
        unit_mv = np.array([scales[row] for row in rows], dtype=np.float64)
        sensitivity = _numbers(channels, rows, "ChannelSensitivity", 1.0)
        sensitivity *= _numbers(channels, rows, "ChannelSensitivityCorrectionFactor", 1.0)
        baseline = _numbers(channels, rows, "ChannelBaseline", 0.0)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{where} cannot be read; its waveform is cut short or damaged.") from error

    def read(first: int, last: int) -> Floats:
        raw = data[first:last, rows].T
        values = (raw.astype(np.float64) * sensitivity[:, None] + baseline[:, None]) * unit_mv[:, None]
        if missing is not None:
            values[raw == missing] = np.nan
        return values

    return Source("DICOM", names, rate, samples, read)
