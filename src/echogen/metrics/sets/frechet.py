"""Fréchet distance between two sets of features, each taken for a Gaussian: the number behind FID and FVD, for any features.

Sources: Dowson and Landau 1982 (the distance); Heusel et al., GANs trained by a two time-scale update rule, 2017 (its use);
Chan, Golub and LeVeque 1979 (moments in parallel). All in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from echogen.arrays import Floats
from echogen.errors import InputError
from echogen.metrics.bootstrap import bootstrap_interval

#: Under so many samples a Fréchet distance is marked as biased.
ENOUGH_SAMPLES = 2048


class FeatureMoments:
    """Mean and covariance of features that come in batches, in many processes.

    n: samples so far. mean: (dims,). scatter: (dims, dims), the sum of outer products of deviations from the mean.
    """

    def __init__(self) -> None:
        self.n = 0
        self.mean: Floats = np.zeros(0)
        self.scatter: Floats = np.zeros((0, 0))

    def update(self, features: ArrayLike) -> None:
        """Take in features (n, dims). Raises `InputError` where they are not finite or of another number of dimensions."""
        batch = np.asarray(features, dtype=np.float64)
        if batch.ndim != 2 or not np.isfinite(batch).all():
            raise InputError(f"Features must be finite numbers (samples, dims), but these have shape {batch.shape}.")
        if len(batch):
            deviations = batch - batch.mean(0)
            self._add(len(batch), batch.mean(0), deviations.T @ deviations)

    def merge(self, other: FeatureMoments) -> None:
        """Take in what another process has seen."""
        if other.n:
            self._add(other.n, other.mean, other.scatter)

    def merge_state(self, state: Mapping[str, ArrayLike]) -> None:
        """Take in what another process has seen, as it tells by `state`."""
        self.merge(self.from_state(state))

    def _add(self, n: int, mean: Floats, scatter: Floats) -> None:
        if not self.n:
            self.n, self.mean, self.scatter = n, mean.copy(), scatter.copy()
            return
        if mean.shape != self.mean.shape:
            raise InputError(
                f"Features of {len(mean)} dimensions cannot join others of {len(self.mean)}; use one network for all."
            )
        # Chan et al. (2.1): M = M_a + M_b + d d' n_a n_b / n, with d the difference of the means
        total = self.n + n
        difference = mean - self.mean
        self.scatter = self.scatter + scatter + np.outer(difference, difference) * (self.n * n / total)
        self.mean = self.mean + difference * (n / total)
        self.n = total

    def covariance(self, ddof: int = 1) -> Floats:
        """(dims, dims): the scatter over n - ddof. Raises `InputError` for too few samples."""
        if self.n <= ddof:
            raise InputError(f"A covariance needs at least {ddof + 1} samples, but there are {self.n}.")
        return self.scatter / (self.n - ddof)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the state for another process, as plain arrays: n, mean, scatter."""
        return {"n": np.array(self.n), "mean": self.mean, "scatter": self.scatter}

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> Self:
        """The moments that `state` describes."""
        moments = cls()
        moments.n = int(np.asarray(state["n"]))
        moments.mean = np.asarray(state["mean"], dtype=np.float64)
        moments.scatter = np.asarray(state["scatter"], dtype=np.float64)
        return moments


def _root(covariance: Floats) -> Floats:
    """(dims, dims) R with R R' = covariance; what rounding made negative counts as 0."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))


def gaussian_distance(mean_a: Floats, covariance_a: Floats, mean_b: Floats, covariance_b: Floats) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians, at least 0; symmetric, also for singular covariances.

    |m_a - m_b|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2)) (Dowson and Landau, equation 4). With A = R R' and B = S S', A B has the
    eigenvalues of (R' S)(R' S)', so the last trace is the sum of the singular values of R' S: no root of a matrix that is not
    symmetric, no complex numbers.
    """
    overlap = np.linalg.svd(_root(covariance_a).T @ _root(covariance_b), compute_uv=False).sum()
    shift = float(((mean_a - mean_b) ** 2).sum())
    return max(shift + float(np.trace(covariance_a) + np.trace(covariance_b)) - 2.0 * float(overlap), 0.0)


