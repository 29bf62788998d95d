"""Agreement of a heart on video with a truth: ED and ES, delays from the R peak, cycles, curves, ectopic beats, shifts.

ED and ES are always those of `measure.find_beats`: where the falling volume leaves its maximum and comes within 15 % of the
stroke volume of its minimum, plus offsets fitted on truth. All times are in s on one clock; figures are in ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import linregress
from scipy.stats import t as student

from echogen.arrays import Floats
from echogen.measurement.beats import R_AFTER_ED_S, R_BEFORE_ED_S
from echogen.measurement.matching import TOLERANCE_S, match_beats
from echogen.metrics.heart.ejection import mae, mean_interval
from echogen.physiology import preceding_rr
from echogen.records import Beat

_NAN = float("nan")


@dataclass(frozen=True)
class EventErrors:
    """Errors of one kind of event over n beats: mean |error| with its 95 % interval, in ms and in frames; bias and sd in ms."""

    mean_abs_ms: float
    interval_ms: tuple[float, float]
    mean_abs_frames: float
    interval_frames: tuple[float, float]
    bias_ms: float
    sd_ms: float
    n: int


@dataclass(frozen=True)
class PhaseErrors:
    """Errors of end-diastole and end-systole (Table 7), and the share of reference beats whose ES is met within 80 ms."""

    ed: EventErrors
    es: EventErrors
    matched_fraction: float
    n: int


@dataclass(frozen=True)
class DelayErrors:
    """Delay of an event from the R peak over n beats, in ms: medians of video and truth, mean |difference| with its interval."""

    median_ms: float
    truth_median_ms: float
    mean_abs_ms: float
    interval_ms: tuple[float, float]
    n: int


@dataclass(frozen=True)
class Correlation:
    """Pearson's r over n pairs with its 95 % interval (Fisher's z; nan below four pairs, or where pairs are not independent)."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Response:
    """Slope of a least-squares line through n pairs, its 95 % interval (Student's t; nan below three pairs), and Pearson's r."""

    slope: float
    low: float
    high: float
    correlation: float
    n: int


def event_errors(error_s: ArrayLike, fps: ArrayLike) -> EventErrors:
    """Sum up errors (n,) in s of one kind of event. fps: frames per second of the video, one or one per error."""
    error_ms = np.asarray(error_s, dtype=np.float64) * 1000.0
    frames = error_ms / 1000.0 * np.broadcast_to(np.asarray(fps, dtype=np.float64), error_ms.shape)
    n = len(error_ms)
    if not n:
        return EventErrors(_NAN, (_NAN, _NAN), _NAN, (_NAN, _NAN), _NAN, _NAN, 0)
    return EventErrors(
        mean_abs_ms=float(np.abs(error_ms).mean()),
        interval_ms=mean_interval(np.abs(error_ms)),
        mean_abs_frames=float(np.abs(frames).mean()),
        interval_frames=mean_interval(np.abs(frames)),
        bias_ms=float(error_ms.mean()),
        sd_ms=float(error_ms.std(ddof=1)) if n > 1 else _NAN,
        n=n,
    )


def beat_pairs(beats: Sequence[Beat], reference: Sequence[Beat]) -> tuple[tuple[int, int], ...]:
    """(beat of the video, beat of the reference) by index, for the beats that belong together, in time order.

    They do so one to one by end-systole, up to half a median cycle of the reference apart (0.4 s where it has one beat), so that
    a video that is late counts as late and not as unmatched.
    """
    reference_es = np.array([beat.es_s for beat in reference])
    reach = 0.5 * float(np.median(np.diff(reference_es))) if len(reference_es) > 1 else 0.4
    return match_beats([beat.es_s for beat in beats], reference_es, reach).pairs


def phase_differences(beats: Sequence[Beat], reference: Sequence[Beat]) -> tuple[Floats, Floats]:
    """(ED, ES) video minus reference in s, (n,) each, over the beats that belong together (`beat_pairs`)."""
    pairs = beat_pairs(beats, reference)
    ed = np.array([beats[own].ed_s - reference[other].ed_s for own, other in pairs])
    es = np.array([beats[own].es_s - reference[other].es_s for own, other in pairs])
    return ed, es


