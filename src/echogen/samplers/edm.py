"""Diffusion by Karras et al., "Elucidating the design space", NeurIPS 2022: preconditioning, loss, and two solvers.

Equation and algorithm numbers are those of that paper. Noise levels sigma are standard deviations of noise added to data that is
not scaled. The constants of EchoDiffusion are those of its paper (Section 2 and Table 3).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from echogen.errors import InputError

#: Function of (noisy video, sigma) that estimates the clean video.
Denoise = Callable[[Tensor, float], Tensor]
#: Network as a function of (noisy video scaled to unit variance, ln(sigma) / 4 of each row); the shape stays.
Predict = Callable[[Tensor, Tensor], Tensor]
#: Function that draws standard normal numbers of a shape.
Normal = Callable[[Sequence[int]], Tensor]
#: Function that is called after each call of the network with noisy video, sigma and denoised video.
Watch = Callable[[Tensor, float, Tensor], None]

#: Largest relative increase of a noise level by churn (Algorithm 2).
LARGEST_CHURN = math.sqrt(2.0) - 1.0


@dataclass(frozen=True)
class Edm:
    """Constants of a diffusion.

    sigma_min: Lowest noise level of the schedule (Eq. 5).
    sigma_max: Highest noise level of the schedule (Eq. 5).
    sigma_data: Standard deviation of the data.
    rho: Exponent of the schedule (Eq. 5); the larger, the more steps at low noise.
    ln_sigma_mean: Mean of the logarithm of the noise level in training (P_mean in Table 1).
    ln_sigma_std: SD of the logarithm of the noise level in training (P_std in Table 1).
    churn: Noise that is added anew over all steps (S_churn in Algorithm 2).
    churn_from: Lowest noise level at which noise is added anew (S_tmin in Algorithm 2).
    churn_to: Highest noise level at which noise is added anew (S_tmax in Algorithm 2).
    churn_noise: Factor of the noise that is added anew (S_noise in Algorithm 2).
    threshold: Quantile of |x| of each video at which values are cut and by which they are divided where it is above 1, at every
        step (dynamic thresholding, Saharia et al., Imagen, 2022); null for none.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.25
    rho: float = 7.0
    ln_sigma_mean: float = -1.2
    ln_sigma_std: float = 1.2
    churn: float = 0.0
    churn_from: float = 0.05
    churn_to: float = 50.0
    churn_noise: float = 1.003
    threshold: float | None = 0.95

    def __post_init__(self) -> None:
        if not (0 < self.sigma_min < self.sigma_max and self.sigma_data > 0 and self.rho > 0 and self.churn >= 0):
            raise InputError("A diffusion needs 0 < sigma_min < sigma_max, a positive sigma_data and rho, and no negative churn.")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise InputError(f"The threshold is a quantile above 0 and at most 1, not {self.threshold}.")


class Preconditioning(NamedTuple):
    """Preconditioning of a network at some noise levels (Table 1, column EDM).

    skip: Factor c_skip of the noisy video in the estimate.
    out: Factor c_out of the network's output in the estimate.
    into: Factor c_in of the noisy video at the network's input.
    noise: Noise level c_noise as the network takes it.
    """

    skip: Tensor
    out: Tensor
    into: Tensor
    noise: Tensor


def preconditioning(sigma: Tensor, sigma_data: float) -> Preconditioning:
    """Preconditioning for noise levels of any shape (Table 1, column EDM)."""
    variance = sigma**2 + sigma_data**2
    return Preconditioning(
        sigma_data**2 / variance, sigma * sigma_data * variance.rsqrt(), variance.rsqrt(), 0.25 * sigma.clamp_min(1e-20).log()
    )


