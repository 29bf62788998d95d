"""Diffusion as Karras et al. have it ("Elucidating the design space", NeurIPS 2022): preconditioning, loss, and two solvers.

Equation and algorithm numbers are those of that paper. Noise levels sigma are standard deviations of noise added to data that is
not scaled. The constants of EchoDiffusion are those of its paper (Section 2 and Table 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from echogen.errors import InputError

#: (noisy video, sigma) -> the clean video as far as it can be told.
Denoise = Callable[[Tensor, float], Tensor]
#: (noisy video scaled to unit variance, ln(sigma) / 4 of each row) -> what the network predicts, in the same shape.
Predict = Callable[[Tensor, Tensor], Tensor]
#: A shape -> standard normal numbers.
Normal = Callable[[Sequence[int]], Tensor]
#: Called after each look of the network: noisy video, sigma, denoised video.
Watch = Callable[[Tensor, float, Tensor], None]

LARGEST_CHURN = math.sqrt(2.0) - 1.0


@dataclass(frozen=True)
class Edm:
    """The constants of a diffusion.

    sigma_min, sigma_max, rho: of the schedule (Eq. 5). sigma_data: standard deviation of the data. ln_sigma_mean, ln_sigma_std:
    of the noise in training (Table 1). churn: noise added anew over all steps, between the levels churn_from and churn_to, times
    churn_noise (Algorithm 2). threshold: of each video the quantile of |x| that values are cut at and divided by where it is
    above 1, at every step (dynamic thresholding, Saharia et al., 2022); None: not at all.
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
    """What the network's input, output and noise level are multiplied with or told (Table 1)."""

    skip: Tensor
    out: Tensor
    into: Tensor
    noise: Tensor


def preconditioning(sigma: Tensor, sigma_data: float) -> Preconditioning:
    """c_skip, c_out, c_in and c_noise for noise levels of any shape (Table 1, column EDM)."""
    variance = sigma**2 + sigma_data**2
    return Preconditioning(
        sigma_data**2 / variance, sigma * sigma_data * variance.rsqrt(), variance.rsqrt(), 0.25 * sigma.clamp_min(1e-20).log()
    )


def loss_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """lambda(sigma), by which all levels weigh the same at first (Eq. 144 in the appendix)."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def denoised(predict: Predict, noisy: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) (Eq. 7); sigma: (B,), noisy: (B, ...)."""
    each = (-1, *(1,) * (noisy.ndim - 1))
    c = preconditioning(sigma, sigma_data)
    return c.skip.view(each) * noisy + c.out.view(each) * predict(c.into.view(each) * noisy, c.noise).float()


def edm_loss(predict: Predict, clean: Tensor, ln_sigma: Tensor, noise: Tensor, sigma_data: float) -> Tensor:
    """Weighted squared error of each row (B,) (Eq. 2 with lambda); ln_sigma (B,), noise: standard normal like `clean`."""
    sigma = ln_sigma.exp()
    noisy = clean + sigma.view(-1, *(1,) * (clean.ndim - 1)) * noise
    error = (denoised(predict, noisy, sigma, sigma_data) - clean).square().flatten(1).mean(1)
    return error * loss_weight(sigma, sigma_data)


def dynamic_threshold(video: Tensor, quantile: float) -> Tensor:
    """Each row cut at its quantile of |x|, but at least at 1, and divided by that, so that it lies in -1..1."""
    size = video.flatten(1).abs()
    limit = torch.stack([_quantile(row, quantile) for row in size]).clamp_min(1.0).view(-1, *(1,) * (video.ndim - 1))
    return video.clamp(-limit, limit) / limit


def _quantile(values: Tensor, quantile: float) -> Tensor:
    """Quantile (N,) -> () by linear interpolation, of any number of values."""
    place = quantile * (len(values) - 1)
    below = math.floor(place)
    low = values.kthvalue(below + 1).values
    high = values.kthvalue(min(below + 2, len(values))).values
    return torch.lerp(low, high, place - below)


class Denoiser:
    """A network's prediction as a `Denoise`, thresholded as `edm` says. watch: is told of every look."""

    def __init__(self, predict: Predict, edm: Edm, watch: Watch | None = None) -> None:
        self.predict, self.edm, self.watch = predict, edm, watch

    def __call__(self, noisy: Tensor, sigma: float) -> Tensor:
        """The clean video as far as it can be told."""
        clean = denoised(self.predict, noisy, torch.full((len(noisy),), sigma, device=noisy.device), self.edm.sigma_data)
        if self.edm.threshold is not None:
            clean = dynamic_threshold(clean, self.edm.threshold)
        if self.watch is not None:
            self.watch(noisy, sigma, clean)
        return clean


def noise_levels(steps: int, edm: Edm) -> list[float]:
    """The `steps` noise levels from sigma_max down to sigma_min, then 0 (Eq. 5), rounded to single precision."""
    ends = [edm.sigma_max ** (1 / edm.rho), edm.sigma_min ** (1 / edm.rho)]
    at = torch.arange(steps, dtype=torch.float32) / max(steps - 1, 1)
    levels = (ends[0] + at * (ends[1] - ends[0])) ** edm.rho
    return [*levels.tolist(), 0.0]


def heun(denoise: Denoise, shape: Sequence[int], steps: int, edm: Edm, normal: Normal) -> Tensor:
    """The stochastic second-order solver (Algorithm 2): 2 steps - 1 looks of the network.

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
    """A deterministic second-order solver with one look of the network a step, for few steps; churn has no part in it.

    Source: DPM-Solver++(2M) (Lu et al., 2022, Algorithm 2) with alpha = 1 and the step h in ln(1 / sigma).
    """
    levels = noise_levels(steps, edm)
    x = levels[0] * normal(shape)
    before: tuple[Tensor, float] | None = None
    for sigma, following in pairwise(levels):
        clean = denoise(x, sigma)
        if following == 0:
            return clean
        step = math.log(sigma / following)
        towards = clean
        if before is not None:
            ratio = before[1] / step
            towards = clean + (clean - before[0]) / (2.0 * ratio)
        x = (following / sigma) * x - math.expm1(-step) * towards
        before = clean, step
    return x


SOLVERS: dict[str, Callable[[Denoise, Sequence[int], int, Edm, Normal], Tensor]] = {"heun": heun, "multistep": multistep}


def drawn(generator: torch.Generator, device: torch.device) -> Normal:
    """Numbers from a generator, drawn on its own device."""
    return lambda shape: torch.randn(tuple(shape), generator=generator, device=generator.device).to(device)


def replayed(draws: Iterable[Tensor | None]) -> Normal:
    """Recorded draws in their order; None stands for zeros."""
    left = iter(draws)

    def draw(shape: Sequence[int]) -> Tensor:
        recorded = next(left)
        return torch.zeros(tuple(shape)) if recorded is None else recorded.reshape(tuple(shape))

    return draw


def log_snr(level: Tensor) -> Tensor:
    """ln(alpha^2 / sigma^2) of the noise on a smaller video at a level from 0 to 1, by the linear schedule of DDPM.

    Source: Kingma et al., Variational Diffusion Models, 2021, with the ends of Ho et al., 2020.
    """
    return -torch.expm1(1e-4 + 10.0 * level**2).log()


def noised(video: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """A video (B, ...) in -1..1 with noise of a level (B,): alpha video + sigma noise."""
    ratio = log_snr(level).view(-1, *(1,) * (video.ndim - 1))
    return ratio.sigmoid().sqrt() * video + (-ratio).sigmoid().sqrt() * noise
