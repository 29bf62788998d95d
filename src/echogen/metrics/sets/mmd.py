"""Maximum mean discrepancy between two sets of features: unbiased, and unlike a Fréchet distance it takes nothing for Gaussian.

Sources: Gretton et al., A kernel two-sample test, JMLR 2012; Binkowski et al., Demystifying MMD GANs, 2018 (KID).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from echogen.arrays import Floats
from echogen.errors import InputError

Kernel = Callable[[Floats, Floats], Floats]

_ROWS = 1024
_BANDWIDTH_SAMPLES = 1000


def polynomial_kernel(a: Floats, b: Floats) -> Floats:
    """(n, m): (x . y / dims + 1)^3, the kernel of KID (Binkowski, section 4)."""
    return (a @ b.T / a.shape[1] + 1.0) ** 3


def gaussian_kernel(a: Floats, b: Floats, bandwidth: float) -> Floats:
    """(n, m): exp(-|x - y|^2 / (2 bandwidth^2))."""
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2.0 * a @ b.T
    return np.exp(-np.maximum(squares, 0.0) / (2.0 * bandwidth**2))


def median_distance(features: ArrayLike) -> float:
    """The median distance between two of the first 1,000 features (n, dims): a Gaussian's usual bandwidth. 1 where it is 0."""
    some = np.asarray(features, dtype=np.float64)[:_BANDWIDTH_SAMPLES]
    squares = (some * some).sum(1)[:, None] + (some * some).sum(1)[None, :] - 2.0 * some @ some.T
    pairs = squares[np.triu_indices(len(some), 1)]
    return float(np.sqrt(max(np.median(pairs), 0.0)) if len(pairs) else 0.0) or 1.0


def _sum(kernel: Kernel, a: Floats, b: Floats) -> float:
    return float(sum(kernel(a[start : start + _ROWS], b).sum() for start in range(0, len(a), _ROWS)))


def _squared_mmd(kernel: Kernel, a: ArrayLike, b: ArrayLike, unbiased: bool) -> float:
    """Gretton (2012), equation 3 (unbiased) or 5."""
    one, other = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1] or min(len(one), len(other)) < 2:
        raise InputError(
            f"A discrepancy needs two sets (samples, dims) of at least 2 samples, equal in dims, not {one.shape}, {other.shape}."
        )
    within = 0.0
    for features in (one, other):
        n, total = len(features), _sum(kernel, features, features)
        if unbiased:
            itself = sum(float(kernel(row[None], row[None])[0, 0]) for row in features)
            within += (total - itself) / (n * (n - 1))
        else:
            within += total / n**2
    return within - 2.0 * _sum(kernel, one, other) / (len(one) * len(other))


def polynomial_mmd(features_a: ArrayLike, features_b: ArrayLike, *, unbiased: bool = True) -> float:
    """Squared MMD of (n, dims) and (m, dims) features with `polynomial_kernel`, over all pairs; KID on Inception features.

    The unbiased estimate is about 0 for two draws from one population and may be negative; the other one is exactly 0 for
    identical sets and at least 0. KID as published is the mean over random subsets of 1,000, with the same expectation.
    """
    return _squared_mmd(polynomial_kernel, features_a, features_b, unbiased)


def gaussian_mmd(features_a: ArrayLike, features_b: ArrayLike, *, bandwidth: float | None = None, unbiased: bool = True) -> float:
    """Squared MMD with a Gaussian kernel, at most 2; see `polynomial_mmd`.

    bandwidth: in units of the features; None is `median_distance` of features_a, which should be the reference, so that all
    generators are compared with one kernel.
    """
    width = median_distance(features_a) if bandwidth is None else bandwidth
    if not width > 0:
        raise InputError(f"The bandwidth of a Gaussian kernel must be above 0, not {bandwidth}.")
    return _squared_mmd(partial(gaussian_kernel, bandwidth=width), features_a, features_b, unbiased)


