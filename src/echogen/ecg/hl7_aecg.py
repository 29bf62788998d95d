"""HL7 annotated ECG (aECG, FDA XML): the rhythm series; derived beats are left out."""

from __future__ import annotations

import re
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from echogen.arrays import Floats
from echogen.ecg.leads import canonical_lead
from echogen.ecg.source import Source
from echogen.ecg.traces import MAXIMUM_SAMPLES, Trace, source_of_traces
from echogen.ecg.units import mv_per_unit
from echogen.ecg.xml_file import number, numbers, parse_xml
from echogen.errors import InputError

_SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "h": 3600.0}
_TIMESTAMP = re.compile(r"(\d{4})(\d{2})(\d{2})(?:(\d{2})(?:(\d{2})(?:(\d{2})(\.\d+)?)?)?)?(?:[+-]\d{4})?")


def _quantity(value: Element, name: str, units: dict[str, float] | None, mv_of_unit: float | None, where: str) -> float:
    """The child `name` (origin, scale, head, increment) in s if `units` is given, else in mV."""
    part = value.find(name)
    if part is None:
        raise InputError(f"{where} cannot be read; a sequence has no {name}.")
    amount = number(part.get("value"), name, where)
    unit = (part.get("unit") or "").strip()
    factor = units.get(unit.lower() or "s") if units else (mv_of_unit or mv_per_unit(unit))
    if factor is None and not (units is None and amount == 0):
        asked = "seconds" if units else "a voltage; give its unit (--ecg-unit)"
        raise InputError(f"{where} states a {name} in {unit[:20]!r}, which is not {asked}.")
    return amount * (factor or 0.0)


def _timestamp_s(text: str) -> float | None:
    """Seconds since the year 1 of an HL7 time (YYYYMMDDhhmmss.fff), None if it is none."""
    found = _TIMESTAMP.fullmatch(text.strip())
    try:
        if not found:
            return None
        year, month, day, hour, minute, second = (int(found[n] or 0) for n in range(1, 7))
        at = datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None
    return (at - datetime.min) / timedelta(seconds=1) + float(found[7] or 0)


def _clock(value: Element, where: str) -> tuple[float, float]:
    """Start and sampling interval of a time sequence, in s."""
    if value.find("increment") is not None:
        interval = _quantity(value, "increment", _SECONDS, None, where)
        head = value.find("head")
        text = "" if head is None else head.get("value") or ""
        start = _timestamp_s(text)
        if start is None:
            start = _quantity(value, "head", _SECONDS, None, where) if text.strip() else 0.0
    else:
        ticks = numbers(value.findtext("digits") or "", where)
        if len(ticks) < 2:
            raise InputError(f"{where} states no usable sampling rate; it is cut short or damaged.")
        scale = _quantity(value, "scale", _SECONDS, None, where)
        start = _quantity(value, "origin", _SECONDS, None, where) + scale * float(ticks[0])
        interval = scale * float(ticks[-1] - ticks[0]) / (len(ticks) - 1)
    if not (np.isfinite(start) and np.isfinite(interval) and 1e-6 <= interval <= 1.0):
        raise InputError(f"{where} states a sampling interval of {interval:g} s, which no ECG has; it is damaged.")
    return start, interval


def _label(code: Element | None) -> str:
    if code is None:
        return ""
    name = (code.get("code") or "").strip().upper().removeprefix("MDC_ECG_LEAD_")
    return name if canonical_lead(name) else (code.get("displayName") or name).strip()


def _series_traces(series: Element, mv_of_unit: float | None, where: str) -> tuple[float, list[Trace]]:
    """Sampling interval and leads of a series; of several intervals the one with the most samples."""
    pieces: dict[float, list[tuple[str, float, Floats]]] = defaultdict(list)
    for sequences in series.findall("component/sequenceSet"):
        clock: tuple[float, float] | None = None
        leads: list[tuple[str, Floats]] = []
        for sequence in sequences.findall("component/sequence"):
            code, value = sequence.find("code"), sequence.find("value")
            if value is None:
                continue
            if code is not None and (code.get("code") or "").upper().startswith("TIME_"):
                clock = _clock(value, where)
            elif value.find("digits") is not None:
                scale = _quantity(value, "scale", None, mv_of_unit, where)
                origin = _quantity(value, "origin", None, mv_of_unit, where) if value.find("origin") is not None else 0.0
                leads.append((_label(code), origin + scale * numbers(value.findtext("digits") or "", where)))
        if leads and clock is None:
            raise InputError(f"{where} states no usable sampling rate; it is cut short or damaged.")
        if clock is not None:
            pieces[clock[1]].extend((label, clock[0], values) for label, values in leads)
    if not pieces:
        return 0.0, []
    interval, found = max(pieces.items(), key=lambda item: sum(len(values) for _, _, values in item[1]))
    begin = min(start for _, start, _ in found)
    return interval, [
        Trace(label, min(round((start - begin) / interval), MAXIMUM_SAMPLES), values) for label, start, values in found
    ]


def open_hl7_aecg(path: Path, mv_of_unit: float | None, rate_hz: float | None) -> Source:
    """Open an HL7 aECG file; of several rhythm series the one with the most samples is taken."""
    where = f"The HL7 aECG file {path.name}"
    root = parse_xml(path, where)
    found = [_series_traces(series, mv_of_unit, where) for series in root.iter("series")]
    found = [(interval, traces) for interval, traces in found if traces]
    if not found:
        raise InputError(f"{where} holds no rhythm series, only a derived beat or annotations; export it with its waveforms.")
    interval, traces = max(found, key=lambda one: sum(len(trace.values) for trace in one[1]))
    # Intervals are written as 0.002 s and the like: the rate is a whole number where it is within their rounding.
    rate = 1.0 / interval
    rate = float(round(rate)) if abs(rate - round(rate)) < 1e-6 * rate else rate
    return source_of_traces("HL7 aECG", where, traces, float(rate_hz or rate))
