import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echogen.errors import InputError
from echogen.phantom.rhythm import RHYTHMS, make_rhythm, rhythm_from_landmarks
from echogen.physiology import beat_clock


def inside(r_s, start_s, end_s):
    return r_s[(r_s >= start_s) & (r_s <= end_s)]


@given(
    name=st.sampled_from(RHYTHMS),
    rate=st.floats(30, 220),
    start=st.floats(-20, 2000),
    seconds=st.floats(0.5, 30),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=150, deadline=None)
def test_every_rhythm_is_whole(name, rate, start, seconds, seed):
    rhythm = make_rhythm(name, rate, start, start + seconds, np.random.default_rng(seed))
    assert rhythm.r_s[0] <= start - 2.5
    assert rhythm.r_s[-1] >= start + seconds + 2.5
    assert (np.diff(rhythm.r_s) > 0.2).all()
    assert rhythm.r_s.shape == rhythm.p_onset_s.shape == rhythm.kind.shape == rhythm.qrs_onset_s.shape == rhythm.wide_qrs.shape
    lead_in_ms = 1000 * (rhythm.r_s - rhythm.qrs_onset_s)
    np.testing.assert_allclose(lead_in_ms[~rhythm.wide_qrs], 40, atol=1e-6)
    assert ((lead_in_ms[rhythm.wide_qrs] >= 59.9) & (lead_in_ms[rhythm.wide_qrs] <= 70.1)).all()
    pr = (rhythm.qrs_onset_s - rhythm.p_onset_s)[np.isfinite(rhythm.p_onset_s)]
    assert ((pr > 0.1199) & (pr < 0.2001)).all()


@pytest.mark.parametrize("name", ["sinus", "af", "paced"])
@pytest.mark.parametrize("rate", [40, 72, 110, 180])
def test_rate_is_the_asked_one(name, rate):
    for seed in range(10):
        rhythm = make_rhythm(name, rate, 5.0, 65.0, np.random.default_rng(seed))
        assert 60 / np.diff(inside(rhythm.r_s, 5.0, 65.0)).mean() == pytest.approx(rate, rel=0.03)


def test_sinus_varies_as_asked_and_less_at_high_rates():
    def spread(rate, variability=None):
        every = [np.diff(make_rhythm("sinus", rate, 0, 60, np.random.default_rng(seed), variability).r_s) for seed in range(20)]
        return np.mean([rr.std() / rr.mean() for rr in every])

    assert spread(60) > 2 * spread(140) > 0
    assert spread(70, 0.05) == pytest.approx(0.05, rel=0.15)
    assert spread(70, 0.0) == pytest.approx(0.0, abs=1e-9)


def test_atrial_fibrillation_is_irregular_without_p_waves():
    rhythm = make_rhythm("af", 90, 0, 600, np.random.default_rng(0))
    rr = np.diff(rhythm.r_s)
    assert np.isnan(rhythm.p_onset_s).all()
    assert rr.min() >= 0.30
    assert 0.15 < rr.std() / rr.mean() < 0.30
    assert abs(np.corrcoef(rr[:-1], rr[1:])[0, 1]) < 0.1


@pytest.mark.parametrize("seed", range(20))
def test_premature_beats_come_early_and_are_compensated(seed):
    rhythm = make_rhythm("pvc", 70, 0.0, 8.0, np.random.default_rng(seed), variability=0.0)
    premature = rhythm.kind == "pvc"
    assert (premature & (rhythm.r_s > 0) & (rhythm.r_s < 8)).any()
    assert (rhythm.wide_qrs == premature).all()
    assert (np.isnan(rhythm.p_onset_s) == premature).all()
    rr = 60 / 70
    for k in np.flatnonzero(premature):
        if 0 < k < len(rhythm) - 1 and not premature[k - 1] and not premature[k + 1]:
            assert 0.4499 <= (rhythm.r_s[k] - rhythm.r_s[k - 1]) / rr <= 0.6501
            assert rhythm.r_s[k + 1] - rhythm.r_s[k - 1] == pytest.approx(2 * rr, rel=1e-6)


