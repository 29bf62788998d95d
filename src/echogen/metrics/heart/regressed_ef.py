"""A second opinion on the ejection fraction of generated clips, by a regressor that does not segment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from echogen.measurement.regression import load_regressor, regressed_ef_percent, regressor_error
from echogen.metrics.evaluation.clips import Clip
from echogen.metrics.evaluation.collectors import Pair
from echogen.metrics.evaluation.figures import Figure
from echogen.metrics.heart.collectors import Ejection


class RegressedEjection(Ejection):
    """EF that a regressor sees in the generated clips against the one that was asked for or is known.

    The figures are those of `Ejection`, under the name of ef_regressor.
    """

    def __init__(self) -> None:
        """Raises `InputError` where the shipped regressor cannot be read."""
        super().__init__()
        self._regressor = load_regressor()

    def add(self, pair: Pair) -> None:
        """Take in the clips of which EF is known, long enough for the regressor."""
        real = pair.real if pair.real is not None and pair.real.has_truth else None
        for clip, side in ((pair.generated, "generated"), (real, "real")):
            if clip is None or (known := _known(clip)) is None:
                continue
            seen = regressed_ef_percent(replace(clip.cine, frames=clip.canonical), self._regressor)
            if seen is not None:
                self.keep(pair, side, (seen, known))

    def figures(self) -> dict[str, Figure]:
        """MAE, R2 about identity, RMSE, bias, and bias with its limits of agreement."""
        error = regressor_error()
        by_itself = {"ef": error["ef_mae_percent"], "ef_r2": error["ef_r2"], "ef_bias": error["ef_bias_percent"]}
        return {
            name.replace("ef", "ef_regressor", 1): replace(figure, measuring_error=by_itself.get(name))
            for name, figure in super().figures().items()
        }


def _known(clip: Clip) -> float | None:
    """EF in % that was asked for; of a simulated heart, the median over the beats that the clip shows."""
    shown = [beat.ef_percent for beat in clip.true_beats if beat.ef_percent is not None]
    return float(np.median(shown)) if shown else clip.known_ef_percent
