"""Search for copies of training clips: similarity of hearts, against clips that cannot be copies.

A generated clip counts as copied when its similarity to the nearest training clip is above a threshold: the 95th percentile of
what held-out clips have with theirs. So 5 % of clips that are no copies are above it. Source of the threshold: Reynaud et al.,
EchoNet-Synthetic, MICCAI 2024 (arXiv 2406.00808); of the share of training clips that come back: Dombrowski et al., Uncovering
hidden subspaces in video diffusion models using re-identification, 2024 (arXiv 2411.04956).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from echogen.arrays import Floats
from echogen.errors import InputError

Kind = Literal["training", "held_out", "generated"]

#: A clip that is no copy stays below the threshold in so many percent of cases.
PERCENTILE = 95.0
_ROWS = 1024


def nearest(vectors: ArrayLike, others: ArrayLike, *, same: bool = False) -> tuple[Floats, NDArray[np.int64]]:
    """The largest similarity (cosine, -1..1) of each of (n, dims) unit vectors to (m, dims) others, and to which: (n,) each.

    same: both are one set, in which a vector is not its own neighbour. Raises `InputError` for too few others or unequal dims.
    """
    own, pool = _vectors(vectors), _vectors(others)
    if len(pool) < 1 + same:
        raise InputError(f"The nearest clip is looked for among at least {1 + same}, but there are {len(pool)}.")
    if len(own) and own.shape[1] != pool.shape[1]:
        raise InputError(f"Vectors of {own.shape[1]} and of {pool.shape[1]} dimensions cannot be compared; use one network.")
    similarity, index = np.empty(len(own)), np.empty(len(own), dtype=np.int64)
    for first in range(0, len(own), _ROWS):
        rows = own[first : first + _ROWS] @ pool.T
        if same:
            rows[np.arange(len(rows)), first + np.arange(len(rows))] = -np.inf
        index[first : first + _ROWS] = rows.argmax(1)
        similarity[first : first + _ROWS] = rows.max(1)
    return np.clip(similarity, -1.0, 1.0), index


def _vectors(values: ArrayLike) -> Floats:
    vectors = np.asarray(values, dtype=np.float64)
    if vectors.ndim != 2 or not np.isfinite(vectors).all():
        raise InputError(f"Vectors must be finite numbers (clips, dims), but these have shape {vectors.shape}.")
    return vectors


def distance(similarity: ArrayLike) -> Floats:
    """Distance of unit vectors from their cosine: sqrt(2 - 2 cos), 0..2."""
    return np.sqrt(np.maximum(2.0 - 2.0 * np.asarray(similarity, dtype=np.float64), 0.0))


def distance_ratio(similarity: ArrayLike, innocent_similarity: ArrayLike) -> float:
    """Median distance to the nearest training clip over the same of clips that cannot be copies; nan without any.

    About 1 for new hearts, 0 for copies. These two sets of distances are what Meehan et al., A non-parametric test to detect
    data-copying in generative models, 2020, compare by ranks.
    """
    generated, innocent = distance(similarity), distance(innocent_similarity)
    if not len(generated) or not len(innocent):
        return float("nan")
    return float(np.median(generated) / max(float(np.median(innocent)), 1e-9))


@dataclass(frozen=True)
class MemorisationReport:
    """Distances of generated clips to training clips.

    threshold: a similarity above it is a copy. similarity, nearest: (generated,) to the nearest training clip, and which that
    is. innocent_similarity: of the clips that cannot be copies to their nearest training clip. covered: (training,) whether some
    copy is nearest to it.
    """

    threshold: float
    similarity: Floats
    nearest: NDArray[np.int64]
    innocent_similarity: Floats
    covered: NDArray[np.bool_]

    @property
    def copied(self) -> NDArray[np.bool_]:
        """(generated,) whether a clip is above the threshold."""
        return self.similarity > self.threshold

    @property
    def copied_share(self) -> float:
        """Share of generated clips above the threshold, 0..1."""
        return float(self.copied.mean()) if len(self.similarity) else float("nan")

    @property
    def covered_share(self) -> float:
        """Share of training clips that come back, 0..1."""
        return float(self.covered.mean())

    @property
    def distance_ratio(self) -> float:
        """See `distance_ratio`."""
        return distance_ratio(self.similarity, self.innocent_similarity)


def copy_threshold(innocent_similarity: ArrayLike) -> float:
    """The similarity that 95 % of clips that cannot be copies stay below, from (n,) of their largest ones to training clips."""
    values = np.asarray(innocent_similarity, dtype=np.float64)
    if not values.size:
        raise InputError("A threshold needs clips that were not trained on; give some.")
    return float(np.percentile(values, PERCENTILE))


def memorisation_report(
    generated: ArrayLike, training: ArrayLike, held_out: ArrayLike | None = None, *, threshold: float | None = None
) -> MemorisationReport:
    """Judge generated clips by their vectors (n, dims) against those of the training clips (m, dims).

    held_out: clips that were not trained on, by which the threshold is set; without them every training clip is compared with the
    other ones. threshold: one that is known already. Raises `InputError` for too few clips.
    """
    innocent = nearest(training, training, same=True)[0] if held_out is None else nearest(held_out, training)[0]
    limit = copy_threshold(innocent) if threshold is None else threshold
    similarity, index = nearest(generated, training)
    covered = np.zeros(len(np.asarray(training)), dtype=bool)
    covered[index[similarity > limit]] = True
    return MemorisationReport(limit, similarity, index, innocent, covered)


class Memorisation:
    """`memorisation_report` of vectors that come in batches, in many processes; merged states agree with one process.

    threshold: one that is known already.
    """

    def __init__(self, threshold: float | None = None) -> None:
        self.threshold = threshold
        self._vectors: dict[Kind, list[Floats]] = {"training": [], "held_out": [], "generated": []}

    def update(self, vectors: ArrayLike, kind: Kind = "generated") -> None:
        """Take in vectors (n, dims) of clips that trained, that were held out, or that were generated."""
        batch = _vectors(vectors)
        if len(batch):
            self._vectors[kind].append(batch)

    def vectors(self, kind: Kind) -> Floats:
        """All that was taken in of one kind: (n, dims), or (0, 0)."""
        parts = self._vectors[kind]
        return np.concatenate(parts) if parts else np.zeros((0, 0))

    def compute(self) -> MemorisationReport:
        """The report. Raises `InputError` for too few clips."""
        held_out = self.vectors("held_out")
        known = held_out if len(held_out) else None
        return memorisation_report(self.vectors("generated"), self.vectors("training"), known, threshold=self.threshold)

    def merge(self, other: Memorisation) -> None:
        """Take in what another process has seen."""
        for kind, parts in other._vectors.items():
            self._vectors[kind].extend(parts)

    def merge_state(self, state: Mapping[str, ArrayLike]) -> None:
        """Take in what another process has seen, as it tells by `state`."""
        self.merge(self.from_state(state))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the state for another process, as plain arrays."""
        limit = np.array(np.nan if self.threshold is None else self.threshold)
        return {"threshold": limit} | {kind: self.vectors(kind) for kind in self._vectors}

    @classmethod
    def from_state(cls, state: Mapping[str, ArrayLike]) -> Self:
        """The metric that `state` describes."""
        limit = float(np.asarray(state["threshold"]))
        metric = cls(None if np.isnan(limit) else limit)
        for kind in metric._vectors:
            metric.update(np.asarray(state[kind]), kind)
        return metric