def frechet_distance(features_a: ArrayLike, features_b: ArrayLike, *, ddof: int = 1) -> float:
    """Fréchet distance between two sets of features (n, dims) and (m, dims), in squared units of the features.

    ddof: 1 as in the published FID; 0 as in StyleGAN-V's FVD. Raises `InputError` for too few samples or unequal dimensions.
    """
    distance = FrechetDistance(ddof)
    distance.update(features_a, reference=True)
    distance.update(features_b)
    return distance.compute()


def _distance_of_few(one: Floats, other: Floats, ddof: int) -> float:
    """`frechet_distance` where dims are many more than samples: the deviations themselves are the roots R and S."""
    deviations = one - one.mean(0), other - other.mean(0)
    a, b = (d / np.sqrt(len(d) - ddof) for d in deviations)
    overlap = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    shift = ((one.mean(0) - other.mean(0)) ** 2).sum()
    return max(float(shift + (a * a).sum() + (b * b).sum() - 2.0 * overlap), 0.0)


def frechet_interval(
    features_a: ArrayLike, features_b: ArrayLike, *, ddof: int = 1, level: float = 0.95, resamples: int = 200, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval (low, high) of `frechet_distance`, both sets resampled on their own; low is at least 0.

    Drawing samples twice makes the distance larger, so the interval is moved back by the mean of that. It tells how much the
    figure depends on which samples were drawn, not the bias of having few (`bias_note`).
    """

    def distance(one: Floats, other: Floats) -> float:
        few = max(len(one), len(other)) < one.shape[1]
        return _distance_of_few(one, other, ddof) if few else frechet_distance(one, other, ddof=ddof)

    low, high = bootstrap_interval(
        distance, features_a, features_b, paired=False, recentred=True, level=level, resamples=resamples, seed=seed
    )
    return max(low, 0.0), max(high, 0.0)


def bias_note(n: int, dims: int) -> str | None:
    """A sentence for a figure of too few samples (n: the smaller set), or None.

    The distance of finite sets is too large by about a constant over n (Binkowski 2018; Chong and Forsyth 2020).
    """
    if n >= max(ENOUGH_SAMPLES, dims + 1):
        return None
    singular = f", and fewer than the {dims} dimensions need, so its covariance is singular" if n <= dims else ""
    return f"With {n} samples (under {max(ENOUGH_SAMPLES, dims + 1):,}){singular} this is biased upwards: compare equal n only."


class FrechetDistance:
    """Fréchet distance between reference and generated features that come in batches, in many processes.

    ddof: as in `frechet_distance`. Merged states agree with one process to rounding, in any order.
    """

    def __init__(self, ddof: int = 1) -> None:
        self.ddof = ddof
        self.reference, self.generated = FeatureMoments(), FeatureMoments()

    @property
    def n(self) -> int:
        """Samples in the smaller set."""
        return min(self.reference.n, self.generated.n)

    def update(self, features: ArrayLike, *, reference: bool = False) -> None:
        """Take in features (n, dims) of generated clips, or of reference clips."""
        (self.reference if reference else self.generated).update(features)

    def compute(self) -> float:
        """The distance, at least 0. Raises `InputError` for too few samples or unequal dimensions."""
        one, other = self.reference, self.generated
        covariances = one.covariance(self.ddof), other.covariance(self.ddof)
        if one.mean.shape != other.mean.shape:
            raise InputError(
                f"Features of {len(one.mean)} and of {len(other.mean)} dimensions have no distance; use one network."
            )
        return gaussian_distance(one.mean, covariances[0], other.mean, covariances[1])

    def note(self) -> str | None:
        """`bias_note` of what was seen so far."""
        return bias_note(self.n, len(self.reference.mean))

    def merge(self, other: FrechetDistance) -> None:
        """Take in what another process has seen."""
        self.reference.merge(other.reference)
        self.generated.merge(other.generated)

    def merge_state(self, state: Mapping[str, ArrayLike]) -> None:
        """Take in what another process has seen, as it tells by `state`."""
        self.merge(self.from_state(state))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the state for another process, as plain arrays."""
        parts = {"reference": self.reference.state(), "generated": self.generated.state()}
        return {"ddof": np.array(self.ddof)} | {f"{part}.{key}": v for part, values in parts.items() for key, v in values.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> Self:
        """The metric that `state` describes."""
        distance = cls(int(np.asarray(state["ddof"])))
        for part in ("reference", "generated"):
            values = {key: state[f"{part}.{key}"] for key in ("n", "mean", "scatter")}
            setattr(distance, part, FeatureMoments.from_state(values))
        return distance
