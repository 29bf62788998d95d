"""The beats of an ECG: R peaks, QRS and P onsets, with the mechanical events that follow them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from echogen import ecg as ecg_module
from echogen.arrays import Floats
from echogen.physiology import BeatClock, beat_clock
from echogen.records import Ecg

#: Interval between beats where an ECG shows only one, in s: 70 beats per minute, a usual rate at rest.
USUAL_INTERVAL_S = 0.85
#: Share of beats with a P wave above which beats that are added have one too; fewer mean atrial fibrillation.
USUAL_P_SHARE = 0.5


@dataclass(frozen=True)
class Beats:
    """The beats of an ECG, one entry a beat in each field.

    r_s: (beats,) R peaks, in s.
    qrs_onset_s: (beats,) QRS onsets, in s.
    p_onset_s: (beats,) P onsets, in s; nan where there is no P wave.
    wide_qrs: (beats,) True where the QRS complex is wide, as in a ventricular or paced beat.
    """

    r_s: Floats
    qrs_onset_s: Floats
    p_onset_s: Floats
    wide_qrs: NDArray[np.bool_]

    def clock(self, sex: str | None = None, ef_percent: float | None = None) -> BeatClock:
        """Times of each beat's mechanical events by `echogen.physiology`; sex and EF in % shift them where they are known."""
        return beat_clock(self.qrs_onset_s, self.p_onset_s, sex=sex, ef_percent=ef_percent, wide_qrs=self.wide_qrs)

    def usual_interval_s(self) -> float:
        """Median R-R interval, in s; `USUAL_INTERVAL_S` for a single beat."""
        return float(np.median(np.diff(self.r_s))) if len(self.r_s) > 1 else USUAL_INTERVAL_S

    def usual_p_offset_s(self) -> float:
        """Median time from R peak to P onset, in s (negative); nan where most beats have no P wave."""
        offset = self.p_onset_s - self.r_s
        return float(np.nanmedian(offset)) if np.isfinite(offset).mean() > USUAL_P_SHARE else float("nan")

    def extended(self, start_s: float, end_s: float) -> Beats:
        """Add beats at the median interval before and after, so that start_s to end_s is covered with a beat to spare."""
        interval = self.usual_interval_s()
        before = max(0, int(np.ceil((self.r_s[0] - start_s) / interval)) + 1)
        after = max(0, int(np.ceil((end_s - self.r_s[-1]) / interval)) + 1)

        def with_added(values: Floats) -> Floats:
            early = values[0] - interval * np.arange(before, 0, -1)
            late = values[-1] + interval * np.arange(1, after + 1)
            return np.concatenate([early, values, late])

        offset = self.usual_p_offset_s()
        r = with_added(self.r_s)
        p = np.concatenate([r[:before] + offset, self.p_onset_s, r[len(r) - after :] + offset])
        wide = np.concatenate([np.repeat(self.wide_qrs[:1], before), self.wide_qrs, np.repeat(self.wide_qrs[-1:], after)])
        return Beats(r, with_added(self.qrs_onset_s), p, wide)


def find_beats(ecg: Ecg) -> Beats:
    """Find the beats of an ECG by its landmarks. Raises `InputError` where there is no QRS complex."""
    found = ecg_module.find_landmarks(ecg)
    return Beats(found.r_s, found.qrs_onset_s, found.p_onset_s, found.wide_qrs)