def loss_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """Loss weight lambda(sigma), by which all levels weigh the same in an untrained network (Eq. 144 in the appendix)."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2  # Eq. 144


def estimate_clean(predict: Predict, noisy: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """Estimate D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) of the clean video (Eq. 7), of noisy (B, ...), sigma (B,)."""
    each = (-1, *(1,) * (noisy.ndim - 1))
    c = preconditioning(sigma, sigma_data)
    return c.skip.view(each) * noisy + c.out.view(each) * predict(c.into.view(each) * noisy, c.noise).float()  # Eq. 7


def edm_loss(predict: Predict, clean: Tensor, ln_sigma: Tensor, noise: Tensor, sigma_data: float) -> Tensor:
    """Weighted squared error (B,) of each row (Eq. 2 with lambda).

    predict: Network.
    clean: Clean video (B, ...).
    ln_sigma: Logarithm (B,) of the noise level.
    noise: Standard normal numbers of the shape of the clean video.
    sigma_data: Standard deviation of the data.
    """
    sigma = ln_sigma.exp()
    noisy = clean + sigma.view(-1, *(1,) * (clean.ndim - 1)) * noise
    error = (estimate_clean(predict, noisy, sigma, sigma_data) - clean).square().flatten(1).mean(1)
    return error * loss_weight(sigma, sigma_data)  # Eq. 2


def dynamic_threshold(video: Tensor, quantile: float) -> Tensor:
    """Cut each row at its quantile of |x|, but at least at 1, and divide it by that, so that it lies in -1..1."""
    size = video.flatten(1).abs()
    limit = torch.stack([_quantile(row, quantile) for row in size]).clamp_min(1.0).view(-1, *(1,) * (video.ndim - 1))
    return video.clamp(-limit, limit) / limit


def _quantile(values: Tensor, quantile: float) -> Tensor:
    """Quantile of values (N,) by linear interpolation, of any number of values."""
    place = quantile * (len(values) - 1)
    below = math.floor(place)
    low = values.kthvalue(below + 1).values
    high = values.kthvalue(min(below + 2, len(values))).values
    return torch.lerp(low, high, place - below)


class Denoiser:
    """Network as a `Denoise`, with the thresholding of `edm`; watch: function that is called after each call of the network."""

    def __init__(self, predict: Predict, edm: Edm, watch: Watch | None = None) -> None:
        self.predict, self.edm, self.watch = predict, edm, watch

    def __call__(self, noisy: Tensor, sigma: float) -> Tensor:
        """Estimate of the clean video of a noisy one (B, ...) at a noise level."""
        clean = estimate_clean(self.predict, noisy, torch.full((len(noisy),), sigma, device=noisy.device), self.edm.sigma_data)
        if self.edm.threshold is not None:
            clean = dynamic_threshold(clean, self.edm.threshold)
        if self.watch is not None:
            self.watch(noisy, sigma, clean)
        return clean


def noise_levels(steps: int, edm: Edm) -> list[float]:
    """Noise levels of `steps` steps from sigma_max down to sigma_min, then 0 (Eq. 5), rounded to single precision."""
    ends = [edm.sigma_max ** (1 / edm.rho), edm.sigma_min ** (1 / edm.rho)]
    at = torch.arange(steps, dtype=torch.float32) / max(steps - 1, 1)
    levels = (ends[0] + at * (ends[1] - ends[0])) ** edm.rho  # Eq. 5
    return [*levels.tolist(), 0.0]


def heun(denoise: Denoise, shape: Sequence[int], steps: int, edm: Edm, normal: Normal) -> Tensor:
    """Sample by the stochastic second-order solver (Algorithm 2), with 2 steps - 1 calls of the network.

    One standard normal video begins, and one is drawn at every step, whether or not it has a part in it.
    """
    levels = noise_levels(steps, edm)
    x = levels[0] * normal(shape)
    for sigma, following in pairwise(levels):
        inside = edm.churn_from <= sigma <= edm.churn_to
        raised = sigma * (1.0 + (min(edm.churn / steps, LARGEST_CHURN) if inside else 0.0))
        fresh = edm.churn_noise * normal(shape)
        x = x + math.sqrt(max(raised**2 - sigma**2, 0.0)) * fresh
        slope = (x - denoise(x, raised)) / raised
        ahead = x + (following - raised) * slope
        if following > 0:
            slope = 0.5 * (slope + (ahead - denoise(ahead, following)) / following)
            ahead = x + (following - raised) * slope
        x = ahead
    return x


def multistep(denoise: Denoise, shape: Sequence[int], steps: int, edm: Edm, normal: Normal) -> Tensor:
    """Sample by a deterministic second-order solver with one call of the network a step, for few steps, without churn.

    Source: Lu et al., DPM-Solver++, 2022, Algorithm 2 (2M), with alpha = 1 and the step h in ln(1 / sigma).
    """
    levels = noise_levels(steps, edm)
    x = levels[0] * normal(shape)
    earlier: tuple[Tensor, float] | None = None  # the estimate of the step before, and that step
    for sigma, following in pairwise(levels):
        clean = denoise(x, sigma)
        if following == 0:
            return clean
        step = math.log(sigma / following)
        towards = clean
        if earlier is not None:
            ratio = earlier[1] / step
            towards = clean + (clean - earlier[0]) / (2.0 * ratio)
        x = (following / sigma) * x - math.expm1(-step) * towards
        earlier = clean, step
    return x


#: Solvers by name.
SOLVERS: dict[str, Callable[[Denoise, Sequence[int], int, Edm, Normal], Tensor]] = {"heun": heun, "multistep": multistep}


def random_normal(generator: torch.Generator, device: torch.device) -> Normal:
    """Function that draws from a generator, on the generator's own device."""
    return lambda shape: torch.randn(tuple(shape), generator=generator, device=generator.device).to(device)


def recorded_normal(draws: Iterable[Tensor | None]) -> Normal:
    """Function that gives recorded numbers in their order; None stands for zeros."""
    left = iter(draws)

    def draw(shape: Sequence[int]) -> Tensor:
        recorded = next(left)
        return torch.zeros(tuple(shape)) if recorded is None else recorded.reshape(tuple(shape))

    return draw


def log_snr(level: Tensor) -> Tensor:
    """Log-SNR ln(alpha^2 / sigma^2) of the noise on a smaller video at a level from 0 to 1, by the linear schedule of DDPM.

    Source: Kingma et al., Variational Diffusion Models, 2021, with the ends of Ho et al., 2020.
    """
    return -torch.expm1(1e-4 + 10.0 * level**2).log()


def add_noise(video: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """Add noise of a level (B,) to a video (B, ...) in -1..1: alpha video + sigma noise."""
    ratio = log_snr(level).view(-1, *(1,) * (video.ndim - 1))
    return ratio.sigmoid().sqrt() * video + (-ratio).sigmoid().sqrt() * noise


#: Names of this module that are still understood, and their present names.
_FORMER_NAMES = {"denoised": estimate_clean, "drawn": random_normal, "noised": add_noise, "replayed": recorded_normal}


def __getattr__(name: str) -> Any:
    if name not in _FORMER_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    present = _FORMER_NAMES[name]
    warnings.warn(f"{__name__}.{name} is called {present.__name__} now.", DeprecationWarning, stacklevel=2)
    return present
