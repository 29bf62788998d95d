"""Apple Watch ECG exports: a short header in the user's language, then one value a line.

Keys differ by language, so the header is understood by its values: a number followed by one word (513.625 hertz) is the
rate, a voltage unit on its own is the unit, and a value that ends in a lead name is the lead.
"""

from __future__ import annotations

import csv
import re

from echogen.ecg.leads import canonical_lead
from echogen.ecg.text import TextLayout, number
from echogen.ecg.units import mv_per_unit

_RATE = re.compile(r"(\d+(?:[.,]\d+)?)[\s\u00a0\u202f]*([^\d\s]+)")
#: The beginnings of the word for Hertz in the languages of the watch.
_HERTZ = ("hz", "hert", "herz", "herc", "гц", "герц", "херц", "χερτζ", "赫", "ヘルツ", "헤르츠", "هرتز", "הרץ", "เฮิ", "हर्ट्ज")
#: Every watch samples near 512 Hz: what a number in another word must be to count, in Hz.
_USUAL_HZ = (500.0, 520.0)


def _number_or_none(line: str) -> float | None:
    return number(line, "," if "," in line else ".")


def _is_rate(value: float, word: str) -> bool:
    """Tell whether a number and the word after it are a sampling rate, not a heart rate, a duration or the like."""
    if word.lower().startswith(_HERTZ):
        return 50 <= value <= 5000
    return word[:1].isalpha() and not word.isascii() and _USUAL_HZ[0] <= value <= _USUAL_HZ[1]


def apple_layout(head: list[str], encoding: str) -> TextLayout | None:
    """The layout of an Apple Watch export from its first lines, or None if the file is something else."""
    rate: float | None = None
    unit: float | None = None
    lead = "I"
    first = None
    for n, line in enumerate(head):
        if not line.strip():
            continue
        if unit is not None and re.fullmatch(r"\"?-?[\d.,]+(e-?\d+)?\"?;?", line.strip(), re.IGNORECASE):
            first = n
            break
        cells = next(csv.reader([line.strip()], delimiter=";" if ";" in line and "," not in line else ","), [])
        value = cells[1].strip() if len(cells) > 1 else ""
        found = _RATE.fullmatch(value)
        if found and len(cells) == 2 and _is_rate(float(found[1].replace(",", ".")), found[2]):
            rate = rate or float(found[1].replace(",", "."))
        elif len(cells) == 2 and mv_per_unit(value) is not None:
            unit = mv_per_unit(value)
        elif value and len(value.split()) == 2:
            lead = canonical_lead(value.split()[-1]) or lead
    if rate is None or unit is None or first is None:
        return None
    data = [line for line in head[first:] if line.strip()]
    if any(_number_or_none(line) is None for line in data[:50]):
        return None
    decimal = "," if any("," in line for line in data) else "."
    return TextLayout("Apple Watch", first, None, decimal, (0,), (lead,), (unit,), (rate,), encoding)