def test_premature_beats_include_couplets_and_bigeminy():
    every = [make_rhythm("pvc", 70, 0, 30, np.random.default_rng(seed)).kind == "pvc" for seed in range(150)]
    assert any((early[1:] & early[:-1]).any() for early in every)
    assert any(early.mean() > 0.4 for early in every)
    assert 0.08 < np.median([early.mean() for early in every]) < 0.25


@pytest.mark.parametrize("seed", range(20))
def test_a_pause_lies_inside(seed):
    rhythm = make_rhythm("pause", 70, 0.0, 6.0, np.random.default_rng(seed), variability=0.0)
    longest = np.diff(inside(rhythm.r_s, 0.0, 6.0)).max() / (60 / 70)
    assert 1.6 <= longest <= 2.6


def test_pacing_is_regular_and_wide_with_or_without_p():
    every = [make_rhythm("paced", 70, 0, 10, np.random.default_rng(seed)) for seed in range(20)]
    assert all(rhythm.wide_qrs.all() and np.ptp(np.diff(rhythm.r_s)) < 1e-9 for rhythm in every)
    with_p = [np.isfinite(rhythm.p_onset_s).mean() for rhythm in every]
    assert {0.0, 1.0} == set(with_p)


def test_p_waves_stay_clear_of_ejection():
    for rate in (60, 100, 140, 180):
        rhythm = make_rhythm("sinus", rate, 0, 20, np.random.default_rng(rate))
        closure = beat_clock(rhythm.qrs_onset_s, rhythm.p_onset_s).avc_s
        assert (rhythm.p_onset_s[1:] > closure[:-1] - 0.02).all()


def test_same_seed_same_beats():
    for name in RHYTHMS:
        one, two, other = (make_rhythm(name, 72, 0, 10, np.random.default_rng(seed)) for seed in (3, 3, 4))
        np.testing.assert_array_equal(one.r_s, two.r_s)
        np.testing.assert_array_equal(one.p_onset_s, two.p_onset_s)
        assert len(one) != len(other) or not np.allclose(one.r_s, other.r_s)


def test_recorded_beats():
    rhythm = rhythm_from_landmarks(
        [1.0, 1.8, 2.3, 3.4, 4.2],
        [0.96, np.nan, 2.22, 3.36, 3.5],
        [0.80, 1.60, np.nan, 3.20, 4.15],
        [False, False, True, False, False],
    )
    assert list(rhythm.kind) == ["normal", "normal", "pvc", "normal", "normal"]
    # A missing onset is 40 ms before R, one far too early is moved; a P wave after the onset is none.
    np.testing.assert_allclose(rhythm.qrs_onset_s, [0.96, 1.76, 2.22, 3.36, 4.08])
    np.testing.assert_array_equal(np.isnan(rhythm.p_onset_s), [False, False, True, False, True])
    assert (rhythm_from_landmarks([1.0, 2.0, 3.0], wide_qrs=True).kind == "wide").all()
    assert len(rhythm_from_landmarks([0.7])) == 1
    np.testing.assert_array_equal(rhythm.between(1.8, 3.4).r_s, [1.8, 2.3, 3.4])


@pytest.mark.parametrize(
    "arguments",
    [
        ("flutter", 70, 0, 10),
        ("sinus", 29, 0, 10),
        ("sinus", 221, 0, 10),
        ("sinus", float("nan"), 0, 10),
        ("sinus", 70, 10, 10),
        ("sinus", 70, 0, float("inf")),
        ("sinus", 70, 0, 10, None, 0.5),
    ],
)
def test_bad_questions_are_refused(arguments):
    name, rate, start, end, *rest = arguments
    with pytest.raises(InputError):
        make_rhythm(name, rate, start, end, np.random.default_rng(0), *rest[1:])


@pytest.mark.parametrize(
    ("r", "onset", "p_onset", "wide"),
    [
        ([], None, None, False),
        ([1.0, 1.0], None, None, False),
        ([1.0, np.nan], None, None, False),
        ([1.0, 2.0], [0.9], None, False),
        ([1.0, 2.0], None, [0.9], False),
        ([1.0, 2.0], None, None, [True]),
    ],
)
def test_bad_landmarks_are_refused(r, onset, p_onset, wide):
    with pytest.raises(InputError):
        rhythm_from_landmarks(r, onset, p_onset, wide)
