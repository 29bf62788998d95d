"""The diffusion sampler: its solvers reach the exact solution where that is known, at the order that they promise."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from echogen.errors import InputError
from echogen.samplers.edm import (
    LARGEST_CHURN,
    SOLVERS,
    Denoiser,
    Edm,
    dynamic_threshold,
    edm_loss,
    estimate_clean,
    heun,
    loss_weight,
    multistep,
    noise_levels,
    preconditioning,
    random_normal,
    recorded_normal,
)

MEAN, SPREAD = 0.3, 0.25
PLAIN = Edm(threshold=None)
CPU = torch.device("cpu")


def of_gaussian(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """The exact denoiser of data ~ N(MEAN, SPREAD^2)."""
    return (SPREAD**2 * x + sigma**2 * MEAN) / (SPREAD**2 + sigma**2)


def exact(start: torch.Tensor, sigma: float) -> torch.Tensor:
    """Where the probability flow takes a start at sigma down to no noise."""
    return MEAN + (start - MEAN) * SPREAD / math.sqrt(SPREAD**2 + sigma**2)


def end_of(solver: str, steps: int, edm: Edm = PLAIN, seed: int = 0) -> torch.Tensor:
    normal = random_normal(torch.Generator().manual_seed(seed), CPU)
    return SOLVERS[solver](lambda x, sigma: of_gaussian(x.double(), sigma), (4, 6), steps, edm, normal)


@pytest.mark.parametrize("solver", ["heun", "multistep"])
def test_a_solver_reaches_the_exact_solution_at_second_order(solver: str) -> None:
    start = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)) * PLAIN.sigma_max
    truth = exact(start.double(), PLAIN.sigma_max)
    errors = [float((end_of(solver, steps) - truth).abs().max()) for steps in (16, 32, 64, 128)]
    rates = [math.log2(one / two) for one, two in pairwise(errors)]
    assert errors[-1] < 2e-3
    assert min(rates) > 1.5, errors


def test_few_steps_of_the_multistep_solver_beat_those_of_heun_at_equal_looks() -> None:
    truth = exact(torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double() * 80.0, 80.0)
    assert float((end_of("multistep", 15) - truth).abs().max()) < float((end_of("heun", 8) - truth).abs().max())


def test_churn_draws_from_the_data() -> None:
    normal = random_normal(torch.Generator().manual_seed(1), CPU)
    x = heun(of_gaussian, (4000,), 160, Edm(threshold=None, churn=40.0, churn_noise=1.0), normal)
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(x.std()) == pytest.approx(SPREAD, abs=0.02)
    again = heun(
        of_gaussian,
        (4000,),
        160,
        Edm(threshold=None, churn=40.0, churn_noise=1.0),
        random_normal(torch.Generator().manual_seed(2), CPU),
    )
    assert not torch.allclose(x, again)


def test_looks_and_draws_are_those_of_the_algorithm() -> None:
    looks: list[float] = []
    shapes: list[tuple[int, ...]] = []

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        looks.append(sigma)
        return torch.zeros_like(x)

    def normal(shape: tuple[int, ...]) -> torch.Tensor:
        shapes.append(tuple(shape))
        return torch.ones(tuple(shape))

    heun(denoise, (1, 2), 4, Edm(churn=1000.0), normal)  # type: ignore[arg-type]
    levels = noise_levels(4, Edm())
    assert len(looks) == 2 * 4 - 1
    assert len(shapes) == 1 + 4
    assert looks[0] == levels[0]  # above churn_to
    assert looks[2] == pytest.approx(levels[1] * (1 + LARGEST_CHURN))  # the most that is allowed
    assert looks[1::2] == levels[1:4]
    looks.clear(), shapes.clear()
    multistep(denoise, (1, 2), 4, Edm(churn=1000.0), normal)  # type: ignore[arg-type]
    assert (looks, len(shapes)) == (levels[:4], 1)


@given(st.integers(1, 80))
def test_noise_levels_fall_from_the_largest_to_none(steps: int) -> None:
    levels = noise_levels(steps, Edm())
    assert len(levels) == steps + 1
    assert levels[0] == pytest.approx(80.0, rel=1e-5)
    assert levels[-1] == 0
    assert all(one > two for one, two in pairwise(levels))
    assert steps == 1 or levels[-2] == pytest.approx(0.002, rel=1e-4)


@given(st.floats(0.002, 80.0))
def test_preconditioning_keeps_the_variance(sigma: float) -> None:
    c = preconditioning(torch.tensor([sigma], dtype=torch.float64), SPREAD)
    assert float(c.into**2 * (sigma**2 + SPREAD**2)) == pytest.approx(1)
    # what is to be predicted has unit variance: (data - skip * noisy) / out
    left = (1 - c.skip) ** 2 * SPREAD**2 + c.skip**2 * sigma**2
    assert float(left / c.out**2) == pytest.approx(1)
    assert float(c.out**2 * loss_weight(torch.tensor([sigma], dtype=torch.float64), SPREAD)) == pytest.approx(1)


@given(st.integers(1, 400), st.floats(0.05, 1.0))
def test_a_threshold_is_the_quantile_or_one(size: int, quantile: float) -> None:
    x = torch.randn(2, size, generator=torch.Generator().manual_seed(size)) * 3
    limit = torch.quantile(x.abs(), quantile, dim=1, keepdim=True).clamp_min(1)
    torch.testing.assert_close(dynamic_threshold(x, quantile), x.clamp(-limit, limit) / limit)
    small = x.clamp(-0.9, 0.9)
    assert torch.equal(dynamic_threshold(small, quantile), small)


def test_a_perfect_network_has_no_loss_and_an_idle_one_the_weighted_variance() -> None:
    clean, noise = torch.randn(3, 2, 5) * SPREAD, torch.randn(3, 2, 5)
    ln_sigma = torch.tensor([-3.0, 0.0, 2.0])
    sigma = ln_sigma.exp().view(-1, 1, 1)

    def perfect(scaled: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        c = preconditioning(sigma, SPREAD)
        torch.testing.assert_close(level, c.noise.flatten())
        return (clean - c.skip * (clean + sigma * noise)) / c.out

    assert float(edm_loss(perfect, clean, ln_sigma, noise, SPREAD).max()) < 1e-6
    idle = edm_loss(lambda x, _: torch.zeros_like(x), torch.randn(3, 20_000) * SPREAD, ln_sigma, torch.randn(3, 20_000), SPREAD)
    assert idle.tolist() == pytest.approx([1.0] * 3, rel=0.05)


def test_a_denoiser_thresholds_and_tells_who_watches() -> None:
    seen: list[float] = []
    loud = Denoiser(lambda x, _: 100 * x, Edm(), lambda x, sigma, clean: seen.append(float(clean.abs().max())))
    clean = loud(torch.randn(2, 50), 1.5)
    assert seen == [1.0] == [float(clean.abs().max())]
    quiet = Denoiser(lambda x, _: 100 * x, PLAIN)(torch.randn(2, 50), 1.5)
    assert float(quiet.abs().max()) > 1
    x = torch.randn(2, 3)
    torch.testing.assert_close(
        Denoiser(lambda x, _: x, PLAIN)(x, 2.0), estimate_clean(lambda x, _: x, x, torch.full((2,), 2.0), SPREAD)
    )


def test_recorded_draws_are_replayed_in_their_order() -> None:
    draws = [torch.arange(4.0), None, torch.ones(2)]
    normal = recorded_normal(draws)
    assert normal((2, 2)).tolist() == [[0, 1], [2, 3]]
    assert normal((3,)).tolist() == [0, 0, 0]
    assert normal((1, 2)).tolist() == [[1, 1]]


def test_impossible_constants_are_one_sentence() -> None:
    for wrong in ({"sigma_min": 100.0}, {"sigma_data": 0.0}, {"churn": -1.0}):
        with pytest.raises(InputError, match="0 < sigma_min < sigma_max"):
            Edm(**wrong)
    with pytest.raises(InputError, match="quantile above 0 and at most 1, not 95"):
        Edm(threshold=95)
