"""A summary of what the reader made of an ECG file: leads, rate, unit, gaps, waves and quality, each with its doubt."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

from echogen.arrays import Floats
from echogen.ecg.formats import EcgInfo, ecg_info, read_around_gaps
from echogen.ecg.gaps import Gap
from echogen.ecg.landmarks import Landmarks, find_landmarks
from echogen.ecg.quality import measure_lead, signal_quality
from echogen.errors import InputError
from echogen.records import Ecg

#: Seconds of a long ECG that are looked at.
LOOKED_AT_S = 60.0
#: Window of each wave around its R peak, in s; P and T waves that were found move their window along.
_R_S, _P_S, _T_S = (-0.06, 0.06), (-0.24, -0.08), (0.16, 0.42)
#: Half the length of the window around a T peak, and the length after a P onset, in s.
_T_HALF_S, _P_LENGTH_S = 0.09, 0.11
#: Shares of beats with a wave from which it counts as present, and below which it counts as absent.
_PRESENT, _ABSENT = 0.8, 0.2
#: Less confident verdicts are not given.
_CONFIDENT = 0.3


@dataclass(frozen=True)
class LeadSummary:
    """One lead: its name, peak to peak of its whole signal and of its QRS in mV, beats a minute, and a verdict with reasons.

    heart_rate_bpm, qrs_mv: nan where no beats were found in this lead.
    """

    name: str
    swing_mv: float
    qrs_mv: float
    heart_rate_bpm: float
    quality: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class WaveSummary:
    """One wave (R, P or T) over all beats.

    verdict: "present", "absent", "in some beats", or "unclear" for a confidence under 0.3. share: of beats with it, 0..1.
    confidence: of the verdict, 0..1, from the height of the mean wave over how much it differs from beat to beat; near 0.5
    little can be told.
    """

    name: str
    verdict: str
    share: float
    confidence: float


@dataclass(frozen=True)
class EcgSummary:
    """All that was made of a file: what it says, the part that was looked at, its gaps, leads and waves.

    landmarks: of every beat of that part, None where no beats were found; refusal then says why. waves is then empty.
    """

    info: EcgInfo
    ecg: Ecg
    gaps: tuple[Gap, ...]
    leads: tuple[LeadSummary, ...]
    landmarks: Landmarks | None
    waves: tuple[WaveSummary, ...]
    refusal: str = ""


def _lead(ecg: Ecg, name: str) -> LeadSummary:
    signal = ecg.lead(name)
    own = Ecg(signal[None], ecg.rate_hz, (name,), ecg.start_s)
    quality = signal_quality(own)
    facts = measure_lead(signal.astype(np.float64), ecg.rate_hz)
    shows = quality.verdict not in ("flat", "not an ecg")
    rate, amplitude = (facts.rate_bpm, facts.amplitude_mv) if shows else (float("nan"), float("nan"))
    return LeadSummary(name, float(np.ptp(signal)), amplitude, rate, quality.verdict, quality.reasons)


def _clearness(signal: Floats, rate_hz: float, centres_s: Floats, window_s: tuple[float, float]) -> float:
    """Clearness, 0..1, of the wave that beats share in a window: h / (h + s) of its mean height and spread from beat to beat."""
    offsets = np.arange(round(window_s[0] * rate_hz), round(window_s[1] * rate_hz) + 1)
    at = np.rint(centres_s * rate_hz).astype(np.int64)[:, None] + offsets
    at = at[(at[:, 0] >= 0) & (at[:, -1] < len(signal))]
    if len(at) < 2 or len(offsets) < 3:
        return 0.5
    beats = signal[at]
    beats = beats - beats.mean(axis=1, keepdims=True)
    usual = np.median(beats, axis=0)
    # The middle of the window against a straight line between its ends: a slope is no wave.
    height = float(np.abs(usual - np.linspace(usual[0], usual[-1], len(usual))).max())
    spread = float(1.4826 * np.median(np.abs(beats - usual)))
    return height / max(height + 2.0 * spread, 1e-9)


def _wave(name: str, found: Floats, clearness: float) -> WaveSummary:
    share = float(np.isfinite(found).mean())
    if share >= _PRESENT:
        verdict, confidence = "present", clearness
    elif share <= _ABSENT:
        verdict, confidence = "absent", 1.0 - clearness
    else:
        verdict, confidence = "in some beats", min(clearness, share)
    return WaveSummary(name, verdict if confidence >= _CONFIDENT else "unclear", share, confidence)


def wave_summaries(ecg: Ecg, landmarks: Landmarks) -> tuple[WaveSummary, ...]:
    """R, P and T over all beats, in the lead in which they were found."""
    signal = ecg.lead(landmarks.lead).astype(np.float64)
    r_s = landmarks.r_s - ecg.start_s
    p, t = landmarks.p_onset_s - landmarks.r_s, landmarks.t_peak_s - landmarks.r_s
    has_p, has_t = np.isfinite(p).mean() > _ABSENT, np.isfinite(t).mean() > _ABSENT
    p_at = (float(np.nanmedian(p)), float(np.nanmedian(p)) + _P_LENGTH_S) if has_p else _P_S
    t_at = (float(np.nanmedian(t)) - _T_HALF_S, float(np.nanmedian(t)) + _T_HALF_S) if has_t else _T_S
    agreement = measure_lead(signal, ecg.rate_hz).detection.agreement
    return (
        _wave("R", r_s, agreement * _clearness(signal, ecg.rate_hz, r_s, _R_S)),
        _wave("P", p, _clearness(signal, ecg.rate_hz, r_s, p_at)),
        _wave("T", t, _clearness(signal, ecg.rate_hz, r_s, t_at)),
    )


def summarise(
    path: str | os.PathLike[str],
    *,
    rate_hz: float | None = None,
    unit: str | None = None,
    start_s: float = 0.0,
    seconds: float = LOOKED_AT_S,
) -> EcgSummary:
    """Read a part of an ECG file and tell what was made of it; arguments and errors as in `read_ecg`.

    Of a part with long gaps the longest stretch without one is looked at.
    """
    info = ecg_info(path, rate_hz=rate_hz, unit=unit)
    length = min(seconds, info.duration_s - start_s)
    ecg, gaps = read_around_gaps(path, rate_hz=rate_hz, unit=unit, start_s=start_s, seconds=length if length > 0 else seconds)
    leads = tuple(_lead(ecg, name) for name in ecg.lead_names)
    try:
        landmarks = find_landmarks(ecg)
    except InputError as refused:
        return EcgSummary(info, ecg, gaps, leads, None, (), str(refused))
    return EcgSummary(info, ecg, gaps, leads, landmarks, wave_summaries(ecg, landmarks))
