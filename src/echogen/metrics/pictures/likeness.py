"""Likeness of pictures to reference pictures, by pixel and by structure; grey values count on a 0..1 scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter

from echogen.arrays import Floats
from echogen.errors import InputError
from echogen.metrics.bootstrap import bootstrap_interval

_SIGMA, _TRUNCATE = 1.5, 3.5


def _unit(pictures: ArrayLike) -> Floats:
    """uint8 -> 0..1; floats are taken to be 0..1 already."""
    values = np.asarray(pictures)
    return values / 255.0 if values.dtype == np.uint8 else values.astype(np.float64)


def _pair(pictures: ArrayLike, reference: ArrayLike) -> tuple[Floats, Floats]:
    first, second = _unit(pictures), _unit(reference)
    if first.shape != second.shape:
        raise InputError(
            f"Pictures of shape {first.shape} cannot be compared with a reference of shape {second.shape}; cut both alike."
        )
    return first, second


def mse(pictures: ArrayLike, reference: ArrayLike) -> float:
    """Mean squared error; uint8 or floats in 0..1. Raises `InputError` for unequal shapes, as do all others."""
    first, second = _pair(pictures, reference)
    return float(np.mean((first - second) ** 2))


def mae(pictures: ArrayLike, reference: ArrayLike) -> float:
    """Mean absolute error; uint8 or floats in 0..1."""
    first, second = _pair(pictures, reference)
    return float(np.mean(np.abs(first - second)))


def psnr(pictures: ArrayLike, reference: ArrayLike) -> float:
    """Peak signal-to-noise ratio in dB, -10 log10(MSE) at peak 1; infinite for equal pictures."""
    return _decibels(mse(pictures, reference))


def _decibels(error: float) -> float:
    return float("inf") if error == 0 else -10.0 * math.log10(error)


def ssim(pictures: ArrayLike, reference: ArrayLike) -> float:
    """Structural similarity, -1..1, mean over the pixels at least 5 from an edge and over frames.

    pictures, reference: (..., H, W), at least 11 x 11, uint8 or floats in 0..1. Gaussian window of sigma 1.5 (11 x 11),
    K1 = 0.01, K2 = 0.03 (Wang 2004, equation 13).
    """
    first, second = _pair(pictures, reference)
    edge = int(_TRUNCATE * _SIGMA + 0.5)
    if first.ndim < 2 or min(first.shape[-2:]) <= 2 * edge:
        raise InputError(f"Structural similarity needs pictures of at least 11 x 11 pixels, not of shape {first.shape}.")
    sigma = (0.0,) * (first.ndim - 2) + (_SIGMA, _SIGMA)

    def blur(values: Floats) -> Floats:
        return np.asarray(gaussian_filter(values, sigma, truncate=_TRUNCATE))

    mean1, mean2 = blur(first), blur(second)
    variance1, variance2 = blur(first * first) - mean1**2, blur(second * second) - mean2**2
    covariance = blur(first * second) - mean1 * mean2
    c1, c2 = 0.01**2, 0.03**2
    # (13): SSIM = (2 m1 m2 + C1)(2 s12 + C2) / ((m1^2 + m2^2 + C1)(s1^2 + s2^2 + C2))
    similarity = (2 * mean1 * mean2 + c1) * (2 * covariance + c2) / ((mean1**2 + mean2**2 + c1) * (variance1 + variance2 + c2))
    return float(similarity[..., edge:-edge, edge:-edge].mean())


class ClipMetric:
    """A figure of many clips, each compared with its reference; the clips may be seen by many processes.

    `update` keeps one number a clip, so merged states in any order give the figure that one process would have found, bit for
    bit, and an interval over clips. Every clip counts once. A subclass has a `name` and says what it measures of a clip.

    >>> here, there = MeanAbsoluteError(), MeanAbsoluteError()
    >>> here.update(np.zeros((2, 16, 16)), np.full((2, 16, 16), 0.25))
    >>> there.update(np.zeros((2, 16, 16)), np.full((2, 16, 16), 0.75))
    >>> here.merge(MeanAbsoluteError.from_state(there.state()))
    >>> here.compute(), here.n
    (0.5, 2)
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self._values: list[float] = []

    @property
    def n(self) -> int:
        """Number of clips seen."""
        return len(self._values)

    def measure(self, frames: ArrayLike, reference: ArrayLike) -> float:
        """Measure one clip (or picture) against its reference; both (..., H, W), uint8 or floats in 0..1."""
        raise TypeError(f"{type(self).__name__} must say what it measures.")

    def summary(self, values: ArrayLike) -> float:
        """The figure that the clips' values (n,) make together: their mean, rounded once; nan for none."""
        numbers = np.asarray(values, dtype=np.float64)
        return math.fsum(numbers) / len(numbers) if len(numbers) else float("nan")

    def update(self, frames: ArrayLike, reference: ArrayLike) -> None:
        """Take in one clip (or picture) and its reference. Raises `InputError` for unequal shapes."""
        self._values.append(self.measure(frames, reference))

    def compute(self) -> float:
        """The figure of all clips so far; nan before the first."""
        return self.summary(self._values)

    def interval(self, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
        """Percentile bootstrap interval (low, high) over clips; the order in which they were seen does not matter."""
        if not self._values:
            return float("nan"), float("nan")
        return bootstrap_interval(self.summary, np.sort(self._values), level=level, resamples=resamples, seed=seed)

    def merge(self, other: Self) -> None:
        """Take in what another process has seen."""
        self._values += other._values

    def merge_state(self, state: Mapping[str, ArrayLike]) -> None:
        """Take in what another process has seen, as it tells by `state`."""
        self._values += np.asarray(state["values"], dtype=np.float64).tolist()

    def state(self) -> dict[str, Floats]:
        """Return the state for another process, as plain arrays: values (n,)."""
        return {"values": np.array(self._values, dtype=np.float64)}

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike], *settings: Any) -> Self:
        """The metric that `state` describes; settings as the constructor takes them."""
        metric = cls(*settings)
        metric._values = np.asarray(state["values"], dtype=np.float64).tolist()
        return metric


class MeanSquaredError(ClipMetric):
    """`mse`, mean over clips."""

    name = "MSE"

    def measure(self, frames: ArrayLike, reference: ArrayLike) -> float:
        """`mse` of one clip."""
        return mse(frames, reference)


class MeanAbsoluteError(ClipMetric):
    """`mae`, mean over clips."""

    name = "MAE"

    def measure(self, frames: ArrayLike, reference: ArrayLike) -> float:
        """`mae` of one clip."""
        return mae(frames, reference)


class PeakSignalToNoise(MeanSquaredError):
    """Peak signal-to-noise ratio in dB of the mean squared error over all clips: one perfect clip does not make it infinite."""

    name = "PSNR"

    def summary(self, values: ArrayLike) -> float:
        """-10 log10 of the mean."""
        return _decibels(super().summary(values))


class StructuralSimilarity(ClipMetric):
    """`ssim`, mean over clips; each frame is compared with the frame at the same place in its reference."""

    name = "SSIM"

    def measure(self, frames: ArrayLike, reference: ArrayLike) -> float:
        """`ssim` of one clip."""
        return ssim(frames, reference)