def gaussian_mmd_interval(
    features_a: ArrayLike, features_b: ArrayLike, *, level: float = 0.95, resamples: int = 200, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval (low, high) of the unbiased `gaussian_mmd`, both sets resampled on their own, one bandwidth for all.

    A sample that is drawn twice is equal to itself, which makes the discrepancy larger, so the interval is moved back by the
    mean of that. features: (n, dims) and (m, dims); the kernel of all pairs is held at once.
    """
    a, b = np.asarray(features_a, dtype=np.float64), np.asarray(features_b, dtype=np.float64)
    kernel = partial(gaussian_kernel, bandwidth=median_distance(a))
    random = np.random.default_rng(seed)
    # (resamples, n): how often each sample is drawn
    drawn_a, drawn_b = (random.multinomial(len(x), np.full(len(x), 1.0 / len(x)), resamples).astype(np.float64) for x in (a, b))

    def within(x: Floats, drawn: Floats) -> Floats:
        return np.asarray((((drawn @ kernel(x, x)) * drawn).sum(1) - len(x)) / (len(x) * (len(x) - 1)))

    between = ((drawn_a @ kernel(a, b)) * drawn_b).sum(1) / (len(a) * len(b))
    values = within(a, drawn_a) + within(b, drawn_b) - 2.0 * between
    low, high = np.percentile(values, (50 * (1 - level), 50 * (1 + level)))
    shift = float(values.mean()) - gaussian_mmd(a, b)
    return float(low) - shift, float(high) - shift


class FeatureReservoir:
    """A random choice of at most `limit` of the features that come in batches, in many processes; kept in float32.

    Each sample has a rank that follows from the seed and the sample itself, and the lowest ranks stay. So the choice depends
    neither on order nor on which process saw what, and merged reservoirs are bit for bit the one of a single process.
    Equal samples share a rank.
    """

    def __init__(self, limit: int = 5000, seed: int = 0) -> None:
        if limit < 2:
            raise InputError(f"A reservoir must hold at least 2 samples, not {limit}.")
        self.limit, self.seed, self.seen = limit, seed, 0
        self.features: NDArray[np.float32] = np.zeros((0, 0), dtype=np.float32)
        self._ranks: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)

    def update(self, features: ArrayLike) -> None:
        """Take in features (n, dims)."""
        batch = np.ascontiguousarray(features, dtype=np.float32)
        if batch.ndim != 2:
            raise InputError(f"Features must be numbers (samples, dims), but these have shape {batch.shape}.")
        salt = self.seed.to_bytes(8, "little", signed=True)
        ranks = [hashlib.blake2b(row.tobytes(), digest_size=8, salt=salt).digest() for row in batch]
        self._add(batch, np.frombuffer(b"".join(ranks), dtype="<u8").astype(np.uint64), len(batch))

    def merge(self, other: FeatureReservoir) -> None:
        """Take in what another process has seen. Raises `InputError` where its limit or seed differ."""
        if (self.limit, self.seed) != (other.limit, other.seed):
            raise InputError("Reservoirs of different limits or seeds cannot be merged; make all with the same.")
        self._add(other.features, other._ranks, other.seen)

    def merge_state(self, state: Mapping[str, ArrayLike]) -> None:
        """Take in what another process has seen, as it tells by `state`."""
        self.merge(self.from_state(state))

    def _add(self, features: NDArray[np.float32], ranks: NDArray[np.uint64], seen: int) -> None:
        if len(features) and len(self.features) and features.shape[1] != self.features.shape[1]:
            raise InputError(f"Features of {features.shape[1]} dimensions cannot join others of {self.features.shape[1]}.")
        self.seen += seen
        if not len(features):
            return
        ranks = np.concatenate([self._ranks, ranks])
        chosen = np.argsort(ranks, kind="stable")[: self.limit]
        self.features = np.concatenate([self.features, features] if len(self.features) else [features])[chosen]
        self._ranks = ranks[chosen]

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the state for another process, as plain arrays."""
        return {
            "features": self.features,
            "ranks": self._ranks,
            "limit": np.array(self.limit),
            "seed": np.array(self.seed),
            "seen": np.array(self.seen),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> Self:
        """The reservoir that `state` describes."""
        reservoir = cls(int(np.asarray(state["limit"])), int(np.asarray(state["seed"])))
        reservoir.features = np.asarray(state["features"], dtype=np.float32)
        reservoir._ranks = np.asarray(state["ranks"], dtype=np.uint64)
        reservoir.seen = int(np.asarray(state["seen"]))
        return reservoir


class MaximumMeanDiscrepancy:
    """Unbiased squared MMD between reference and generated features that come in batches, in many processes.

    kernel: "polynomial" (KID's) or "gaussian", whose bandwidth is `median_distance` of the reference unless given.
    limit: samples kept of each set (`FeatureReservoir`; 5,000 x 256 dims are 5 MB); with fewer, all count.
    Merged states give the number of a single process.
    """

    def __init__(
        self,
        kernel: Literal["polynomial", "gaussian"] = "polynomial",
        *,
        bandwidth: float | None = None,
        limit: int = 5000,
        seed: int = 0,
    ) -> None:
        self.kernel, self.bandwidth = kernel, bandwidth
        self.reference, self.generated = FeatureReservoir(limit, seed), FeatureReservoir(limit, seed)

    def update(self, features: ArrayLike, *, reference: bool = False) -> None:
        """Take in features (n, dims) of generated clips, or of reference clips."""
        (self.reference if reference else self.generated).update(features)

    def compute(self) -> float:
        """The discrepancy of the samples kept. Raises `InputError` for fewer than 2 in a set."""
        if self.kernel == "polynomial":
            return polynomial_mmd(self.reference.features, self.generated.features)
        return gaussian_mmd(self.reference.features, self.generated.features, bandwidth=self.bandwidth)

    def merge(self, other: MaximumMeanDiscrepancy) -> None:
        """Take in what another process has seen."""
        self.reference.merge(other.reference)
        self.generated.merge(other.generated)

    def merge_state(self, state: Mapping[str, ArrayLike]) -> None:
        """Take in what another process has seen, as it tells by `state`."""
        self.merge(self.from_state(state))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the state for another process, as plain arrays; the kernel is given anew to `from_state`."""
        parts = {"reference": self.reference.state(), "generated": self.generated.state()}
        return {f"{part}.{key}": value for part, values in parts.items() for key, value in values.items()}

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, ArrayLike],
        kernel: Literal["polynomial", "gaussian"] = "polynomial",
        *,
        bandwidth: float | None = None,
    ) -> Self:
        """The metric that `state` describes."""
        metric = cls(kernel, bandwidth=bandwidth)
        for part in ("reference", "generated"):
            values = {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
            setattr(metric, part, FeatureReservoir.from_state(values))
        return metric
