"""The heart's clock: when a beat ejects and fills, and how much; used by the phantom and by the metrics alike.

Times are in s from the QRS onset unless a name ends in `_s` and the text says "clock"; volumes in ml; EF as a fraction
in formulas (`ef`) and in % at the surface (`ef_percent`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betainc

from echogen.arrays import Floats

QRS_ONSET_BEFORE_R_S = 0.040
MITRAL_CLOSURE_S = 0.050
MINIMUM_LVET_S = 0.150
HEALTHY_EF = 0.65
#: Contraction of the beat after a compensatory pause over that of a usual beat, at most.
STRONGEST_BEAT = 1.10
#: (intercept, slope per bpm) in ms; Weissler, Circulation 1968 and Lewis, Circulation 1977.
_WEISSLER_MS = {
    "m": {"lvet": (413.0, 1.7), "pep": (131.0, 0.4), "qs2": (546.0, 2.1)},
    "f": {"lvet": (418.0, 1.6), "pep": (133.0, 0.4), "qs2": (549.0, 2.0)},
}


def systolic_intervals(
    heart_rate_bpm: ArrayLike, sex: str | None = None, ef_percent: ArrayLike | None = None
) -> tuple[Floats, Floats]:
    """Pre-ejection period and left ventricular ejection time in s, from heart rate (60 / preceding RR).

    Weissler's regressions; sex None takes the mean of both. With an EF, QS2 is kept and PEP / LVET follows
    (1.125 - EF) / 1.25 (Garrard 1970), scaled to meet the regression at EF 0.65. LVET is at least 150 ms.
    Aortic closure, which is end-systole, lies at PEP + LVET.
    """
    rate = np.clip(np.asarray(heart_rate_bpm, dtype=np.float64), 20.0, 220.0)
    tables = [_WEISSLER_MS[sex]] if sex else list(_WEISSLER_MS.values())

    def regression(name: str) -> Floats:
        return np.asarray(np.mean([t[name][0] - t[name][1] * rate for t in tables], axis=0)) / 1000.0

    pep, qs2 = regression("pep"), regression("qs2")
    if ef_percent is not None:
        ef = np.clip(np.asarray(ef_percent, dtype=np.float64) / 100.0, 0.05, 0.85)
        healthy_ratio = pep / (qs2 - pep)
        ratio = healthy_ratio * (1.125 - ef) / (1.125 - HEALTHY_EF)
        pep = qs2 * ratio / (1.0 + ratio)
    lvet = np.maximum(qs2 - pep, MINIMUM_LVET_S)
    return pep, lvet


@dataclass(frozen=True)
class BeatClock:
    """Times of each beat's events, one entry a beat, on the clock of the ECG in s.

    ed_s: mitral closure, the largest cavity. avo_s / avc_s: aortic opening and closure; avc_s is end-systole.
    mvo_s: mitral opening. a_onset_s: start of the A wave that ends at this beat's ed_s; nan where the atria do not contract.
    """

    qrs_onset_s: Floats
    ed_s: Floats
    avo_s: Floats
    avc_s: Floats
    mvo_s: Floats
    a_onset_s: Floats

    def __len__(self) -> int:
        return len(self.qrs_onset_s)


def preceding_rr(r_s: Floats) -> Floats:
    """The RR interval before each beat in s; the first beat takes the one after it (0.8 s when alone)."""
    if len(r_s) < 2:
        return np.full(len(r_s), 0.8)
    rr = np.diff(r_s)
    return np.concatenate([rr[:1], rr])


def beat_clock(
    qrs_onset_s: ArrayLike,
    p_onset_s: ArrayLike | None = None,
    *,
    sex: str | None = None,
    ef_percent: float | None = None,
    wide_qrs: ArrayLike | bool = False,
    ivrt_s: float = 0.080,
    atrial_delay_s: float = 0.080,
) -> BeatClock:
    """The mechanical events that follow each QRS onset (clock time in s).

    p_onset_s: one per beat, nan where there is no P wave; None: no atrial contraction at all.
    wide_qrs: paced or broad complexes, whose PEP is 30 ms longer at the expense of nothing (aortic closure moves along).
    ivrt_s: 0.06..0.10, from aortic closure to mitral opening. atrial_delay_s: 0.07..0.09, from P onset to the A wave.
    """
    onset = np.atleast_1d(np.asarray(qrs_onset_s, dtype=np.float64))
    pep, lvet = systolic_intervals(60.0 / np.maximum(preceding_rr(onset), 0.25), sex, ef_percent)
    late = np.where(np.broadcast_to(np.asarray(wide_qrs), onset.shape), 0.030, 0.0)
    avc = onset + pep + late + lvet
    # In a very fast, strong heart the regression would open the aortic valve before the mitral valve has shut.
    avo = onset + np.maximum(pep + late, MITRAL_CLOSURE_S)
    # A beat that comes early ends the relaxation of the one before it.
    mvo = avc + ivrt_s
    if p_onset_s is None:
        a_onset = np.full(len(onset), np.nan)
    else:
        a_onset = np.asarray(p_onset_s, dtype=np.float64) + atrial_delay_s
    return BeatClock(onset, onset + MITRAL_CLOSURE_S, avo, avc, mvo, a_onset)


def ejected_fraction(phase: ArrayLike) -> Floats:
    """Share of the stroke volume that has left at `phase` (0..1) of the ejection: the regularised incomplete beta I(2, 2.6)."""
    return np.asarray(betainc(2.0, 2.6, np.clip(np.asarray(phase, dtype=np.float64), 0.0, 1.0)))


def _lobe(times_s: Floats, start_s: float, end_s: float) -> Floats:
    """Integral of a half-sine flow wave, 0 before start and 1 after end."""
    phase = np.clip((times_s - start_s) / max(end_s - start_s, 1e-3), 0.0, 1.0)
    return 0.5 - 0.5 * np.cos(np.pi * phase)


@dataclass(frozen=True)
class Filling:
    """Filling of a ventricle: E wave length in s, A wave share of the inflow (0..1), time constant of filling in s."""

    e_duration_s: float = 0.24
    a_share: float = 0.30
    time_constant_s: float = 0.16


def beat_volumes(clock: BeatClock, edv_ml: float, esv_ml: float, filling: Filling) -> tuple[Floats, Floats]:
    """EDV and ESV of every beat in ml, around the reference volumes of the steady rhythm.

    Inflow saturates with the filling time, so a premature beat fills less and a long pause a little more; contraction is
    weaker after a short interval and stronger after the pause that follows (mechanical restitution and potentiation).
    In a steady rhythm every beat has the reference volumes.
    """
    count = len(clock)
    onset = clock.qrs_onset_s
    rr = preceding_rr(onset)
    reference_rr = float(np.median(rr))
    inflow_time = np.concatenate([[np.nan], clock.ed_s[1:] - clock.mvo_s[:-1]])
    usual = float(np.nanmedian(inflow_time)) if count > 1 else 0.4
    inflow_time[0] = usual
    inflow_time = np.maximum(inflow_time, 0.02)
    usual = max(usual, 0.05)

    def filled(seconds: Floats | float) -> Floats:
        return np.asarray(1.0 - np.exp(-np.asarray(seconds) / filling.time_constant_s))

    fill = filled(inflow_time) / filled(usual)
    atria_work_usually = np.isfinite(clock.a_onset_s).mean() > 0.5
    missing_kick = ~np.isfinite(clock.a_onset_s) & bool(atria_work_usually)
    fill = np.where(missing_kick, fill * (1.0 - 0.6 * filling.a_share), fill)
    edvs, esvs = np.empty(count), np.empty(count)
    stroke = edv_ml - esv_ml
    esv = esv_ml
    for k in range(count):
        edv = min(esv + stroke * fill[k], edv_ml * 1.15)
        restitution = np.clip(
            1.0 - 0.55 * np.exp(-(rr[k] - 0.30) / 0.12) + 0.55 * np.exp(-(reference_rr - 0.30) / 0.12), 0.4, 1.1
        )
        earlier = rr[k - 1] if k else reference_rr
        potentiation = np.clip(1.0 + 0.30 * (reference_rr / earlier - 1.0), 0.9, 1.25) if rr[k] > 0.8 * reference_rr else 1.0
        strength = min(float(restitution * potentiation), STRONGEST_BEAT)
        # Frank-Starling: whatever is filled above the reference ESV is ejected, times the strength of this contraction.
        esv = float(np.clip(edv - strength * (edv - esv_ml), 0.12 * edv_ml, edv - 1.0))
        edvs[k], esvs[k] = edv, esv
    return edvs, esvs


def volume_curve(
    times_s: ArrayLike, clock: BeatClock, edvs_ml: ArrayLike, esvs_ml: ArrayLike, filling: Filling | None = None
) -> Floats:
    """Left ventricular volume in ml at each time: isovolumic contraction, front-loaded ejection, isovolumic relaxation,
    E wave, diastasis and A wave. A faster heart shortens diastasis first; E and A then run into each other.

    Before the first beat's ED the heart is at the end of a filling like the one that follows that beat.
    """
    filling = filling or Filling()
    times = np.asarray(times_s, dtype=np.float64)
    edvs, esvs = np.asarray(edvs_ml, dtype=np.float64), np.asarray(esvs_ml, dtype=np.float64)
    volume = np.full(times.shape, edvs[0])
    before = times < clock.ed_s[0]
    if before.any():
        period = clock.ed_s[1] - clock.ed_s[0] if len(clock) > 1 else 0.8
        shift = np.ceil((clock.ed_s[0] - times[before]) / period) * period
        first = BeatClock(*(getattr(clock, name)[:1] for name in clock.__dataclass_fields__))
        later = BeatClock(*(np.concatenate([getattr(first, n), getattr(first, n) + period]) for n in clock.__dataclass_fields__))
        volume[before] = volume_curve(times[before] + shift, later, edvs[[0, 0]], esvs[[0, 0]], filling)
    for k in range(len(clock)):
        last = k + 1 == len(clock)
        period = (clock.ed_s[k] - clock.ed_s[k - 1]) if k else 0.8
        next_ed = clock.ed_s[k] + max(period, 0.3) if last else clock.ed_s[k + 1]
        next_edv = edvs[k] if last else edvs[k + 1]
        a_onset = np.nan if last else clock.a_onset_s[k + 1]
        inside = (times >= clock.ed_s[k]) & ((times < next_ed) | last)
        if not inside.any():
            continue
        t = times[inside]
        # A premature QRS cuts the cycle short: its events are pressed into the time there is.
        avc = min(clock.avc_s[k], next_ed - 0.08)
        avo = min(clock.avo_s[k], avc - 0.05)
        mvo = min(clock.mvo_s[k], next_ed - 0.04)
        falling = edvs[k] - (edvs[k] - esvs[k]) * ejected_fraction((t - avo) / (avc - avo))
        room = next_ed - mvo
        with_a = bool(np.isfinite(a_onset)) and a_onset < next_ed - 0.03
        a_start = max(a_onset, mvo + 0.25 * room) if with_a else next_ed
        e_end = mvo + min(filling.e_duration_s, max(0.75 * room, 0.03))
        e_wave = _lobe(t, mvo, e_end)
        if with_a:
            inflow = (1 - filling.a_share) * e_wave + filling.a_share * _lobe(t, a_start, next_ed)
        else:
            inflow = 0.88 * e_wave + 0.12 * np.clip((t - mvo) / max(room, 1e-3), 0.0, 1.0)
        volume[inside] = np.where(t < avc, falling, esvs[k] + (next_edv - esvs[k]) * inflow)
    return volume


def ejection_fraction_percent(edv_ml: ArrayLike, esv_ml: ArrayLike) -> Floats:
    """EF = (EDV - ESV) / EDV in %."""
    edv, esv = np.asarray(edv_ml, dtype=np.float64), np.asarray(esv_ml, dtype=np.float64)
    return 100.0 * (edv - esv) / edv


def area_length_volume_ml(area_mm2: ArrayLike, length_mm: ArrayLike) -> Floats:
    """Single-plane area-length volume V = 8 A^2 / (3 pi L), from mm^2 and mm to ml."""
    area, length = np.asarray(area_mm2, dtype=np.float64), np.asarray(length_mm, dtype=np.float64)
    return 8.0 * area**2 / (3.0 * np.pi * np.maximum(length, 1e-6)) / 1000.0


def biplane_area_length_volume_ml(
    area_a_mm2: ArrayLike, area_b_mm2: ArrayLike, length_a_mm: ArrayLike, length_b_mm: ArrayLike
) -> Floats:
    """Biplane area-length volume V = 8 A1 A2 / (3 pi L), L the shorter of the two long axes, in ml."""
    length = np.minimum(np.asarray(length_a_mm, dtype=np.float64), np.asarray(length_b_mm, dtype=np.float64))
    product = np.asarray(area_a_mm2, dtype=np.float64) * np.asarray(area_b_mm2, dtype=np.float64)
    return 8.0 * product / (3.0 * np.pi * np.maximum(length, 1e-6)) / 1000.0
