"""ECG-echo timing as a metric: the matching rule, and the control that says what chance would reach.

The rule itself lives in `echogen.measure.matching`, because a reading reports it too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from echogen.measure.matching import (
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

__all__ = [
    "MARGIN_S",
    "TOLERANCE_S",
    "Matching",
    "QrsLandmarks",
    "TimingReport",
    "chance_level",
    "expected_clock",
    "expected_es",
    "match_beats",
    "pooled_report",
    "shuffled_beats",
    "timing_report",
    "within_video",
]

Floats = NDArray[np.float64]


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
