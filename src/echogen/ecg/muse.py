"""GE MUSE XML (RestingECG): the rhythm waveform, not the median beat; eight stored leads are completed to twelve."""

from __future__ import annotations

import zlib
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from echogen.arrays import Floats
from echogen.ecg.source import Source
from echogen.ecg.traces import MAXIMUM_SAMPLES, Trace, source_of_traces
from echogen.ecg.units import mv_per_unit
from echogen.ecg.xml_file import decode_base64, number, parse_xml
from echogen.errors import InputError


def _values(lead: Element, label: str, mv_of_unit: float | None, where: str) -> Floats:
    """The samples of one LeadData element in mV."""
    raw = decode_base64(lead.findtext("WaveFormData") or "", where)
    size = int(number(lead.findtext("LeadSampleSize") or "2", f"sample size of lead {label}", where))
    if size not in (1, 2, 4):
        raise InputError(f"{where} stores lead {label} in {size} bytes a sample, which no MUSE file has; it is damaged.")
    checksum = int(number(lead.findtext("LeadDataCRC32") or "0", f"checksum of lead {label}", where)) & 0xFFFFFFFF
    if checksum and checksum != zlib.crc32(raw):
        raise InputError(f"{where} is damaged: the checksum of lead {label} does not fit; export the ECG again.")
    count = int(number(lead.findtext("LeadSampleCountTotal") or str(len(raw) // size), f"length of lead {label}", where))
    if count < 0 or count * size > len(raw):
        raise InputError(f"{where} is cut short: lead {label} has {len(raw) // size} of {count} samples.")
    unit = lead.findtext("LeadAmplitudeUnits") or "MICROVOLTS"
    scale = mv_of_unit or mv_per_unit(unit)
    if scale is None:
        raise InputError(
            f"{where} states lead {label} in {unit.strip()[:20]!r}, which is no voltage; state it as unit (--ecg-unit)."
        )
    per_bit = number(lead.findtext("LeadAmplitudeUnitsPerBit"), f"amplitude of lead {label}", where)
    return np.frombuffer(raw, dtype=f"<i{size}", count=count).astype(np.float64) * (per_bit * scale)


def open_muse(path: Path, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open a GE MUSE XML file; of several rhythm waveforms the longest is taken."""
    where = f"The MUSE file {path.name}"
    rhythms = [
        wave
        for wave in parse_xml(path, where).iter("Waveform")
        if (wave.findtext("WaveformType") or "Rhythm").strip().lower() == "rhythm" and wave.find("LeadData") is not None
    ]
    if not rhythms:
        raise InputError(f"{where} holds no rhythm waveform, only a median beat or measurements; export it with waveforms.")
    wave = max(rhythms, key=lambda one: sum(len(text) for text in (lead.text or "" for lead in one.iter("WaveFormData"))))
    kind = (wave.findtext("SampleType") or "CONTINUOUS_SAMPLES").strip()
    if kind.upper() != "CONTINUOUS_SAMPLES":
        raise InputError(f"{where} stores its samples as {kind[:30]!r}, which is not supported; export continuous samples.")
    exponent = number(wave.findtext("SampleExponent") or "0", "sampling rate", where)
    rate = number(wave.findtext("SampleBase"), "sampling rate", where) * 10.0 ** min(max(exponent, -12.0), 12.0)
    traces = []
    for lead in wave.findall("LeadData"):
        label = (lead.findtext("LeadID") or "").strip()
        first = int(number(lead.findtext("LeadOffsetFirstSample") or "0", f"start of lead {label}", where))
        traces.append(Trace(label, min(max(first, 0), MAXIMUM_SAMPLES), _values(lead, label, mv_of_unit, where)))
    return source_of_traces("MUSE XML", where, traces, float(rate_hz or rate))
