"""Distances between the set of generated clips and the set of real ones, in the features of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from echogen.metrics.evaluation.collectors import ByClip, Pair
from echogen.metrics.evaluation.figures import Figure, Row
from echogen.metrics.sets.features import FeatureNetwork, Features
from echogen.metrics.sets.frechet import FrechetDistance, frechet_interval
from echogen.metrics.sets.mmd import MaximumMeanDiscrepancy, gaussian_mmd_interval

#: Intervals of a distance between sets are resampled up to so many dimensions; beyond them that takes an hour.
_MOST_DIMS_FOR_INTERVAL = 512
#: Samples of each set that a kernel compares, each with every other.
_MOST_SAMPLES_FOR_KERNEL = 2000


class SetDistance(ByClip):
    """Fréchet distance between the features of all generated and all real clips.

    Truth: between every other real clip and the rest, each half of the set, which makes it larger. FVD takes ddof 0 as published.
    """

    def __init__(self, name: str, network: Callable[[], Any], ddof: int = 1) -> None:
        super().__init__()
        self.name, self.ddof = name, ddof
        self._network: FeatureNetwork = network()

    def add(self, pair: Pair) -> None:
        """Take in every clip that is long enough; of a real one, frames from a random place, as published protocols do."""
        for clip, side in ((pair.real, "real"), (pair.generated, "generated")):
            features = None if clip is None else clip.features(self._network, at_random=side == "real")
            if features is not None:
                self.keep(pair, side, features)

    def figures(self) -> dict[str, Figure]:
        """One figure, with a note where it is biased."""
        real, generated = self.kept("real"), self.kept("generated")
        row, note = self._between(real, generated)
        truth, _ = self._between(real[::2], real[1::2])
        return {self.name: Figure(row, "1", truth if truth.n else None, note=note)}

    def _between(self, reference: list[Features], generated: list[Features]) -> tuple[Row, str | None]:
        if min(sum(map(len, reference)), sum(map(len, generated))) < 2:
            return Row(n=0), f"Too few videos of at least {self._network.frames} frames; give more or longer ones."
        return self._compare(reference, generated)

    def _compare(self, reference: list[Features], generated: list[Features]) -> tuple[Row, str | None]:
        distance = FrechetDistance(self.ddof)
        for features in reference:
            distance.update(features, reference=True)
        for features in generated:
            distance.update(features)
        low = high = float("nan")
        if self._network.dims <= _MOST_DIMS_FOR_INTERVAL and min(len(reference), len(generated)) > 2:
            low, high = frechet_interval(np.concatenate(reference), np.concatenate(generated), ddof=self.ddof)
        return Row(distance.compute(), low, high, distance.n), distance.note()


class SetDiscrepancy(SetDistance):
    """Squared maximum mean discrepancy of the same features, Gaussian kernel, unbiased: about 0, or below it, for one population.

    Unlike a Fréchet distance it is not larger for fewer clips. Beyond 2,000 samples in a set a random choice of them is compared.
    """

    def _compare(self, reference: list[Features], generated: list[Features]) -> tuple[Row, str | None]:
        discrepancy = MaximumMeanDiscrepancy("gaussian", limit=_MOST_SAMPLES_FOR_KERNEL)
        discrepancy.update(np.concatenate(reference), reference=True)
        discrepancy.update(np.concatenate(generated))
        samples = discrepancy.reference.features, discrepancy.generated.features
        return Row(discrepancy.compute(), *gaussian_mmd_interval(*samples), min(map(len, samples))), None
