"""Sampling rates that are written in words: `Sampling rate: 500 Hz`, `0.5 kHz`, `500 samples/s`, `2 msec/sample`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from echogen.ecg.units import seconds_per_unit

_SLOWEST_HZ, _FASTEST_HZ = 20.0, 100_000.0
_PER_S = r"(?:/|per)\s*(?:seconds?|sec|s)\b"
_RATE_UNIT = rf"k?hz\b|kilohertz|hertz|hercios|herc\w*|k?sps\b|(?:samples?|smp|points?|values?)?\s*{_PER_S}|s\^?-1\b|1/s\b"
_TIME_UNIT = r"(?:milli|micro)?seconds?\b|(?:m|µ|μ|u)?sec\b|(?:m|µ|μ|u)?s\b"
_NUMBER = r"(\d+(?:[.,]\d+)?(?:e[+-]?\d+)?)"
_SAMPLING = (
    r"sampl\w*[\s_-]*(?:rate|freq\w*)|sampl\w*\s+at|sampl\w*\s*" + _PER_S + r"|abtast(?:rate|frequenz)|messrate"
    r"|fr[ée]quence\s+d['’ ]?\s*[ée]chantillonnage|frecuencia\s+de\s+muestreo|(?:taxa|frequ[êe]ncia)\s+de\s+amostragem"
    r"|frequenza\s+di\s+campionamento|частота\s+дискретизации|(?<![a-z])(?:fs|sf|srate|sfreq|sps)(?![a-z])|采样频?率|サンプリング\w*"
)
#: A rate of something that is not said to be the samples counts only in Hz, and not of these.
_ANY_RATE = r"fr[ée]quen\w*|freq\w*|frecuencia|(?<![a-z])rate"
_OTHER_RATES = re.compile(
    r"heart|puls|notch|mains|\bline|filt|power|pass|cut|band|resp|beat|video|frame|refresh|baud|bit|herz|cardia|net[zw]|breath|\brr\b",
    re.IGNORECASE,
)
_BEFORE_VALUE = r"(?:\s+of\s+(?:the\s+)?\w+)?\s*(?:[\[(_]\s*({unit})\s*[\])]?)?[\s:=;,|]*(?:is\s+)?"
_STATED = re.compile(rf"({_SAMPLING}){_BEFORE_VALUE.format(unit=_RATE_UNIT)}{_NUMBER}\s*({_RATE_UNIT})?", re.IGNORECASE)
_WEAKLY = re.compile(rf"({_ANY_RATE}){_BEFORE_VALUE.format(unit=_RATE_UNIT)}{_NUMBER}\s*({_RATE_UNIT})?", re.IGNORECASE)
_PERIOD = re.compile(
    rf"((?:sampl\w*|acquisition)[\s_-]*(?:interval|period|time)|(?<![a-z])interval|(?<![a-z])dt(?![a-z]))"
    rf"{_BEFORE_VALUE.format(unit=_TIME_UNIT)}{_NUMBER}\s*({_TIME_UNIT})?",
    re.IGNORECASE,
)
_PER_SAMPLE = re.compile(rf"{_NUMBER}\s*({_TIME_UNIT})\s*(?:/|per)\s*sample", re.IGNORECASE)
_ALONE = re.compile(rf"{_NUMBER}\s*(k?sps\b|(?:samples?|smp)\s*{_PER_S}|k?hz\s+(?=sampl))", re.IGNORECASE)


def _value(text: str) -> float:
    return float(text.replace(",", "."))


def _hz(number: str, unit: str | None) -> float:
    return _value(number) * (1e3 if unit and unit.strip().lower().startswith("k") else 1.0)


def _period_s(number: str, unit: str) -> float:
    return _value(number) * (seconds_per_unit(unit) or 1.0)


def rate_of_text(text: str) -> float | None:
    """A sampling rate in Hz from a text that is nothing else: `500`, `500 Hz`, `0,5 kHz`, `500 samples/s`; else None."""
    found = re.fullmatch(rf"\s*{_NUMBER}\s*({_RATE_UNIT})?\s*", text, re.IGNORECASE)
    return _hz(found[1], found[2]) if found else None


def _of_line(line: str) -> tuple[list[float], list[float]]:
    """Rates that a line states of its samples, and those of something in Hz that may be its samples."""
    line = re.sub(r"[\"'#%]+", "", line)
    sure: list[float] = []
    for found in _STATED.finditer(line):
        if not _OTHER_RATES.search(line[: found.start()]) or "sampl" in found[1].lower():
            sure.append(_hz(found[3], found[4] or found[2]))
    for found in _PERIOD.finditer(line):
        unit = found[4] or found[2]
        if unit and _value(found[3]) > 0 and not re.search(r"rr|qt|pr|heart|beat", line[: found.start()], re.IGNORECASE):
            sure.append(1.0 / _period_s(found[3], unit))
    sure += [1.0 / _period_s(found[1], found[2]) for found in _PER_SAMPLE.finditer(line) if _value(found[1]) > 0]
    sure += [_hz(found[1], found[2]) for found in _ALONE.finditer(line)]
    weak = [
        _hz(found[3], found[4] or found[2])
        for found in _WEAKLY.finditer(line)
        if (found[4] or found[2]) and not _OTHER_RATES.search(line[: found.start()])
    ]
    return sure, weak


def stated_rates(lines: Iterable[str]) -> list[float]:
    """The different sampling rates in Hz that lines of text state; empty where none does.

    Rates said to be of the samples come before rates of something unnamed in Hz; those of hearts, mains or filters never count.
    """
    sure: list[float] = []
    weak: list[float] = []
    for line in lines:
        of_samples, of_something = _of_line(line[:4000])
        sure += of_samples
        weak += of_something
    found = [rate for rate in (sure or weak) if _SLOWEST_HZ <= rate <= _FASTEST_HZ]
    return list(dict.fromkeys(round(rate, 6) for rate in found))