def phase_errors(beats: Sequence[Beat], reference: Sequence[Beat], fps: float) -> PhaseErrors:
    """ED and ES errors of a video against its original or its truth, in frames and in ms (ECHOPulse, Table 7).

    beats, reference: in s on one clock. fps: of the video. The paper takes the frames of the largest and smallest segmentation,
    which relaxation leaves undecided; here both are found by the one rule of `find_beats`.
    """
    ed, es = phase_differences(beats, reference)
    met = match_beats([beat.es_s for beat in beats], [beat.es_s for beat in reference], TOLERANCE_S)
    return PhaseErrors(event_errors(ed, fps), event_errors(es, fps), met.matched_fraction, len(ed))


def r_delays(beats: Sequence[Beat], r_s: ArrayLike) -> dict[int, tuple[float, float]]:
    """{index of an R peak: (R-to-ED, R-to-ES) in s} for every beat with an R peak within -250..+150 ms of its ED.

    beats: of a video or of the truth. r_s: (peaks,) in s on the same clock. Of two beats at one peak the earlier counts.
    """
    peaks, found = np.asarray(r_s, dtype=np.float64), dict[int, tuple[float, float]]()
    for beat in beats:
        if not len(peaks):
            break
        nearest = int(np.argmin(np.abs(peaks - beat.ed_s)))
        if -R_BEFORE_ED_S <= peaks[nearest] - beat.ed_s <= R_AFTER_ED_S:
            found.setdefault(nearest, (beat.ed_s - float(peaks[nearest]), beat.es_s - float(peaks[nearest])))
    return found


def delay_errors(beats: Sequence[Beat], truth: Sequence[Beat], r_s: ArrayLike) -> tuple[DelayErrors, DelayErrors]:
    """(R-to-ED, R-to-ES) of a video against the truth, over the R peaks (s, same clock) at which both have a beat."""
    own, known = r_delays(beats, r_s), r_delays(truth, r_s)
    pairs = np.array([(own[peak], known[peak]) for peak in sorted(own.keys() & known.keys())]).reshape(-1, 2, 2) * 1000.0
    return _delays(pairs[:, 0, 0], pairs[:, 1, 0]), _delays(pairs[:, 0, 1], pairs[:, 1, 1])


def _delays(own_ms: Floats, truth_ms: Floats) -> DelayErrors:
    if not len(own_ms):
        return DelayErrors(_NAN, _NAN, _NAN, (_NAN, _NAN), 0)
    interval = mean_interval(np.abs(own_ms - truth_ms))
    return DelayErrors(float(np.median(own_ms)), float(np.median(truth_ms)), mae(own_ms, truth_ms), interval, len(own_ms))


def correlation(first: ArrayLike, second: ArrayLike) -> Correlation:
    """Pearson's r of independent pairs (n,), with Fisher's interval; nan where either does not vary."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    n = len(a)
    if n < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(_NAN, _NAN, _NAN, n)
    r = float(np.clip(np.corrcoef(a, b)[0, 1], -1.0, 1.0))
    if n < 4:
        return Correlation(r, _NAN, _NAN, n)
    with np.errstate(divide="ignore"):
        z, reach = np.arctanh(r), 1.96 / np.sqrt(n - 3)
    return Correlation(r, float(np.tanh(z - reach)), float(np.tanh(z + reach)), n)


def cycle_lengths(es_s: ArrayLike, reference_es_s: ArrayLike, tolerance_s: float | None = None) -> tuple[Floats, Floats]:
    """(video, reference) cycle lengths in s, (n,) each: from ES to ES of consecutive beats that both have.

    tolerance_s: how far apart beats may lie to belong together; half the median reference cycle unless stated.
    """
    own, reference = np.sort(np.asarray(es_s, dtype=np.float64)), np.sort(np.asarray(reference_es_s, dtype=np.float64))
    if tolerance_s is None:
        tolerance_s = 0.5 * float(np.median(np.diff(reference))) if len(reference) > 1 else 0.4
    pairs = match_beats(own, reference, tolerance_s).pairs
    following = [(p, q) for p, q in pairwise(pairs) if q[0] == p[0] + 1 and q[1] == p[1] + 1]
    ours = np.array([own[q[0]] - own[p[0]] for p, q in following])
    theirs = np.array([reference[q[1]] - reference[p[1]] for p, q in following])
    return ours, theirs


def cycle_correlation(es_s: ArrayLike, reference_es_s: ArrayLike, tolerance_s: float | None = None) -> Correlation:
    """Correlation of a video's cycle lengths with those of its ECG or original (`cycle_lengths`)."""
    return correlation(*cycle_lengths(es_s, reference_es_s, tolerance_s))


