"""The excerpt of an ECG that a whole-signal encoder such as ST-MEM sees with a window of video."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from echogen.errors import InputError
from echogen.records import Ecg


def excerpt_start(ecg: Ecg, first_s: float, last_s: float, length_s: float) -> float:
    """Start in s of an excerpt of length_s for the video from first_s to last_s: the middle of what training draws it from.

    The excerpt covers the video and lies within the ECG, as far as it can.
    """
    latest = max(ecg.start_s, ecg.end_s - length_s)
    return float(np.clip([last_s - length_s, first_s], ecg.start_s, latest).mean())


def known_leads(ecg: Ecg, leads: Sequence[str]) -> list[str]:
    """Return the ECG's own names of those of `leads` that it has, MLII counting as II; raises `InputError` where it has none."""
    own = {name.upper().removeprefix("ML"): name for name in reversed(ecg.lead_names)}
    found = [own[lead.upper()] for lead in leads if lead.upper() in own]
    if not found:
        raise InputError(
            f"The generator knows the leads {', '.join(leads)}, but the ECG has {', '.join(ecg.lead_names)}; "
            "name its leads or give another recording."
        )
    return found
