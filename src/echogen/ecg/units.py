"""Units that ECG files state: of voltages, in mV, and of time, in s."""

from __future__ import annotations

import re

from echogen.errors import InputError

_MV_PER_PREFIX = {"": 1e3, "m": 1.0, "milli": 1.0, "u": 1e-3, "micro": 1e-3, "n": 1e-6, "nano": 1e-6}
_VOLTAGE = re.compile(r"(milli|micro|nano|m|u|n|)v(?:olts?)?")
#: A micro sign that a wrong encoding has spoilt: a question mark, or one to three letters outside ASCII, before the V.
_GARBLED = re.compile(r"(?:\?|[^\x00-\x7f]){1,3}v(?:olts?)?")
_BRACKETED = re.compile(r"[\s_]*[(\[]\s*([^()\[\]]{1,12}?)\s*[)\]]\s*$")
#: After a space or a line, a lone V is a lead, not a unit.
_TRAILING = re.compile(r"(?<=[^\s_,/])[\s_,/]+((?:[nuµμm]|milli|micro|nano)v(?:olts?)?)\s*$", re.IGNORECASE)
_SECONDS = {
    "h": 3600.0,
    "hour": 3600.0,
    "min": 60.0,
    "minute": 60.0,
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "ms": 1e-3,
    "msec": 1e-3,
    "millisec": 1e-3,
    "millisecond": 1e-3,
    "us": 1e-6,
    "usec": 1e-6,
    "microsec": 1e-6,
    "microsecond": 1e-6,
    "ns": 1e-9,
    "nsec": 1e-9,
    "nanosecond": 1e-9,
}


def _plain(unit: str) -> str:
    return unit.strip(" \t\r\n()[]'\"").lower().replace("µ", "u").replace("μ", "u")


def is_garbled(unit: str) -> bool:
    """Tell whether a unit is a V after a spoilt micro sign (`?V`), which is taken for uV."""
    spoilt = _GARBLED.fullmatch(unit.strip(" \t\r\n()[]'\"").lower())
    return spoilt is not None and _VOLTAGE.fullmatch(_plain(unit)) is None


def mv_per_unit(unit: str) -> float | None:
    """Millivolts in one `unit` (V, mV, uV, nV or their names, also in brackets), or None if it is no voltage.

    A spoilt micro sign counts as one; `is_garbled` tells where that was a guess.
    """
    found = _VOLTAGE.fullmatch(_plain(unit))
    if found:
        return _MV_PER_PREFIX[found[1]]
    return 1e-3 if is_garbled(unit) else None


def stated_mv(unit: str | None) -> float | None:
    """Millivolts per stored count for a unit that the user stated, such as `uV` or `0.05 mV`; None for None.

    Raises `InputError` for a text that is no voltage.
    """
    if unit is None:
        return None
    size, name = re.fullmatch(r"\s*(\d*\.?\d+(?:[eE]-?\d+)?)?\s*(.*)", unit, re.DOTALL).groups()  # type: ignore[union-attr]
    factor = None if is_garbled(name) else mv_per_unit(name)
    scale = None if factor is None else float(size or 1) * factor
    if scale is None or not 0 < scale < 1e6:
        raise InputError(f"The unit of an ECG must be mV, uV or V, or a size such as '0.05 mV', not {unit!r}.")
    return scale


def _unit_text(label: str) -> str | None:
    """The part of a column name that is its unit: `(uV)` of `II (uV)`, `mV` of `ecg_mV`; else None."""
    found = _BRACKETED.search(label) or _TRAILING.search(label)
    return found[1] if found and mv_per_unit(found[1]) is not None else None


def unit_in_name(label: str) -> float | None:
    """Millivolts per unit where a column name ends in a unit, as in `II (uV)`, `I mV` or `ecg_mV`; else None."""
    unit = _unit_text(label)
    return None if unit is None else mv_per_unit(unit)


def without_unit(label: str) -> str:
    """A column name without the voltage that it ends in."""
    if _unit_text(label) is None:
        return label
    return (_BRACKETED if _BRACKETED.search(label) else _TRAILING).sub("", label)


def seconds_per_unit(unit: str) -> float | None:
    """Seconds in one `unit` of time (s, ms, us, min or their names, also in brackets), or None if it is none."""
    plain = _plain(unit)
    return _SECONDS.get(plain, _SECONDS.get(plain.removesuffix("s")))
