from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echogen.measurement.matching import expected_clock, expected_es, match_beats, timing_report, within_video

TIMES = st.lists(st.integers(0, 600), max_size=5, unique=True).map(lambda ms: np.array(ms) / 1000)


def best_by_trying_all(video, expected, tolerance):
    """(most pairs, least total error) over every one-to-one assignment."""
    few, many = sorted((video, expected), key=len)
    best = (0, 0.0)
    for chosen in permutations(range(len(many)), len(few)):
        distance = np.abs(few - many[list(chosen)])
        kept = distance <= tolerance + 1e-12
        best = max(best, (int(kept.sum()), -float(distance[kept].sum())))
    return best[0], -best[1]


@settings(max_examples=150, deadline=None)
@given(TIMES, TIMES)
def test_matching_is_one_to_one_and_optimal(video, expected):
    found = match_beats(video, expected)
    rows, columns = [i for i, _ in found.pairs], [j for _, j in found.pairs]
    assert len(set(rows)) == len(rows)
    assert len(set(columns)) == len(columns)
    assert np.allclose(found.error_s, video[rows] - expected[columns])
    assert (np.abs(found.error_s) <= 0.080 + 1e-9).all()
    most, least = best_by_trying_all(video, expected, 0.080)
    assert len(found.pairs) == most
    assert np.abs(found.error_s).sum() == pytest.approx(least, abs=1e-9)
    if len(expected):
        assert found.matched_fraction == len(found.pairs) / len(expected)
    else:
        assert np.isnan(found.matched_fraction)


def test_report_of_a_constant_lag_with_drift():
    expected = np.arange(0.4, 60, 0.8)
    report = timing_report(expected + 0.020 + 0.0005 * expected, expected)
    assert report.matched_fraction == 1
    assert report.drift_ms_per_s == pytest.approx(0.5)
    assert report.mean_ms == pytest.approx(20 + 0.5 * expected.mean())
    assert report.n == report.n_expected == report.n_video == len(expected)


def test_report_counts_missed_and_extra_beats():
    expected = np.arange(0.4, 8.2, 0.8)
    video = np.concatenate([expected[:5] + 0.030, expected[:3] + 0.4])
    report = timing_report(video, expected)
    assert report.matched_fraction == 0.5
    assert (report.n, report.n_expected, report.n_video) == (5, 10, 8)
    assert report.median_abs_ms == pytest.approx(30)
    nothing = timing_report([], expected)
    assert nothing.matched_fraction == 0
    assert np.isnan(nothing.median_abs_ms)


def test_expected_end_systole_follows_rate_and_width():
    onset = np.arange(0, 10, 1.0)
    narrow = SimpleNamespace(r_s=onset + 0.04, qrs_onset_s=onset, wide_qrs=np.zeros(10, bool))
    wide = SimpleNamespace(r_s=onset + 0.04, qrs_onset_s=onset, wide_qrs=np.ones(10, bool))
    # Weissler at 60 bpm, the mean of men and women: QS2 = 547.5 - 2.05 x 60 ms.
    assert expected_es(narrow) - onset == pytest.approx(0.4245)
    assert expected_es(narrow, "f") - onset == pytest.approx(0.429)
    assert expected_es(wide) - expected_es(narrow) == pytest.approx(0.030)
    asked = within_video(expected_clock(narrow), 2.0, 5.5)
    assert np.flatnonzero(asked).tolist() == [2, 3, 4]
    assert np.flatnonzero(within_video(expected_clock(narrow), 2.2, 5.4)).tolist() == [3, 4]
