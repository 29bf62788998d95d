"""A metric: standard deviation of the grey levels of each clip, beside that of the real clips."""

from __future__ import annotations

from echogen.metrics.evaluation.collectors import ByClip, Pair
from echogen.metrics.evaluation.figures import Figure, mean_row
from echogen.metrics.evaluation.registry import Metric


class Contrast(ByClip):
    """Standard deviation of the grey levels (0..255) of a clip; `ByClip` keeps one value a clip and joins processes."""

    def add(self, pair: Pair) -> None:
        """Take in a pair; either clip may be missing."""
        for clip, side in ((pair.generated, "generated"), (pair.real, "real")):
            if clip is not None:
                self.keep(pair, side, float(clip.cine.frames.std()))

    def figures(self) -> dict[str, Figure]:
        """Give one figure, whose truth is the mean over the real clips."""
        own, truth = mean_row(self.kept("generated")), mean_row(self.kept("real"))
        return {"example-contrast": Figure(own, "grey levels", truth=truth)}


CONTRAST = Metric(Contrast, paired=False, says="an example: standard deviation of grey levels")
