"""Agreement of measured ejection fractions with the ones asked for (or known); R2 is always about identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def r2(measured: ArrayLike, reference: ArrayLike) -> float:
    """1 - SSres / SStot about identity: 1 for equality, 0 for the mean of the reference; nan where that is constant."""
    got, truth = np.asarray(measured, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    total = float(((truth - truth.mean()) ** 2).sum())
    return 1.0 - float(((got - truth) ** 2).sum()) / total if total > 0 else float("nan")


def mae(measured: ArrayLike, reference: ArrayLike) -> float:
    """Mean absolute difference, in the unit of the values."""
    return float(np.mean(np.abs(np.asarray(measured, float) - np.asarray(reference, float))))


def rmse(measured: ArrayLike, reference: ArrayLike) -> float:
    """Root mean squared difference, in the unit of the values."""
    return float(np.sqrt(np.mean((np.asarray(measured, float) - np.asarray(reference, float)) ** 2)))


def bias(measured: ArrayLike, reference: ArrayLike) -> float:
    """Mean of measured - reference, in the unit of the values."""
    return float(np.mean(np.asarray(measured, float) - np.asarray(reference, float)))


def limits_of_agreement(measured: ArrayLike, reference: ArrayLike) -> tuple[float, float]:
    """Bias -+ 1.96 standard deviations of the differences (Bland and Altman 1986); nan for fewer than two pairs."""
    difference = np.asarray(measured, float) - np.asarray(reference, float)
    if len(difference) < 2:
        return float("nan"), float("nan")
    reach = 1.96 * float(difference.std(ddof=1))
    return float(difference.mean()) - reach, float(difference.mean()) + reach


def bootstrap_interval(
    statistic: Callable[[Floats, Floats], float],
    measured: ArrayLike,
    reference: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval (low, high) of a statistic of pairs, which are drawn with replacement.

    Resamples in which the statistic is undefined (nan) are left out.
    """
    got, truth = np.asarray(measured, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    random = np.random.default_rng(seed)
    values = [statistic(got[chosen], truth[chosen]) for chosen in random.integers(0, len(got), (resamples, len(got)))]
    low, high = np.nanpercentile(values, (50 * (1 - level), 50 * (1 + level)))
    return float(low), float(high)


@dataclass(frozen=True)
class EjectionReport:
    """Agreement of EFs in %: r2 about identity, mae, rmse, bias and limits of agreement in points; intervals of 95 %; n pairs."""

    r2: float
    r2_interval: tuple[float, float]
    mae: float
    mae_interval: tuple[float, float]
    rmse: float
    bias: float
    limits_of_agreement: tuple[float, float]
    n: int


def ejection_report(measured_percent: ArrayLike, reference_percent: ArrayLike, *, seed: int = 0) -> EjectionReport:
    """Every figure of agreement between measured and reference EF (both (n,), in %)."""
    got, truth = np.asarray(measured_percent, dtype=np.float64), np.asarray(reference_percent, dtype=np.float64)
    return EjectionReport(
        r2=r2(got, truth),
        r2_interval=bootstrap_interval(r2, got, truth, seed=seed),
        mae=mae(got, truth),
        mae_interval=bootstrap_interval(mae, got, truth, seed=seed),
        rmse=rmse(got, truth),
        bias=bias(got, truth),
        limits_of_agreement=limits_of_agreement(got, truth),
        n=len(got),
    )
