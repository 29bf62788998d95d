"""Beats of a video against the beats that an ECG lets expect: the rule by which timing is judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import theilslopes

from echogen.arrays import Floats
from echogen.physiology import BeatClock, beat_clock

TOLERANCE_S = 0.080
MARGIN_S = 0.1


class QrsLandmarks(Protocol):
    """Landmarks of an ECG that timing needs, one entry a beat: R peak and QRS onset in s, and a flag for a wide QRS."""

    @property
    def r_s(self) -> Any:
        """(beats,) in s."""

    @property
    def qrs_onset_s(self) -> Any:
        """(beats,) in s."""

    @property
    def wide_qrs(self) -> Any:
        """(beats,) bool, or one bool for all."""


@dataclass(frozen=True)
class Matching:
    """One-to-one pairs (video beat, expected beat) by index, in time order; error_s = video - expected per pair.

    matched_fraction: pairs / expected beats, nan where no beat is expected.
    """

    pairs: tuple[tuple[int, int], ...]
    matched_fraction: float
    error_s: Floats


@dataclass(frozen=True)
class TimingReport:
    """Agreement of a video with its ECG: errors are video minus expected end-systole over the n matched beats.

    median_abs_ms: median |error|. mean_ms, sd_ms: signed. drift_ms_per_s: Theil-Sen slope of the error against time.
    n_expected, n_video: beats on either side. What too few beats cannot tell is nan.
    """

    matched_fraction: float
    median_abs_ms: float
    mean_ms: float
    sd_ms: float
    drift_ms_per_s: float
    n: int
    n_expected: int
    n_video: int


def match_beats(video_es_s: ArrayLike, expected_es_s: ArrayLike, tolerance_s: float = TOLERANCE_S) -> Matching:
    """Pair video beats with expected beats one to one, at most `tolerance_s` apart.

    video_es_s, expected_es_s: end-systolic times in s, in any order. As many pairs as possible, and among those the least sum of
    |error| (an assignment problem, solved exactly).
    """
    video, expected = np.atleast_1d(np.asarray(video_es_s, float)), np.atleast_1d(np.asarray(expected_es_s, float))
    if not len(expected) or not len(video):
        return Matching((), 0.0 if len(expected) else float("nan"), np.zeros(0))
    distance = np.abs(video[:, None] - expected[None, :])
    # One pair out of tolerance costs more than all pairs within it together.
    forbidden = tolerance_s * (min(distance.shape) + 1.0) + 1.0
    allowed = distance <= tolerance_s + 1e-12
    rows, columns = linear_sum_assignment(np.where(allowed, distance, forbidden))
    kept = allowed[rows, columns]
    order = np.argsort(expected[columns[kept]], kind="stable")
    rows, columns = rows[kept][order], columns[kept][order]
    pairs = tuple((int(row), int(column)) for row, column in zip(rows, columns, strict=True))
    return Matching(pairs, len(pairs) / len(expected), video[rows] - expected[columns])


def expected_clock(landmarks: QrsLandmarks, sex: str | None = None, ef_percent: float | None = None) -> BeatClock:
    """The heart's clock for the beats of an ECG (`physiology.beat_clock`); aortic closure is the expected end-systole."""
    return beat_clock(landmarks.qrs_onset_s, sex=sex, ef_percent=ef_percent, wide_qrs=landmarks.wide_qrs)


def expected_es(landmarks: QrsLandmarks, sex: str | None = None, ef_percent: float | None = None) -> Floats:
    """(beats,) expected end-systole (aortic closure) of each beat of an ECG, in s on its clock.

    landmarks: r_s, qrs_onset_s and wide_qrs, one entry a beat. sex: "m", "f" or None. ef_percent: None for a healthy heart.
    """
    return expected_clock(landmarks, sex, ef_percent).avc_s


def within_video(clock: BeatClock, start_s: float, end_s: float, margin_s: float = MARGIN_S) -> NDArray[np.bool_]:
    """(beats,) which beats a video from start_s to end_s must show: those whose ED and whose ES +- margin lie inside it."""
    return (clock.ed_s >= start_s) & (clock.avc_s >= start_s + margin_s) & (clock.avc_s <= end_s - margin_s)


def timing_report(video_es_s: ArrayLike, expected_es_s: ArrayLike, tolerance_s: float = TOLERANCE_S) -> TimingReport:
    """Match the beats of a video with the expected ones and sum up the errors.

    video_es_s, expected_es_s: (beats,) end-systole in s; expected beats outside the video must have been left out
    (`within_video`). The median and the mean need one pair, the standard deviation two, the drift three.
    """
    expected = np.atleast_1d(np.asarray(expected_es_s, dtype=np.float64))
    found = match_beats(video_es_s, expected, tolerance_s)
    error_ms, n = found.error_s * 1000.0, len(found.pairs)
    nan = float("nan")
    at = expected[[column for _, column in found.pairs]]
    return TimingReport(
        matched_fraction=found.matched_fraction,
        median_abs_ms=float(np.median(np.abs(error_ms))) if n else nan,
        mean_ms=float(error_ms.mean()) if n else nan,
        sd_ms=float(error_ms.std(ddof=1)) if n > 1 else nan,
        drift_ms_per_s=float(theilslopes(error_ms, at)[0]) if n > 2 and np.ptp(at) > 0 else nan,
        n=n,
        n_expected=len(expected),
        n_video=int(np.size(video_es_s)),
    )
