import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from echogen.errors import InputError
from echogen.metrics.bootstrap import bootstrap_interval
from echogen.metrics.sets.frechet import (
    FeatureMoments,
    FrechetDistance,
    bias_note,
    frechet_distance,
    frechet_interval,
)


def features(seed: int, n: int = 300, dims: int = 12) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(0, 1, (n, dims)) @ random.normal(0, 1, (dims, dims)) + random.normal(0, 1, dims)


def by_sqrtm(a: np.ndarray, b: np.ndarray) -> float:
    """The distance as published evaluations compute it."""
    one, other = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.real(sqrtm(one @ other))
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one + other - 2 * root))


@pytest.mark.parametrize("dims", [2, 12, 64])
def test_agrees_with_scipys_matrix_root(dims):
    a, b = features(1, dims=dims), features(2, n=450, dims=dims)
    assert frechet_distance(a, b) == pytest.approx(by_sqrtm(a, b), rel=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_known_gaussians():
    a = features(3, dims=4)
    assert frechet_distance(a, a + np.array([3.0, 0.0, 4.0, 0.0])) == pytest.approx(25.0)
    # A and B commute: (sqrt(var) - 2 sqrt(var))^2 summed is the variance summed
    assert frechet_distance(a - a.mean(0), 2 * (a - a.mean(0))) == pytest.approx(a.var(0, ddof=1).sum())


@pytest.mark.parametrize(("n", "dims", "scale"), [(300, 12, 1.0), (20, 64, 1.0), (50, 64, 1e4), (2, 3, 1e-4)])
def test_identical_sets_give_0_also_with_fewer_samples_than_dims(n, dims, scale):
    a = scale * features(4, n=n, dims=dims)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6 * scale**2)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-6 * scale**2)


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(4)), seed=st.integers(0, 1000))
def test_four_processes_give_the_single_process_number_in_any_order(order, seed):
    a, b = features(seed, n=101) + 1e3, features(seed + 1, n=80) + 1e3
    whole = FrechetDistance()
    whole.update(a, reference=True)
    whole.update(b)
    states = []
    for rank in range(4):
        part = FrechetDistance()
        for batch in np.array_split(a[rank::4], 3):
            part.update(batch, reference=True)
        part.update(b[rank::4])
        states.append(part.state())
    total = FrechetDistance()
    for rank in order:
        total.merge(FrechetDistance.from_state(states[rank]))
    assert total.n == 80
    assert total.compute() == pytest.approx(whole.compute(), rel=1e-8)
    assert total.compute() == pytest.approx(frechet_distance(a, b), rel=1e-8)


def test_moments_of_batches_are_numpys():
    a = features(5, n=97)
    moments = FeatureMoments()
    for batch in np.array_split(a, 7):
        moments.update(batch)
    moments.update(a[:0])
    np.testing.assert_allclose(moments.mean, a.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance(), np.cov(a, rowvar=False), rtol=1e-10)
    np.testing.assert_allclose(moments.covariance(ddof=0), np.cov(a, rowvar=False, ddof=0), rtol=1e-10)


def test_a_note_where_samples_are_few():
    assert bias_note(2048, 400) is None
    assert bias_note(5000, 2048) is None
    assert "2,048" in bias_note(500, 256)
    assert "singular" not in bias_note(500, 256)
    assert "singular" in bias_note(2048, 2048)
    distance = FrechetDistance()
    distance.update(features(6, n=20), reference=True)
    distance.update(features(7, n=10))
    assert "10 samples" in distance.note()
    assert "singular" in distance.note()


def test_the_interval_holds_the_distance_and_repeats():
    a, b = features(8, n=200, dims=4), features(9, n=200, dims=4)
    low, high = frechet_interval(a, b, seed=1)
    assert low < frechet_distance(a, b) < high
    assert (low, high) == frechet_interval(a, b, seed=1)
    near = a + np.random.default_rng(0).normal(0, 0.1, a.shape)
    assert frechet_interval(a, near)[1] < low


def test_intervals_of_few_samples_in_many_dims_are_the_same():
    a, b = features(10, n=12, dims=30), features(11, n=15, dims=30)
    for ddof in (0, 1):
        found = frechet_interval(a, b, ddof=ddof, resamples=50)
        plain = bootstrap_interval(
            lambda x, y, d=ddof: frechet_distance(x, y, ddof=d), a, b, paired=False, recentred=True, resamples=50
        )
        assert found == pytest.approx(plain, rel=1e-6)


def test_the_bootstrap_interval_of_a_mean_is_as_wide_as_theory_says():
    values = np.random.default_rng(0).normal(5, 2, 400)
    low, high = bootstrap_interval(np.mean, values)
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.02)
    shifted = bootstrap_interval(lambda a, b: np.mean(a) - np.mean(b), values, values[:100], paired=False)
    assert shifted[1] - shifted[0] > high - low


def test_what_has_no_distance_is_one_sentence():
    with pytest.raises(InputError, match="at least 2 samples"):
        frechet_distance(features(0)[:1], features(1))
    with pytest.raises(InputError, match="use one network"):
        frechet_distance(features(0, dims=3), features(1, dims=4))
    with pytest.raises(InputError, match="finite"):
        frechet_distance(np.full((5, 3), np.nan), features(1, dims=3))
    moments = FeatureMoments()
    moments.update(features(0, dims=3))
    with pytest.raises(InputError, match="use one network"):
        moments.update(features(0, dims=4))
