"""Analysis of an ECG for one window of video: its beats, and its best lead cleaned; also of an ECG still being recorded."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from echogen import ecg as ecg_module
from echogen.ecg_window.beats import Beats
from echogen.ecg_window.lead import lead_window, normalised_lead
from echogen.ecg_window.spec import EcgWindowSpec
from echogen.errors import InputError
from echogen.records import Ecg

#: Length in s of the end of a recording in which an R peak may still move or be missed: half a QRS complex.
UNSURE_END_S = 0.05


@dataclass(frozen=True)
class EcgWindow:
    """The beats of an ECG, and the lead that they were found in as a network reads it.

    beats: all beats of the ECG, the next one expected where the ECG is still being recorded.
    lead_name: name of the lead.
    lead: (samples,) the lead, cleaned and normalised, at spec.rate_hz.
    start_s: time of the lead's first sample, in s.
    until_s: end of the recording so far, in s; infinite where the whole ECG is known.
    spec: sizes of the windows cut from the lead.
    """

    beats: Beats
    lead_name: str
    lead: NDArray[np.float32]
    start_s: float
    until_s: float = np.inf
    spec: EcgWindowSpec = field(default_factory=EcgWindowSpec)

    def window(self, start_s: float, latents: int) -> NDArray[np.float32]:
        """(samples,) ECG of a window of latents from start_s on; zeros where there is none, whole patches up to until_s."""
        spec = self.spec
        recorded = min((self.until_s - start_s + spec.before_s) * spec.rate_hz + 1e-6, spec.samples(latents))
        patches = max(int(recorded) // spec.patch_samples, 1)
        return lead_window(self.lead, self.start_s, start_s, patches * spec.patch_samples, spec)


def analyse_ecg(ecg: Ecg, spec: EcgWindowSpec | None = None) -> EcgWindow:
    """Find the beats of a whole ECG and clean its best lead. Raises `InputError` where there is no QRS complex."""
    spec = spec or EcgWindowSpec()
    found = ecg_module.find_landmarks(ecg, ecg.lead_names[0] if len(ecg.lead_names) == 1 else None)
    cleaned = ecg_module.resample(ecg_module.clean(_one_lead(ecg, found.lead)), spec.rate_hz)
    beats = Beats(found.r_s, found.qrs_onset_s, found.p_onset_s, found.wide_qrs)
    return EcgWindow(beats, found.lead, normalised_lead(cleaned.signal_mv[0]), cleaned.start_s, spec=spec)


def analyse_ecg_so_far(ecg: Ecg, lead_name: str | None = None, spec: EcgWindowSpec | None = None) -> EcgWindow:
    """Find the beats of an ECG that is still being recorded, and expect the next one.

    lead_name: the lead to use; None chooses the best one. Raises `InputError` where there is no QRS complex.
    """
    ecg_window = analyse_ecg(_one_lead(ecg, lead_name or ecg_module.choose_lead(ecg)), spec)
    return replace(ecg_window, beats=with_expected_beat(ecg_window.beats, ecg.end_s), until_s=ecg.end_s)


def with_expected_beat(beats: Beats, until_s: float) -> Beats:
    """Drop beats that may still move and add the next one: after the median interval, or at the recording's end if it is late.

    until_s: end of the recording so far, in s. Raises `InputError` where no beat is sure.
    """
    sure = beats.r_s <= until_s - UNSURE_END_S
    if not sure.any():
        raise InputError("There is no QRS complex in the ECG so far; more of it is needed.")
    past = Beats(beats.r_s[sure], beats.qrs_onset_s[sure], beats.p_onset_s[sure], beats.wide_qrs[sure])
    r_s = max(float(past.r_s[-1]) + past.usual_interval_s(), until_s - UNSURE_END_S)
    qrs_onset_s = r_s + float(np.median(past.qrs_onset_s - past.r_s))
    return Beats(
        np.append(past.r_s, r_s),
        np.append(past.qrs_onset_s, qrs_onset_s),
        np.append(past.p_onset_s, r_s + past.usual_p_offset_s()),
        np.append(past.wide_qrs, False),
    )


def _one_lead(ecg: Ecg, lead_name: str) -> Ecg:
    return Ecg(ecg.lead(lead_name)[None], ecg.rate_hz, (lead_name,), ecg.start_s)
