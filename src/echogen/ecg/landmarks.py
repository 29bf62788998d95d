"""Landmarks of every beat of an ECG: R peak, QRS onset and width, P onset, T peak and end."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import Floats
from echogen.ecg.all_leads import AllLeads
from echogen.ecg.delineate import Waves, delineate
from echogen.ecg.detectors import detect_qrs, refine
from echogen.ecg.filters import clean, resample
from echogen.ecg.quality import choose_lead, lead_signal
from echogen.errors import InputError
from echogen.records import Ecg

SHORTEST_S = 1.0
WIDE_QRS_S = 0.120
_BEATS_AT_ONCE = 400
_DELINEATION_RATE_HZ = 250.0


@dataclass(frozen=True)
class Landmarks:
    """The beats of an ECG, one entry a beat, float64 on the clock of the ECG in s.

    lead: the lead they were found in. r_s: peak of the dominant QRS deflection. qrs_onset_s, qrs_width_s: start and length
    of the QRS. p_onset_s, t_peak_s, t_end_s: nan where the wave is absent.
    """

    lead: str
    r_s: Floats
    qrs_onset_s: Floats
    qrs_width_s: Floats
    p_onset_s: Floats
    t_peak_s: Floats
    t_end_s: Floats

    def __len__(self) -> int:
        return len(self.r_s)

    @property
    def heart_rate_bpm(self) -> float:
        """60 / median RR interval; nan for a single beat."""
        return float(60.0 / np.median(np.diff(self.r_s))) if len(self.r_s) > 1 else float("nan")

    @property
    def wide_qrs(self) -> NDArray[np.bool_]:
        """Mark the beats whose QRS takes more than 0.12 s: paced, ventricular or with a bundle branch block."""
        return np.asarray(self.qrs_width_s > WIDE_QRS_S)


def find_landmarks(ecg: Ecg, lead: str | None = None) -> Landmarks:
    """Find every beat of an ECG in its best lead, or in the one named.

    R peaks come from two detectors that share no filter (see `detectors`), QRS limits from all leads together. Raises
    `InputError` for an ECG shorter than 1 s, without QRS complexes, or without that lead.
    """
    if ecg.duration_s < SHORTEST_S:
        raise InputError(
            f"The ECG is {ecg.duration_s:.2f} s long, too short to find heart beats; at least {SHORTEST_S:g} s are needed."
        )
    name = choose_lead(ecg) if lead is None else lead
    signal = lead_signal(ecg, name)
    name = next(own for own in ecg.lead_names if own.upper() == name.upper())
    detection = detect_qrs(signal, ecg.rate_hz)
    if len(ecg.lead_names) > 1 and detection.peaks.size > 1:
        together = AllLeads(ecg.signal_mv, ecg.rate_hz).completed(detection.peaks)
        if len(together) > len(detection.peaks):
            detection = replace(detection, peaks=refine(signal, np.rint(together).astype(np.int64), ecg.rate_hz))
    rate = 60.0 * ecg.rate_hz / np.median(np.diff(detection.peaks)) if detection.peaks.size > 1 else 60.0
    if not detection.convincing or not 20.0 <= rate <= 300.0:
        raise InputError(f"There are no QRS complexes found in lead {name} of this ECG; give an ECG with visible heart beats.")
    cleaned = clean(replace(ecg, start_s=0.0))
    if cleaned.rate_hz < _DELINEATION_RATE_HZ:
        cleaned = resample(cleaned, cleaned.rate_hz * np.ceil(_DELINEATION_RATE_HZ / cleaned.rate_hz))
    main = ecg.lead_names.index(name)
    peaks = detection.peaks * (cleaned.rate_hz / ecg.rate_hz)
    parts: list[Waves] = []
    for group in np.array_split(np.arange(peaks.size), -(-peaks.size // _BEATS_AT_ONCE)):
        first = max(int(peaks[group[0]] - 2 * cleaned.rate_hz), 0)
        piece = cleaned.signal_mv[:, first : int(peaks[group[-1]] + 2 * cleaned.rate_hz)].astype(np.float64)
        parts.append(delineate(piece, main, cleaned.rate_hz, peaks[group] - first))
    r_s = ecg.start_s + detection.peaks / ecg.rate_hz
    onset, p, t_peak, t_end = (
        r_s + np.concatenate([getattr(part, wave) for part in parts]) for wave in ("qrs_onset", "p_onset", "t_peak", "t_end")
    )
    return Landmarks(name, r_s, onset, np.concatenate([part.qrs_width for part in parts]), p, t_peak, t_end)
