"""What a window of video hears of an ECG: the beats of its best lead, and that lead for the network; worked out once a window."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from echogen import ecg as ecg_module
from echogen.ecg_window.features import ECG_BEFORE_S, ECG_RATE_HZ, Beats, lead_window, normalised_lead, window_samples
from echogen.errors import InputError
from echogen.records import Ecg

#: An R peak that is nearer to the end of what was heard may still move or be missed.
UNSURE_END_S = 0.05
#: The interval between beats where only one was heard, in s, and samples that a network takes at a time.
_USUAL_INTERVAL_S, _PATCH = 0.85, 16


@dataclass(frozen=True)
class EcgWindow:
    """The beats of an ECG and the lead they were found in, cleaned and normalised at `ECG_RATE_HZ` from start_s on.

    until_s: what follows has not been heard yet; infinite where the ECG is as long as a window wants it.
    """

    beats: Beats
    lead_name: str
    lead: NDArray[np.float32]
    start_s: float
    until_s: float = np.inf

    def window(self, start_s: float, latents: int) -> NDArray[np.float32]:
        """(samples,) what a window of latents from start_s on looks at: zeros where there is no ECG, nothing past until_s."""
        wanted = window_samples(latents)
        ecg_window = min((self.until_s - start_s + ECG_BEFORE_S) * ECG_RATE_HZ + 1e-6, wanted)
        return lead_window(self.lead, self.start_s, start_s, max(int(ecg_window) // _PATCH, 1) * _PATCH)


def analyse_ecg(ecg: Ecg) -> EcgWindow:
    """Listen to an ECG. Raises `InputError` where there is no QRS complex."""
    found = ecg_module.find_landmarks(ecg, ecg.lead_names[0] if len(ecg.lead_names) == 1 else None)
    cleaned = ecg_module.resample(ecg_module.clean(_alone(ecg, found.lead)), ECG_RATE_HZ)
    beats = Beats(found.r_s, found.qrs_onset_s, found.p_onset_s, found.wide_qrs)
    return EcgWindow(beats, found.lead, normalised_lead(cleaned.signal_mv[0]), cleaned.start_s)


def analyse_ecg_so_far(ecg: Ecg, lead_name: str | None = None) -> EcgWindow:
    """Listen to an ECG that is still being recorded, to one lead (the best, or the one named), and expect the next beat.

    Raises `InputError` where there is no QRS complex.
    """
    ecg_window = analyse_ecg(_alone(ecg, lead_name or ecg_module.choose_lead(ecg)))
    return replace(ecg_window, beats=with_expected_beat(ecg_window.beats, ecg.end_s), until_s=ecg.end_s)


def with_expected_beat(beats: Beats, until_s: float) -> Beats:
    """The beats that were heard for sure by until_s, and the next one: after the usual interval, or any moment if it is late.

    Raises `InputError` where none was heard for sure.
    """
    sure = beats.r_s <= until_s - UNSURE_END_S
    if not sure.any():
        raise InputError("There is no QRS complex in what was heard of the ECG; more of it is needed.")
    r, onset, p, wide = (values[sure] for values in (beats.r_s, beats.qrs_onset_s, beats.p_onset_s, beats.wide_qrs))
    interval = float(np.median(np.diff(r))) if len(r) > 1 else _USUAL_INTERVAL_S
    due = max(float(r[-1]) + interval, until_s - UNSURE_END_S)
    before = float(np.nanmedian(p - r)) if np.isfinite(p).mean() > 0.5 else np.nan
    coming = due, due + float(np.median(onset - r)), due + before, False
    return Beats(*(np.append(values, new) for values, new in zip((r, onset, p, wide), coming, strict=True)))


def _alone(ecg: Ecg, lead_name: str) -> Ecg:
    return Ecg(ecg.lead(lead_name)[None], ecg.rate_hz, (lead_name,), ecg.start_s)
