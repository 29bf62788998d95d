"""A figure of an evaluation: a value with its interval, those of the truth and of a control beside it; how they are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from echogen.arrays import Floats
from echogen.metrics.heart.ejection import mean_interval

_NAN = float("nan")
RESAMPLES = 1000


@dataclass(frozen=True)
class Row:
    """A value, its 95 % interval, and the n clips, pairs or beats behind it; what is not known is nan."""

    value: float = _NAN
    low: float = _NAN
    high: float = _NAN
    n: int = 0

    def to_json(self) -> dict[str, float | int | None]:
        """value, low, high, n; None for what is not a finite number."""
        values = {"value": self.value, "low": self.low, "high": self.high}
        return {key: float(value) if np.isfinite(value) else None for key, value in values.items()} | {"n": self.n}


@dataclass(frozen=True)
class Figure:
    """Result of one metric for the generated clips.

    unit: "1" for a number without one. truth: the real clips judged in the same way, None where they cannot be. control: the
    generated clips judged against what they were not made for (another clip, shuffled beats or EFs), None where that means
    nothing. measuring_error: what the segmenter itself gives for this figure on clips of known truth. note: a sentence, or None.
    """

    generated: Row
    unit: str
    truth: Row | None = None
    control: Row | None = None
    measuring_error: float | None = None
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """value, low, high, n, unit, truth, control, measuring_error, note; missing facts are None."""
        rows = {"truth": self.truth, "control": self.control}
        return (
            self.generated.to_json()
            | {"unit": self.unit}
            | {name: None if row is None else row.to_json() for name, row in rows.items()}
            | {"measuring_error": self.measuring_error, "note": self.note}
        )


def share_row(flags: ArrayLike) -> Row:
    """Share of (n,) flags that are true, 0..1, and its 95 % score interval (Wilson 1927), with a width also for none and all."""
    values = np.asarray(flags, dtype=bool)
    if not len(values):
        return Row()
    interval = binomtest(int(values.sum()), len(values)).proportion_ci(0.95, method="wilson")
    return Row(float(values.mean()), float(interval.low), float(interval.high), len(values))


def mean_row(values: ArrayLike) -> Row:
    """Mean of (n,) values, one a clip; those that are not finite are left out."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    return Row(float(known.mean()), *mean_interval(known), len(known)) if len(known) else Row()


def ratio_row(numerators: ArrayLike, denominators: ArrayLike) -> Row:
    """Sum of the numerators over that of the denominators, one of each a clip; the interval draws clips; n: denominators."""
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if bottom.sum() <= 0:
        return Row()
    value, n = float(top.sum() / bottom.sum()), round(float(bottom.sum()))
    if len(top) < 2:
        return Row(value, n=n)
    drawn = np.random.default_rng(0).integers(0, len(top), (RESAMPLES, len(top)))
    below = bottom[drawn].sum(axis=1)
    low, high = np.percentile(top[drawn].sum(axis=1)[below > 0] / below[below > 0], (2.5, 97.5))
    return Row(value, float(low), float(high), n)


def pooled_row(statistic: Callable[[Floats], float], parts: Sequence[Floats]) -> Row:
    """A statistic of the values of all clips together, along the first axis; the interval draws clips, n counts values."""
    known = [part for part in parts if len(part)]
    if not known:
        return Row()
    together = np.concatenate(known)
    value = statistic(together)
    if len(known) < 2 or not np.isfinite(value):
        return Row(value, n=len(together))
    drawn = np.random.default_rng(0).integers(0, len(known), (RESAMPLES, len(known)))
    values = np.array([statistic(np.concatenate([known[index] for index in chosen])) for chosen in drawn])
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, (2.5, 97.5)) if len(values) else (_NAN, _NAN)
    return Row(value, float(low), float(high), len(together))


def draws_row(values: ArrayLike) -> Row:
    """Mean of a control over its draws, and what 95 % of them lie between; n counts draws."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return Row()
    low, high = np.percentile(known, (2.5, 97.5))
    return Row(float(known.mean()), float(low), float(high), len(known))
