"""Agreement of measured ejection fractions with the ones asked for (or known); R2 is always about identity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from echogen.arrays import Floats
from echogen.metrics.bootstrap import bootstrap_interval


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


def _interval(
    statistic: Callable[[Floats, Floats], float], measured: Floats, reference: Floats, seed: int
) -> tuple[float, float]:
    """Bootstrap interval of 95 % over pairs; unknown where the statistic is, or with fewer than two pairs."""
    if len(measured) < 2 or not np.isfinite(statistic(measured, reference)):
        return float("nan"), float("nan")
    return bootstrap_interval(statistic, measured, reference, seed=seed)


def mean_interval(values: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval (low, high) of the mean of (n,) values; nan for fewer than two."""
    given = np.asarray(values, dtype=np.float64)
    if len(given) < 2:
        return float("nan"), float("nan")
    means = given[np.random.default_rng(seed).integers(0, len(given), (resamples, len(given)))].mean(axis=1)
    low, high = np.percentile(means, (50 * (1 - level), 50 * (1 + level)))
    return float(low), float(high)


@dataclass(frozen=True)
class EjectionReport:
    """Agreement of EFs in %: r2 about identity, mae, rmse, bias and limits of agreement in points; intervals of 95 %; n pairs.

    What too few pairs cannot tell is nan.
    """

    r2: float
    r2_interval: tuple[float, float]
    mae: float
    mae_interval: tuple[float, float]
    rmse: float
    rmse_interval: tuple[float, float]
    bias: float
    bias_interval: tuple[float, float]
    limits_of_agreement: tuple[float, float]
    n: int


def ejection_report(measured_percent: ArrayLike, reference_percent: ArrayLike, *, seed: int = 0) -> EjectionReport:
    """Every figure of agreement between measured and reference EF (both (n,), in %)."""
    got, truth = np.asarray(measured_percent, dtype=np.float64), np.asarray(reference_percent, dtype=np.float64)
    if not len(got):
        nan, unknown = float("nan"), (float("nan"), float("nan"))
        return EjectionReport(nan, unknown, nan, unknown, nan, unknown, nan, unknown, unknown, 0)
    return EjectionReport(
        r2=r2(got, truth),
        r2_interval=_interval(r2, got, truth, seed),
        mae=mae(got, truth),
        mae_interval=mean_interval(np.abs(got - truth), seed=seed),
        rmse=rmse(got, truth),
        rmse_interval=_interval(rmse, got, truth, seed),
        bias=bias(got, truth),
        bias_interval=mean_interval(got - truth, seed=seed),
        limits_of_agreement=limits_of_agreement(got, truth),
        n=len(got),
    )


@dataclass(frozen=True)
class ReconstructedEjection:
    """EF of reconstructed videos against that of their originals, both ways of reading rLVEF, over n videos.

    ratio_mean, ratio_sd: reconstructed / original EF (1 is perfect). difference_mean, difference_sd: |reconstructed - original|
    in points (0 is perfect), with the 95 % interval of its mean. What too few videos cannot tell is nan.
    """

    ratio_mean: float
    ratio_sd: float
    difference_mean: float
    difference_interval: tuple[float, float]
    difference_sd: float
    n: int


def reconstructed_ejection(
    reconstructed_percent: ArrayLike, original_percent: ArrayLike, *, seed: int = 0
) -> ReconstructedEjection:
    """rLVEF: how a tokenizer keeps the EF of the videos it reconstructs (ECHOPulse, Table 6).

    reconstructed_percent, original_percent: (n,) EF in %, each measured in the same way on a reconstruction and its original;
    originals are above 0. Table 6 prints "1 +- 0.33" and "1 +- 0.26" without formula or unit, as "rLVEF differences between the
    reconstructed videos and the target ones": that is either the ratio of both EFs, whose mean of 1 for both systems speaks for
    it, or their absolute difference in points, as the caption says. Both are given, each with its spread over the videos.
    """
    got, truth = np.asarray(reconstructed_percent, dtype=np.float64), np.asarray(original_percent, dtype=np.float64)
    nan = float("nan")
    if not len(got):
        return ReconstructedEjection(nan, nan, nan, (nan, nan), nan, 0)
    ratio, difference = got / truth, np.abs(got - truth)
    several = len(got) > 1
    return ReconstructedEjection(
        ratio_mean=float(ratio.mean()),
        ratio_sd=float(ratio.std(ddof=1)) if several else nan,
        difference_mean=float(difference.mean()),
        difference_interval=mean_interval(difference, seed=seed),
        difference_sd=float(difference.std(ddof=1)) if several else nan,
        n=len(got),
    )
