"""What every format's opener returns: an ECG file of which any part can be read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from echogen.errors import InputError

Floats = NDArray[np.float64]

STANDARD_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
_FURTHER_LEADS = ("V", "V7", "V8", "V9", "V3R", "V4R", "V5R", "V6R", "-aVR")
_MONITOR_LEADS = (
    "MLI",
    "MLII",
    "MLIII",
    "MCL",
    "MCL1",
    "MCL6",
    "ML2",
    "ML5",
    "CM2",
    "CM4",
    "CM5",
    "CC5",
    "CS5",
    "MV2",
    "ES",
    "AS",
    "AI",
)
_ALIASES = {"D1": "I", "DI": "I", "D2": "II", "DII": "II", "D3": "III", "DIII": "III", "L1": "I", "L2": "II", "L3": "III"}
_ALIASES |= {f"C{n}": f"V{n}" for n in range(1, 7)} | {"1": "I", "2": "II", "3": "III"}
_CANONICAL = {name.upper(): name for name in (*STANDARD_LEADS, *_FURTHER_LEADS, *_MONITOR_LEADS)} | _ALIASES
_NOT_A_LEAD = re.compile(r"(hr|rate|quality|sqi|id|impedance|temp|lead.?off|index|event|marker)", re.IGNORECASE)
_GENERIC = re.compile(
    r"(ch|chan|channel|sig|signal|col|column|values?|amplitude|voltage|data|leads?|x|y|unnamed|wave\w*|[mµμu]?v)?[\s_#.:-]*\d*",
    re.IGNORECASE,
)
_MV_PER_UNIT = {"v": 1e3, "mv": 1.0, "uv": 1e-3, "nv": 1e-6, "volt": 1e3, "millivolt": 1.0, "microvolt": 1e-3, "nanovolt": 1e-6}
_UNIT_SUFFIX = re.compile(r"[\s_]*[(\[](n|u|µ|μ|m)?v[)\]]\s*$|_(n|u|µ|μ|m)v$", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """An opened ECG file.

    format: its name for people. lead_names: canonical. rate_hz, samples: of every lead.
    read(first, last): (leads, last - first) float64 in mV of that part only, nan where the file has no value.
    record: which one of its recordings, where the file holds several.
    """

    format: str
    lead_names: tuple[str, ...]
    rate_hz: float
    samples: int
    read: Callable[[int, int], Floats]
    record: str | None = None


def mv_per_unit(unit: str) -> float | None:
    """Millivolts in one `unit` (V, mV, uV, µV, nV or their names), or None if it is no voltage."""
    plain = unit.strip().lower().replace("µ", "u").replace("μ", "u").removesuffix("s")
    return _MV_PER_UNIT.get(plain)


def stated_mv(unit: str | None) -> float | None:
    """Millivolts per stored count for a unit that the user stated, such as `uV` or `0.05 mV`; None for None.

    Raises `InputError` for what is no voltage.
    """
    if unit is None:
        return None
    size, name = re.fullmatch(r"\s*(\d*\.?\d+(?:[eE]-?\d+)?)?\s*(.*)", unit, re.DOTALL).groups()  # type: ignore[union-attr]
    factor = mv_per_unit(name)
    scale = None if factor is None else float(size or 1) * factor
    if scale is None or not 0 < scale < 1e6:
        raise InputError(f"The unit of an ECG must be mV, uV or V, or a size such as '0.05 mV', not {unit!r}.")
    return scale


def split_record(path: Path) -> tuple[Path, str | None]:
    """The file and the recording that `FILE#RECORD` means; a file whose own name has a `#` is taken as it is."""
    name, mark, record = str(path).rpartition("#")
    return (Path(name), record) if mark and record and not path.exists() and Path(name).exists() else (path, None)


def unit_in_name(label: str) -> float | None:
    """Millivolts per unit if a column name ends in a unit, as in `II (uV)` or `ecg_mV`; else None."""
    found = _UNIT_SUFFIX.search(label)
    return mv_per_unit(found.group().strip(" _()[]\t")) if found else None


def canonical_lead(label: str) -> str | None:
    """The canonical spelling of an ECG lead (I, aVR, V1, MLII, ECG0 ...), or None if the label names no ECG lead."""
    plain = _UNIT_SUFFIX.sub("", label.strip())
    plain = re.sub(r"\(.*?\)", "", plain).strip(" '\"_")
    bare = re.sub(r"[\s_.]+", "", re.sub(r"^(ecg|ekg|lead|ableitung)[\s_.:-]+", "", plain, flags=re.IGNORECASE)).upper()
    bare = re.sub(r"^(LEAD|ABLEITUNG)", "", bare)
    own_number = bare in ("1", "2", "3") and not re.match(r"(lead|ableitung)", plain, re.IGNORECASE)
    if bare in _CANONICAL and not own_number:
        return _CANONICAL[bare]
    if re.match(r"(ecg|ekg)", plain, re.IGNORECASE) and not _NOT_A_LEAD.search(plain):
        return re.sub(r"[\s_]+", " ", plain[:3].upper() + plain[3:])
    return None


def default_lead_names(count: int) -> tuple[str, ...]:
    """Names for leads that a file does not name: the standard order for twelve, ECG for one, else ECG1, ECG2 ..."""
    if count == 12:
        return STANDARD_LEADS
    return ("ECG",) if count == 1 else tuple(f"ECG{n + 1}" for n in range(count))


def pick_leads(labels: Sequence[str], where: str) -> tuple[list[int], tuple[str, ...]]:
    """Which channels are ECG leads, and their canonical names, each once.

    Named leads are taken; if there are none, channels whose names say nothing (`ch1`, `value`, empty).
    Raises `InputError` if that leaves none; `where` names the file in its sentence.
    """
    named = [(index, canonical_lead(label)) for index, label in enumerate(labels)]
    picked = [(index, name) for index, name in named if name is not None]
    if picked:
        indices = [index for index, _ in picked]
        names: list[str] = []
        for _, name in picked:
            same = sum(other.split(" #")[0] == name for other in names)
            names.append(f"{name} #{same + 1}" if same else name)
        return indices, tuple(names)
    indices = [index for index, label in enumerate(labels) if _GENERIC.fullmatch(label.strip(" '\""))]
    if not indices:
        listed = ", ".join(repr(label.strip()) for label in labels[:8]) + (" ..." if len(labels) > 8 else "")
        raise InputError(f"{where} has no ECG channel; its channels are {listed or 'none'}.")
    return indices, default_lead_names(len(indices))
