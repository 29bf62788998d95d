"""How near pictures come to reference pictures, pixel by pixel and structure by structure; grey values count on a 0..1 scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

Floats = NDArray[np.float64]

_SIGMA, _TRUNCATE = 1.5, 3.5


def _unit(pictures: ArrayLike) -> Floats:
    """uint8 -> 0..1; floats are taken to be 0..1 already."""
    values = np.asarray(pictures)
    return values / 255.0 if values.dtype == np.uint8 else values.astype(np.float64)


def mse(pictures: ArrayLike, reference: ArrayLike) -> float:
    """Mean squared error; uint8 or floats in 0..1, any equal shapes."""
    return float(np.mean((_unit(pictures) - _unit(reference)) ** 2))


def mae(pictures: ArrayLike, reference: ArrayLike) -> float:
    """Mean absolute error; uint8 or floats in 0..1, any equal shapes."""
    return float(np.mean(np.abs(_unit(pictures) - _unit(reference))))


def psnr(pictures: ArrayLike, reference: ArrayLike) -> float:
    """Peak signal-to-noise ratio in dB, -10 log10(MSE) at peak 1; infinite for equal pictures."""
    error = mse(pictures, reference)
    return float(-10.0 * np.log10(error)) if error > 0 else float("inf")


def ssim(pictures: ArrayLike, reference: ArrayLike) -> float:
    """Structural similarity, -1..1, mean over the pixels at least 5 from an edge and over frames.

    pictures, reference: (..., H, W), uint8 or floats in 0..1. Gaussian window of sigma 1.5 (11 x 11), K1 = 0.01, K2 = 0.03
    (Wang 2004, equation 13).
    """
    first, second = _unit(pictures), _unit(reference)
    sigma = (0.0,) * (first.ndim - 2) + (_SIGMA, _SIGMA)

    def blur(values: Floats) -> Floats:
        return np.asarray(gaussian_filter(values, sigma, truncate=_TRUNCATE))

    mean1, mean2 = blur(first), blur(second)
    variance1, variance2 = blur(first * first) - mean1**2, blur(second * second) - mean2**2
    covariance = blur(first * second) - mean1 * mean2
    c1, c2 = 0.01**2, 0.03**2
    # (13): SSIM = (2 m1 m2 + C1)(2 s12 + C2) / ((m1^2 + m2^2 + C1)(s1^2 + s2^2 + C2))
    similarity = (2 * mean1 * mean2 + c1) * (2 * covariance + c2) / ((mean1**2 + mean2**2 + c1) * (variance1 + variance2 + c2))
    edge = int(_TRUNCATE * _SIGMA + 0.5)
    return float(similarity[..., edge:-edge, edge:-edge].mean())
