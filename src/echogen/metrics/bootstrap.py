"""Intervals by resampling: what a figure could have been with other samples of the same kind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike


def bootstrap_interval(
    statistic: Callable[..., float],
    *samples: ArrayLike,
    paired: bool = True,
    recentred: bool = False,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval (low, high) of statistic(*samples), whose rows are drawn with replacement (Efron 1979).

    samples: arrays of which a row is one sample. paired: the same rows are drawn from all of them (equal lengths), else from
    each its own. recentred: the interval is moved by the mean of the resampled values minus the value itself; for distances
    between sets, which drawing a sample twice makes larger. Resamples in which the statistic is undefined (nan) are left out.
    """
    arrays = [np.asarray(sample, dtype=np.float64) for sample in samples]
    random = np.random.default_rng(seed)
    values = np.empty(resamples)
    for index in range(resamples):
        if paired:
            chosen = random.integers(0, len(arrays[0]), len(arrays[0]))
            values[index] = statistic(*(array[chosen] for array in arrays))
        else:
            values[index] = statistic(*(array[random.integers(0, len(array), len(array))] for array in arrays))
    with np.errstate(invalid="ignore"):  # infinite values, as of equal pictures
        low, high = np.nanpercentile(values, (50 * (1 - level), 50 * (1 + level)))
    shift = float(np.nanmean(values)) - float(statistic(*arrays)) if recentred else 0.0
    return float(low) - shift, float(high) - shift