def curve_correlation(times_s: ArrayLike, curve: ArrayLike, reference_times_s: ArrayLike, reference: ArrayLike) -> Correlation:
    """Correlation of two curves of cavity area or volume on one clock, over the time that both last.

    times_s, curve: (T,) of the video. reference_times_s, reference: (S,) of another video or of the truth, any unit. The finer
    curve is read at the times of the coarser. n counts these; they depend on each other, so there is no interval.
    """
    a_times, b_times = np.asarray(times_s, dtype=np.float64), np.asarray(reference_times_s, dtype=np.float64)
    start, end = max(a_times[0], b_times[0]), min(a_times[-1], b_times[-1])
    inside_a, inside_b = ((times >= start - 1e-9) & (times <= end + 1e-9) for times in (a_times, b_times))
    at = a_times[inside_a] if inside_a.sum() <= inside_b.sum() else b_times[inside_b]
    found = correlation(np.interp(at, a_times, np.asarray(curve)), np.interp(at, b_times, np.asarray(reference)))
    return Correlation(found.value, _NAN, _NAN, found.n)


def strokes_and_rr(beats: Sequence[Beat], r_s: ArrayLike) -> tuple[Floats, Floats]:
    """(stroke volume, preceding RR) of each beat with an R peak and one before it, each over its median: (n,) without unit.

    beats: with volumes in any unit. r_s: (peaks,) in s on the same clock.
    """
    peaks = np.asarray(r_s, dtype=np.float64)
    rr, strokes, intervals = preceding_rr(peaks), list[float](), list[float]()
    for beat in beats:
        if beat.edv_ml is None or beat.esv_ml is None or len(peaks) < 2:
            continue
        nearest = int(np.argmin(np.abs(peaks - beat.ed_s)))
        if nearest and -R_BEFORE_ED_S <= peaks[nearest] - beat.ed_s <= R_AFTER_ED_S:
            strokes.append(beat.edv_ml - beat.esv_ml)
            intervals.append(float(rr[nearest]))
    if not strokes:
        return np.zeros(0), np.zeros(0)
    return np.array(strokes) / np.median(strokes), np.array(intervals) / np.median(intervals)


def ectopic_response(beats: Sequence[Beat], r_s: ArrayLike) -> Correlation:
    """Does stroke volume follow the preceding RR, as in premature beats, pauses and atrial fibrillation? (`strokes_and_rr`)

    A heart that knows its rhythm gives a clearly positive value (a premature beat fills less); one that repeats a beat gives 0.
    In a steady rhythm there is nothing to follow, so the value means little there.
    """
    return correlation(*strokes_and_rr(beats, r_s))


def response(stimulus: ArrayLike, answer: ArrayLike) -> Response:
    """Least-squares line answer = slope x stimulus + constant through n pairs; nan where the stimulus does not vary."""
    x, y = np.asarray(stimulus, dtype=np.float64), np.asarray(answer, dtype=np.float64)
    n = len(x)
    if n < 2 or np.ptp(x) == 0:
        return Response(_NAN, _NAN, _NAN, _NAN, n)
    line = linregress(x, y)
    r = float(line.rvalue) if np.ptp(y) > 0 else _NAN
    if n < 3:
        return Response(float(line.slope), _NAN, _NAN, r, n)
    reach = float(student.ppf(0.975, n - 2) * line.stderr)
    return Response(float(line.slope), float(line.slope) - reach, float(line.slope) + reach, r, n)


def shift_response(r_shift_s: ArrayLike, es_before_s: ArrayLike, es_after_s: ArrayLike) -> Response:
    """Movement of end-systole for a moved R wave: the slope is 1 where it follows and 0 where the ECG is ignored.

    r_shift_s, es_before_s, es_after_s: (n,) in s, one entry a beat: how far its R wave was moved, and the beat's ES in the video
    made from the ECG as it was and as it is after the move (the ES of one beat is its nearest to the R peak on either side).
    """
    return response(r_shift_s, np.asarray(es_after_s, dtype=np.float64) - np.asarray(es_before_s, dtype=np.float64))
