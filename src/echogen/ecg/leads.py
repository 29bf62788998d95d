"""Names of ECG leads: which of a file's channels are leads, and what each is called everywhere in this package."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from echogen.ecg.units import is_garbled, mv_per_unit, without_unit
from echogen.errors import InputError

STANDARD_LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
_FURTHER_LEADS = ("V", "V7", "V8", "V9", "V3R", "V4R", "V5R", "V6R", "-aVR")
_MONITOR_LEADS = (
    *("MLI", "MLII", "MLIII", "MCL", "MCL1", "MCL6", "ML2", "ML5", "CM2", "CM4", "CM5", "CC5", "CS5", "MV2", "ES", "AS", "AI"),
)
_ALIASES = {"D1": "I", "DI": "I", "D2": "II", "DII": "II", "D3": "III", "DIII": "III", "L1": "I", "L2": "II", "L3": "III"}
_ALIASES |= {f"C{n}": f"V{n}" for n in range(1, 7)} | {"1": "I", "2": "II", "3": "III"}
_ALIASES |= {"E-S": "ES", "A-S": "AS", "A-I": "AI"}
_CANONICAL = {name.upper(): name for name in (*STANDARD_LEADS, *_FURTHER_LEADS, *_MONITOR_LEADS)} | _ALIASES
#: Pairs of electrodes, first the positive one, as wearable recorders name their channels.
_ELECTRODES = {"LA-RA": "I", "LL-RA": "II", "LL-LA": "III", "VX-RL": "V"}
_PAIR = re.compile(r"(?<![A-Z])(" + "|".join(_ELECTRODES) + r")(?![A-Z])", re.IGNORECASE)
_NOT_A_LEAD = re.compile(
    r"(?<![a-z])(hr|id|rr|nn|edr|ibi)(?![a-z])|rate|quality|sqi|impedance|temp|lead.?off|index|event|marker|peak|onset|offset|phase"
    r"|complet|annot|label|beat|bpm|interval|resp|trigger|status|time|epoch",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"[\s_.-]*(clean(ed)?|filt(ered)?|denoised|processed|smooth(ed)?)$", re.IGNORECASE)
_RAW = re.compile(r"[\s_.-]*(raw|unfiltered|original)$", re.IGNORECASE)
_GENERIC = re.compile(
    r"(ch|chan|channel|sig|signal|col|column|values?|amplitude|voltage|data|leads?|x|y|unnamed|wave\w*|[mµμu]?v)?[\s_#.:-]*\d*",
    re.IGNORECASE,
)
#: Electrodes of an EEG by the 10-10 system other than C1 to C6, alone or against another.
_EEG = re.compile(
    r"(eeg\b.*|(fp|af|f|fc|ft|cp|t|tp|p|po|o)(z|10|[1-9])|cz|[am][12]|nz|iz)([\s_:-]+(a[12]|m[12]|[a-z]{1,2}(z|\d+)|ref|le|avg?))?"
    r"|c(z|\d)[\s_:-]+(a[12]|m[12]|[a-z]{1,2}(z|\d+)|ref|le|avg?)",
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"(lead|ableitung|l|d|c|v)[\s_.#:-]*(\d{1,2})", re.IGNORECASE)
_FEWEST_OF_EEG = 2


def canonical_lead(label: str) -> str | None:
    """The canonical spelling of an ECG lead (I, aVR, V1, MLII, ECG0 ...), or None if the label names no ECG lead."""
    plain = without_unit(label.strip())
    plain = re.sub(r"\(.*?\)", "", plain).strip(" '\"_")
    if pair := _PAIR.search(plain):
        return _ELECTRODES[pair[1].upper()]
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


def _series(labels: Sequence[str]) -> dict[int, str]:
    """Names by place for labels that only count (`lead_0` to `lead_11`, `L0` ..., `C1` to `C12`); empty where none do.

    Up to three that begin at 1 are I, II and III, six C are chest leads, and up to nine V are themselves.
    """
    groups: dict[str, list[tuple[int, int]]] = {}
    for place, label in enumerate(labels):
        if found := _NUMBERED.fullmatch(without_unit(label.strip(" '\"_"))):
            groups.setdefault(found[1].lower(), []).append((int(found[2]), place))
    named: dict[int, str] = {}
    for prefix, members in groups.items():
        numbers = [number for number, _ in members]
        first, count = numbers[0], len(numbers)
        longest = {"v": 9, "c": 6}.get(prefix, 3)
        if first not in (0, 1) or numbers != list(range(first, first + count)) or (first == 1 and count <= longest) or count < 2:
            continue
        named |= dict(zip((place for _, place in members), default_lead_names(count), strict=True))
    return named


def _of_eeg(labels: Sequence[str]) -> bool:
    """Tell whether channels are those of an EEG: at least two are named after its electrodes."""
    return sum(_EEG.fullmatch(label.strip(" '\"_")) is not None for label in labels) >= _FEWEST_OF_EEG


def lead_names(labels: Sequence[str]) -> list[str | None]:
    """The canonical lead of each channel, None where it is no ECG lead, judged by all names together.

    C1 to C6 are chest leads beside I and II, or all six of them; C3 and C4 alone, and any C beside F3, O1 or Cz, are
    electrodes of an EEG. Channels that are numbered through have the standard names if they are twelve, else ECG1, ECG2 ...
    """
    return list(_lead_names(tuple(labels)))


@lru_cache(maxsize=256)
def _lead_names(labels: tuple[str, ...]) -> tuple[str | None, ...]:
    names: list[str | None] = [canonical_lead(label) for label in labels]
    series = _series(labels)
    for place, name in series.items():
        names[place] = name
    electrodes = [n for n, label in enumerate(labels) if re.fullmatch(r"C[1-6]", without_unit(label.strip(" '\"_")).upper())]
    kept = [name for n, name in enumerate(names) if n not in electrodes]
    chest = len(electrodes) == 6 or ({"I", "II"} <= set(kept) and {"V1", "V2"} & {names[n] for n in electrodes})
    if electrodes and not any(n in series for n in electrodes) and (not chest or _of_eeg(labels)):
        for n in electrodes:
            names[n] = None
    return tuple(names)


def _without_copies(picked: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Leads without those that are another lead of the file, filtered."""
    plain = {_RAW.sub("", name) for _, name in picked if not _FILTERED.search(name)}
    return [(index, name) for index, name in picked if not _FILTERED.search(name) or _FILTERED.sub("", name) not in plain]


