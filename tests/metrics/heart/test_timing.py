import numpy as np
import pytest

from echogen.metrics.heart.timing import chance_level, pooled_report, shuffled_beats, timing_report


def test_shuffled_beats_keep_the_rate_statistics():
    random = np.random.default_rng(0)
    beats = np.cumsum(random.normal(0.8, 0.08, 200))
    control = shuffled_beats(beats, seed=1)
    assert np.sort(np.diff(control)) == pytest.approx(np.sort(np.diff(beats)))
    assert np.array_equal(control, shuffled_beats(beats, seed=1))
    assert not np.allclose(control, shuffled_beats(beats, seed=2))
    assert abs(control[0] - beats[0]) <= 0.5 * np.median(np.diff(beats))


def test_shuffled_beats_match_at_chance():
    random = np.random.default_rng(0)
    fractions, chances = [], []
    for seed in range(60):
        beats = np.cumsum(random.normal(0.8, 0.06, 30))
        fractions.append(timing_report(beats, shuffled_beats(beats, seed)).matched_fraction)
        chances.append(chance_level(beats))
    assert np.mean(chances) == pytest.approx(0.2, abs=0.01)
    assert np.mean(fractions) == pytest.approx(np.mean(chances), abs=0.06)


def test_pooling_matches_within_clips_only():
    expected = np.arange(0.5, 5, 1.0)
    report = pooled_report([(expected + 0.010, expected), (expected[:0], expected), (expected[:2] - 0.030, expected[:2])])
    assert report.n == 7
    assert report.n_expected == 12
    assert report.matched_fraction == pytest.approx(7 / 12)
    assert report.mean_ms == pytest.approx((5 * 10 - 2 * 30) / 7)
    assert report.drift_ms_per_s == pytest.approx(0, abs=1e-9)
    single = pooled_report([(expected + 0.010, expected)])
    assert single.n == timing_report(expected + 0.010, expected).n
    assert np.isnan(pooled_report([]).matched_fraction)
