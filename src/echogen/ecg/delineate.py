"""Limits of the waves of each beat: QRS onset and width, P onset, T peak and end.

Beats of the usual shape are measured on their average, which has little noise, and take its offsets from their own R peak;
others (ectopic beats) are measured one by one. Rows are beats, columns samples at fixed offsets from the R peak.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy import signal as dsp

from echogen.arrays import Floats, Mask
from echogen.ecg.filters import band_pass
from echogen.physiology import QRS_ONSET_BEFORE_R_S

BEFORE_S, AFTER_S = 0.45, 0.70
#: A QRS onset nearer to or farther from the R peak than this is not believed.
EARLIEST_ONSET_S, LATEST_ONSET_S = 0.120, 0.020
_USUAL_WIDTH_S = 0.090
#: The tangent of a P wave meets its foot this much after the eye sees it begin.
_P_FOOT_S = 0.008
#: Intervals that usually change by more than this share are irregular; then an average P wave holds at least this share of the
#: variance of single ones. On 300 simulated hearts it held 0.13 to 0.62 in fibrillation and, but for one, 0.82 to 1.00 elsewhere.
_IRREGULAR, _REPEATED = 0.06, 0.70


@dataclass(frozen=True)
class Waves:
    """Times in s relative to each R peak, (beats,); nan where a wave is absent."""

    qrs_onset: Floats
    qrs_width: Floats
    p_onset: Floats
    t_peak: Floats
    t_end: Floats


def _rows(signal: Floats, centres: NDArray[np.int64], offsets: NDArray[np.int64]) -> Floats:
    return np.asarray(signal[np.clip(centres[:, None] + offsets, 0, len(signal) - 1)])


def _correlation(rows: Floats, template: Floats) -> Floats:
    """Pearson correlation of each row with a template (samples,) or with its own row of templates."""
    rows = rows - rows.mean(axis=-1, keepdims=True)
    template = template - template.mean(axis=-1, keepdims=True)
    scale = np.sqrt((rows**2).sum(axis=-1) * (template**2).sum(axis=-1))
    return np.asarray((rows * template).sum(axis=-1) / np.maximum(scale, 1e-12))


def usual_beats(qrs: Floats) -> Mask:
    """Mark the rows (beats, samples around R) that have the shape and about the size of the median beat."""
    template = np.median(qrs, axis=0)
    size = np.ptp(qrs, axis=1) / max(float(np.ptp(template)), 1e-12)
    return np.asarray((_correlation(qrs, template) > 0.9) & (size > 0.5) & (size < 2.0))


def qrs_limits(slope: Floats, times_s: Floats, rate_hz: float) -> tuple[Floats, Floats]:
    """Onset and end of the QRS relative to R in s, from rows of absolute slope in mV/s at `times_s` from R.

    From the first and last steep slope outwards to the first quiet 16 ms: below 5 % of the steepest, or the noise of the row.
    Falls back to R - 40 ms and a width of 90 ms where the result is not believable.
    """
    near = np.abs(times_s) <= 0.12
    steepest = slope[:, near].max(axis=1, keepdims=True)
    noise = np.percentile(slope, 40, axis=1, keepdims=True)
    level = np.minimum(np.maximum(0.05 * steepest, 1.5 * noise), 0.35 * steepest)
    run = max(round(0.016 * rate_hz), 2)
    quiet = (slope < level).astype(np.float64)
    # Quiet for a whole run that ends (or begins) at each sample.
    ends_quiet = ndimage.minimum_filter1d(quiet, run, axis=1, origin=(run - 1) // 2) > 0
    begins_quiet = ndimage.minimum_filter1d(quiet, run, axis=1, origin=-(run // 2)) > 0
    strong = slope >= 0.4 * steepest
    index = np.arange(len(times_s))
    early = strong & (times_s >= -0.10) & (times_s <= 0.04)
    late = strong & (times_s >= -0.04) & (times_s <= 0.14)
    first = np.where(early, index, len(index)).min(axis=1, keepdims=True)
    last = np.where(late, index, -1).max(axis=1, keepdims=True)
    onset_index = np.where(ends_quiet & (index < first), index, -1).max(axis=1)
    end_index = np.where(begins_quiet & (index > last), index, len(index)).min(axis=1)
    onset = np.where(onset_index >= 0, times_s[onset_index.clip(0)] + 1 / rate_hz, np.nan)
    end = np.where(end_index < len(index), times_s[end_index.clip(None, len(index) - 1)] - 1 / rate_hz, np.nan)
    onset = np.where((onset >= -EARLIEST_ONSET_S) & (onset <= -LATEST_ONSET_S), onset, -QRS_ONSET_BEFORE_R_S)
    end = np.where((end - onset >= 0.04) & (end - onset <= 0.25), end, onset + _USUAL_WIDTH_S)
    return onset, end


def _bump(template: Floats, upright_until: int | None = None, inverted_until: int | None = None) -> tuple[int, float] | None:
    """Index and signed prominence of the largest bump inside a stretch of signal; a downward one must be 1.3 times larger.

    Upward and downward bumps are looked for before the given indices only.
    """
    best: tuple[int, float] | None = None
    for sign, until in ((1.0, upright_until), (-1.0, inverted_until)):
        found, facts = dsp.find_peaks(sign * template, prominence=0.0)
        prominence = facts["prominences"][: np.searchsorted(found, until)] if until is not None else facts["prominences"]
        if prominence.size:
            n = int(np.argmax(prominence))
            if best is None or prominence[n] > 1.3 * abs(best[1]):
                best = int(found[n]), sign * float(prominence[n])
    return best


def _tangent(template: Floats, peak: int, sign: float, forward: bool, reach: int) -> float:
    """Fractional index where the steepest tangent beside a bump meets the level at its foot; nan if there is no slope.

    The foot is where the slope falls under a quarter of the steepest, at most `reach` samples from the peak.
    """
    side = sign * (template[peak : peak + reach + 1] if forward else template[max(peak - reach, 0) : peak + 1][::-1])
    if side.size < 4:
        return float("nan")
    fall = -np.gradient(side)
    steepest = int(np.argmax(fall))
    if fall[steepest] <= 0:
        return float("nan")
    gentle = np.flatnonzero(fall[steepest:] < 0.25 * fall[steepest])
    foot = steepest + int(gentle[0]) if gentle.size else side.size - 1
    distance = steepest + (side[steepest] - side[foot]) / float(fall[steepest])
    return peak + min(distance, foot) * (1.0 if forward else -1.0)


def p_onsets(
    rows: Floats, times_s: Floats, onset: Floats, usual: Mask, rr_s: float, rate_hz: float, *, irregular: bool = False
) -> Floats:
    """P onset of each beat relative to R in s; nan where there is none, as in atrial fibrillation.

    A P wave is there if the average of the usual beats has a bump before the QRS and the single beats agree with the average
    of the others (the fibrillating atria never repeat); then each beat is tested against the average, at lags up to 40 ms.
    irregular: the intervals are; the average must then be most of what the single beats show, since a few waves of fibrillating
    atria agree by chance in one recording of five.
    """
    nothing = np.full(len(rows), np.nan)
    if usual.sum() < 3:
        return nothing
    qrs = float(np.median(onset[usual]))
    early = qrs - min(0.28, 0.40 * rr_s)
    stretch = np.flatnonzero((times_s >= early) & (times_s <= qrs))
    if stretch.size < 8:
        return nothing
    part = rows[:, stretch]
    template = part[usual].mean(axis=0)
    # The dip between P and QRS is no inverted P wave, so that must lie earlier.
    bump = _bump(template, len(template) - round(0.025 * rate_hz), len(template) - round(0.06 * rate_hz))
    if bump is None:
        return nothing
    peak, height = bump
    size = float(np.ptp(rows[usual].mean(axis=0)))
    start = _tangent(template, peak, np.sign(height), False, round(0.10 * rate_hz))
    onset_s = times_s[stretch[0]] + start / rate_hz - _P_FOOT_S
    if abs(height) < max(0.012, 0.015 * size) or not np.isfinite(start) or not 0.06 <= qrs - onset_s <= 0.30:
        return nothing
    # The wave itself, a little wider than half of it on either side of its peak.
    half = max(round(0.06 * rate_hz), 3)
    first, last = max(stretch[0] + peak - half, 0), min(stretch[0] + peak + half, len(times_s))
    last = min(last, int(np.searchsorted(times_s, qrs - 0.01)))
    wave = rows[:, first:last]
    count = int(usual.sum())
    mean = wave[usual].mean(axis=0)
    others = (count * mean - wave[usual]) / (count - 1)
    if float(np.median(_correlation(wave[usual], others))) < 0.5:
        return nothing
    if irregular and mean.var() < _REPEATED * wave[usual].var(axis=1).mean():
        return nothing
    result = nothing
    best = np.full(len(rows), -1.0)
    limit = round(0.04 * rate_hz)
    for lag in sorted(range(-limit, limit + 1, max(round(0.008 * rate_hz), 1)), key=abs):
        if first + lag < 0 or last + lag > rows.shape[1]:
            continue
        shifted = rows[:, first + lag : last + lag]
        alike = _correlation(shifted, mean)
        gain = np.ptp(shifted, axis=1) / max(float(np.ptp(mean)), 1e-12)
        alike = np.where((gain > 0.3) & (gain < 3.5), alike, -1.0)
        better = alike > best + 0.05
        best = np.where(better, alike, best)
        result = np.where(better, onset_s + lag / rate_hz, result)
    # A single ectopic beat must show a clear P wave to be given one.
    result = np.where(best > np.where(usual, 0.35, 0.85), result, np.nan)
    return np.where(result < onset - 0.03, result, np.nan)


def t_waves(
    rows: Floats, times_s: Floats, end: Floats, usual: Mask, room_s: Floats, rr_s: float, rate_hz: float
) -> tuple[Floats, Floats]:
    """Peak and end of each T wave relative to R in s; nan where it has none of at least a quarter of the usual size.

    end: of each QRS; room_s: from each R to where the next beat begins; rr_s: usual interval, which limits how late a T wave
    may peak (as its square root, after Bazett).
    """
    nothing = np.full(len(rows), np.nan)
    if not usual.any():
        return nothing, nothing
    low = max(float(np.median(end[usual])) + 0.04, 0.10)
    stretch = np.flatnonzero((times_s >= low) & (times_s <= min(0.60, 0.50 * rr_s**0.5, float(np.median(room_s)))))
    if stretch.size < 8:
        return nothing, nothing
    template = np.median(rows[usual][:, stretch], axis=0)
    bump = _bump(template)
    if bump is None or abs(bump[1]) < max(0.02, 0.015 * float(np.ptp(np.median(rows[usual], axis=0)))):
        return nothing, nothing
    peak, height = bump
    sign = float(np.sign(height))
    finish = _tangent(template, peak, sign, True, round(0.25 * rate_hz))
    length_s = (finish - peak) / rate_hz if np.isfinite(finish) else np.nan
    at = stretch[0] + peak
    reach = np.arange(max(at - round(0.09 * rate_hz), 0), min(at + round(0.09 * rate_hz), rows.shape[1]))
    own = reach[np.argmax(sign * rows[:, reach], axis=1)]
    edge = (own == reach[0]) | (own == reach[-1])
    rise = sign * (rows[np.arange(len(rows)), own] - np.median(rows[:, stretch], axis=1))
    usual_rise = max(sign * float(template[peak] - np.median(template)), 1e-12)
    there = ~edge & (rise > 0.25 * usual_rise) & (times_s[own] < room_s)
    peaks = np.where(there, times_s[own], np.nan)
    ends = peaks + length_s
    return peaks, np.where(ends < room_s + 0.05, ends, np.nan)


def _irregular(rr_s: Floats) -> bool:
    """Tell whether an interval usually differs from the one before it by more than sinus rhythm lets it."""
    return len(rr_s) > 2 and bool(np.median(np.abs(np.diff(rr_s))) > _IRREGULAR * np.median(rr_s))


def _slope(values: Floats, rate_hz: float) -> Floats:
    """Absolute slope in mV/s along the last axis, smoothed over 8 ms twice."""
    smooth = max(round(0.008 * rate_hz), 1)
    slope = np.gradient(values, axis=-1) * rate_hz
    return np.asarray(ndimage.uniform_filter1d(np.abs(ndimage.uniform_filter1d(slope, smooth, axis=-1)), smooth, axis=-1))


def _quiet_enough(slope: Floats) -> bool:
    """Tell whether the QRS of an average beat stands out of its lead: else that lead only adds noise."""
    return bool(np.percentile(slope, 40) < 0.12 * slope.max())


def delineate(leads: Floats, main: int, rate_hz: float, peaks: Floats) -> Waves:
    """The waves around R peaks (sample positions) in cleaned leads, (leads, samples) in mV.

    The QRS lasts from its first activity in any lead to its last, so its limits come from the slope of all leads together (the
    root of the sum of squares); P and T come from the lead with index `main`.
    """
    signal = leads[main]
    centres = np.rint(peaks).astype(np.int64)
    offsets = np.arange(-round(BEFORE_S * rate_hz), round(AFTER_S * rate_hz) + 1)
    times = offsets / rate_hz
    rr = np.diff(peaks) / rate_hz
    next_rr = np.concatenate([rr, [np.median(rr) if rr.size else 0.8]])
    inside = (times >= -0.30) & (times <= 0.30)
    usual = usual_beats(_rows(signal, centres, offsets[np.abs(times) <= 0.10]))
    averaged, single = np.zeros(inside.sum()), np.zeros((len(centres), inside.sum()))
    for number, lead in enumerate(leads):
        rows = _rows(lead, centres, offsets[inside])
        slope = _slope((rows[usual] if usual.any() else rows).mean(axis=0), rate_hz)
        if number == main or _quiet_enough(slope):
            averaged += slope**2
            single += _slope(rows, rate_hz) ** 2
    onset, end = qrs_limits(np.sqrt(single), times[inside], rate_hz)
    if usual.any():
        usual_onset, usual_end = qrs_limits(np.sqrt(averaged)[None], times[inside], rate_hz)
        onset, end = np.where(usual, usual_onset, onset), np.where(usual, usual_end, end)
    soft = _rows(band_pass(signal, rate_hz, None, 15.0), centres, offsets)
    whole = (centres + offsets[0] >= 0) & (centres + offsets[-1] < len(signal))
    trusted = usual & whole if (usual & whole).sum() >= 3 else usual
    rr_s = float(np.median(rr)) if rr.size else 0.8
    p = p_onsets(soft, times, onset, trusted, rr_s, rate_hz, irregular=_irregular(rr))
    t_peak, t_end = t_waves(soft, times, end, trusted, next_rr - 0.10, rr_s, rate_hz)
    before, after = centres / rate_hz, (len(signal) - 1 - centres) / rate_hz
    p, t_peak, t_end = (
        np.where(-p <= before, p, np.nan),
        np.where(t_peak <= after, t_peak, np.nan),
        np.where(t_end <= after, t_end, np.nan),
    )
    fraction = (centres - peaks) / rate_hz
    return Waves(onset + fraction, end - onset, p + fraction, t_peak + fraction, t_end + fraction)