def pick_leads(labels: Sequence[str], where: str) -> tuple[list[int], tuple[str, ...]]:
    """Places of the channels that are ECG leads, and their canonical names, each once.

    Named leads are taken; if there are none, channels whose names say nothing (`ch1`, `value`, empty), unless others are
    those of an EEG. A filtered copy of a lead is left out. Raises `InputError` if that leaves none; `where` names the file in
    its sentence.
    """
    picked = [(index, name) for index, name in enumerate(lead_names(labels)) if name is not None]
    if picked:
        names: list[str] = []
        picked = _without_copies(picked)
        for _, name in picked:
            same = sum(other.split(" #")[0] == name for other in names)
            names.append(f"{name} #{same + 1}" if same else name)
        return [index for index, _ in picked], tuple(names)
    indices = [index for index, label in enumerate(labels) if _GENERIC.fullmatch(label.strip(" '\""))]
    if not indices or _of_eeg(labels):
        listed = ", ".join(repr(label.strip()) for label in labels[:8]) + (" ..." if len(labels) > 8 else "")
        raise InputError(f"{where} has no ECG channel; its channels are {listed or 'none'}.")
    return indices, default_lead_names(len(indices))


def pick_voltages(
    labels: Sequence[str], units: Sequence[str], mv_of_unit: float | None, where: str
) -> tuple[list[int], tuple[str, ...], list[float], tuple[str, ...]]:
    """Places of the ECG leads among channels with units, their names, mV per unit of each, and notes on guessed units.

    mv_of_unit: what the user stated, for all of them. Raises `InputError` where no channel is an ECG, or where an ECG lead is
    in a unit that is no voltage.
    """
    scales = [mv_of_unit or mv_per_unit(unit) for unit in units]
    volts = [n for n, scale in enumerate(scales) if scale is not None]
    leads = [n for n, name in enumerate(lead_names(labels)) if name is not None]
    if leads and not set(leads) & set(volts):
        shown = units[leads[0]].strip()[:20]
        raise InputError(
            f"{where} states lead {labels[leads[0]].strip()} in {shown!r}, which is no voltage;"
            " state its unit as unit (--ecg-unit), such as uV."
        )
    kept = [n for n in leads if n in volts] or volts
    chosen, names = pick_leads([labels[n] for n in kept] if leads else list(labels), where)
    rows = [kept[n] for n in chosen] if leads else [n for n in chosen if n in volts]
    if not rows:
        raise InputError(
            f"{where} has no channel in volts that could be an ECG; state the unit as unit (--ecg-unit), such as uV."
        )
    names = names if leads else default_lead_names(len(rows))
    guessed = sorted({units[n].strip() for n in rows if mv_of_unit is None and is_garbled(units[n])})
    notes = tuple(f"The unit {unit!r} is taken for uV, with its micro sign lost." for unit in guessed)
    return rows, names, [float(scales[n] or 1.0) for n in rows], notes
