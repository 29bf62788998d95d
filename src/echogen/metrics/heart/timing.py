"""ECG-echo timing as a metric: the matching rule, and the control that says what chance would reach.

The rule itself lives in `echogen.measurement.matching`, because a reading reports it too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from echogen.arrays import Floats
from echogen.measurement.matching import (
    MARGIN_S,
    TOLERANCE_S,
    Matching,
    QrsLandmarks,
    TimingReport,
    expected_clock,
    expected_es,
    match_beats,
    timing_report,
    within_video,
)
from echogen.physiology import beat_clock

__all__ = [
    "MARGIN_S",
    "SHUFFLES",
    "TOLERANCE_S",
    "Control",
    "Matching",
    "QrsLandmarks",
    "TimingReport",
    "chance_level",
    "expected_clock",
    "expected_es",
    "match_beats",
    "no_ecg_control",
    "pooled_report",
    "shuffled_beats",
    "shuffled_control",
    "timing_report",
    "within_video",
]


SHUFFLES = 20


def shuffled_beats(beat_times_s: ArrayLike, seed: int) -> Floats:
    """Beats with the same intervals in another order and at another phase: the control for timing.

    beat_times_s: (beats,) increasing times in s, R peaks or QRS onsets. The intervals are permuted and all beats move by a
    uniformly drawn part of the median interval, backwards or forwards by at most half of it. Returns (beats,) in s.
    """
    times = np.asarray(beat_times_s, dtype=np.float64)
    if len(times) < 2:
        return times.copy()
    random = np.random.default_rng(seed)
    intervals = np.diff(times)
    shift = random.uniform(-0.5, 0.5) * float(np.median(intervals))
    return times[0] + shift + np.concatenate([[0.0], np.cumsum(random.permutation(intervals))])


def chance_level(beat_times_s: ArrayLike, tolerance_s: float = TOLERANCE_S) -> float:
    """Matched fraction of a video that has the ECG's rate and nothing else of it: 2 x tolerance / median RR, at most 1."""
    return float(min(2.0 * tolerance_s / np.median(np.diff(np.asarray(beat_times_s, dtype=np.float64))), 1.0))


def pooled_report(clips: list[tuple[ArrayLike, ArrayLike]], tolerance_s: float = TOLERANCE_S) -> TimingReport:
    """One report over many clips, each (video ES times, expected ES times) in s on its own clock.

    Beats match within their clip only; errors are pooled over beats, the drift is the median of the clips' drifts.
    """
    matchings = [match_beats(video, expected, tolerance_s) for video, expected in clips]
    drifts = [timing_report(video, expected, tolerance_s).drift_ms_per_s for video, expected in clips]
    error_ms = np.concatenate([m.error_s for m in matchings]) * 1000.0 if matchings else np.zeros(0)
    n, n_expected = len(error_ms), sum(np.size(expected) for _, expected in clips)
    known = [drift for drift in drifts if np.isfinite(drift)]
    nan = float("nan")
    return TimingReport(
        matched_fraction=n / n_expected if n_expected else nan,
        median_abs_ms=float(np.median(np.abs(error_ms))) if n else nan,
        mean_ms=float(error_ms.mean()) if n else nan,
        sd_ms=float(error_ms.std(ddof=1)) if n > 1 else nan,
        drift_ms_per_s=float(np.median(known)) if known else nan,
        n=n,
        n_expected=n_expected,
        n_video=sum(np.size(video) for video, _ in clips),
    )


@dataclass(frozen=True)
class Control:
    """Matched fraction that a wrong ECG, or none, would get: mean over n draws and what 95 % of the draws lie between.

    chance: 2 x tolerance / median RR, what a video of the right rate and nothing else gets. nan where nothing could be judged.
    """

    matched_fraction: float
    low: float
    high: float
    chance: float
    n: int


def shuffled_control(
    video_es_s: ArrayLike,
    qrs_onset_s: ArrayLike,
    start_s: float,
    end_s: float,
    *,
    sex: str | None = None,
    shuffles: int = SHUFFLES,
    tolerance_s: float = TOLERANCE_S,
) -> Control:
    """A video against its own ECG with the beats in another order and at another phase (`shuffled_beats`).

    video_es_s: (beats,) end-systole in s. qrs_onset_s: (beats,) of the ECG, in s on the same clock. start_s, end_s: the video.
    sex: as for `expected_es`.
    """
    fractions = []
    for seed in range(shuffles):
        clock = beat_clock(shuffled_beats(qrs_onset_s, seed), sex=sex)
        expected = clock.avc_s[within_video(clock, start_s, end_s)]
        fractions.append(match_beats(video_es_s, expected, tolerance_s).matched_fraction)
    return _control(fractions, qrs_onset_s, tolerance_s)


def no_ecg_control(
    video_es_s: ArrayLike,
    expected_es_s: ArrayLike,
    start_s: float,
    end_s: float,
    *,
    shifts: int = SHUFFLES,
    tolerance_s: float = TOLERANCE_S,
) -> Control:
    """A video that was made without any ECG against the beats of one, over all the phases at which it might have started.

    video_es_s: (beats,) end-systole in s of that video. expected_es_s: (beats,) of the ECG, also beyond the video.
    start_s, end_s: the video, in s. The expected beats are moved by `shifts` evenly spaced parts of their median interval, so
    that one video gives a steady figure. An ECG of fewer than two beats cannot be judged.
    """
    expected = np.asarray(expected_es_s, dtype=np.float64)
    if len(expected) < 2:
        return _control([], expected, tolerance_s)
    fractions = []
    for share in np.arange(shifts) / shifts - 0.5:
        moved = expected + share * float(np.median(np.diff(expected)))
        inside = moved[(moved >= start_s + MARGIN_S) & (moved <= end_s - MARGIN_S)]
        fractions.append(match_beats(video_es_s, inside, tolerance_s).matched_fraction)
    return _control(fractions, expected, tolerance_s)


def _control(fractions: list[float], beat_times_s: ArrayLike, tolerance_s: float) -> Control:
    known = [fraction for fraction in fractions if np.isfinite(fraction)]
    nan = float("nan")
    chance = chance_level(beat_times_s, tolerance_s) if np.size(beat_times_s) > 1 else nan
    if not known:
        return Control(nan, nan, nan, chance, 0)
    low, high = np.percentile(known, (2.5, 97.5))
    return Control(float(np.mean(known)), float(low), float(high), chance, len(known))
