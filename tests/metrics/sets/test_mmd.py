import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echogen.errors import InputError
from echogen.metrics.sets.mmd import (
    FeatureReservoir,
    MaximumMeanDiscrepancy,
    gaussian_mmd,
    gaussian_mmd_interval,
    median_distance,
    polynomial_mmd,
)

MMDS = [polynomial_mmd, gaussian_mmd]


def features(seed: int, n: int = 120, dims: int = 6, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (n, dims))


def test_agrees_with_the_sums_of_the_definition():
    a, b = features(1, n=9), features(2, n=7)

    def by_pairs(kernel) -> float:
        def mean(left, right):
            return np.mean([kernel(x, y) for i, x in enumerate(left) for j, y in enumerate(right) if left is not right or i != j])

        return mean(a, a) + mean(b, b) - 2 * mean(a, b)

    assert polynomial_mmd(a, b) == pytest.approx(by_pairs(lambda x, y: (x @ y / 6 + 1) ** 3))
    assert gaussian_mmd(a, b, bandwidth=1.5) == pytest.approx(by_pairs(lambda x, y: np.exp(-((x - y) ** 2).sum() / 4.5)))


@pytest.mark.parametrize("mmd", MMDS)
def test_identical_sets_give_0_and_one_population_about_0(mmd):
    a = features(3)
    assert mmd(a, a[::-1], unbiased=False) == pytest.approx(0, abs=1e-12)
    draws = [mmd(features(seed, n=60), features(seed + 500, n=60)) for seed in range(40)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(len(draws))
    assert min(draws) < 0 < max(draws)


@pytest.mark.parametrize("mmd", MMDS)
def test_grows_with_the_distance_of_the_sets(mmd):
    values = [mmd(features(4), features(5, shift=shift)) for shift in (0.0, 0.3, 0.6, 1.2)]
    assert (np.diff(values) > 0).all()


def test_chunks_change_nothing():
    a, b = features(6, n=2500, dims=3), features(7, n=1100, dims=3)
    whole = (a @ b.T / 3 + 1) ** 3
    within = [((x @ x.T / 3 + 1) ** 3) for x in (a, b)]
    expected = sum((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in within) - 2 * whole.mean()
    assert polynomial_mmd(a, b) == pytest.approx(expected, abs=1e-9)


def test_the_interval_is_that_of_samples_drawn_again():
    a, b = features(12, n=30), features(13, n=40, shift=0.4)
    low, high = gaussian_mmd_interval(a, b, resamples=300)
    assert low < gaussian_mmd(a, b) < high
    width = median_distance(a)
    random = np.random.default_rng(0)
    drawn = [gaussian_mmd(a[random.integers(0, 30, 30)], b[random.integers(0, 40, 40)], bandwidth=width) for _ in range(300)]
    assert high - low == pytest.approx(np.subtract(*np.percentile(drawn, (97.5, 2.5))), rel=0.25)
    assert gaussian_mmd_interval(a, a + 2.0)[0] > high


def test_median_distance():
    assert median_distance(np.array([[0.0], [1.0], [3.0]])) == pytest.approx(2.0)
    assert median_distance(np.ones((5, 2))) == 1.0


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(4)), limit=st.integers(2, 300))
def test_four_processes_keep_the_same_samples_in_any_order(order, limit):
    a, b = features(8).astype(np.float32), features(9, n=90, shift=0.5).astype(np.float32)
    for kernel in ("polynomial", "gaussian"):
        whole = MaximumMeanDiscrepancy(kernel, limit=limit)
        whole.update(a, reference=True)
        whole.update(b)
        parts = [MaximumMeanDiscrepancy(kernel, limit=limit) for _ in range(4)]
        for rank, part in enumerate(parts):
            part.update(a[rank::4], reference=True)
            for batch in np.array_split(b[rank::4], 3):
                part.update(batch)
        total = MaximumMeanDiscrepancy(kernel, limit=limit)
        for rank in order:
            total.merge(MaximumMeanDiscrepancy.from_state(parts[rank].state(), kernel))
        np.testing.assert_array_equal(total.reference.features, whole.reference.features)
        assert total.generated.seen == 90
        assert len(total.generated.features) == min(limit, 90)
        assert total.compute() == whole.compute()


def test_a_large_enough_reservoir_gives_the_pure_functions_number():
    a, b = features(10), features(11)
    metric = MaximumMeanDiscrepancy("gaussian", bandwidth=2.0)
    metric.update(a, reference=True)
    metric.update(b)
    assert metric.compute() == pytest.approx(gaussian_mmd(a, b, bandwidth=2.0), rel=1e-4)


def test_the_reservoir_is_a_fair_choice_that_follows_the_seed():
    samples = np.arange(4000, dtype=np.float32)[:, None]
    kept = []
    for seed in range(20):
        reservoir = FeatureReservoir(limit=200, seed=seed)
        reservoir.update(samples)
        kept.append(reservoir.features[:, 0])
        assert len(set(kept[-1])) == 200
    assert np.mean(kept) == pytest.approx(2000, abs=4 * 1155 / np.sqrt(4000))
    assert set(kept[0]) != set(kept[1])


def test_what_has_no_discrepancy_is_one_sentence():
    with pytest.raises(InputError, match="at least 2 samples"):
        polynomial_mmd(features(0, n=1), features(1))
    with pytest.raises(InputError, match="equal in dims"):
        gaussian_mmd(features(0, dims=3), features(1, dims=4))
    with pytest.raises(InputError, match="bandwidth"):
        gaussian_mmd(features(0), features(1), bandwidth=0.0)
    with pytest.raises(InputError, match="different limits or seeds"):
        FeatureReservoir(seed=1).merge(FeatureReservoir(seed=2))
    with pytest.raises(InputError, match="at least 2"):
        FeatureReservoir(limit=1)
