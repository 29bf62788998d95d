"""Copies among generated clips, in an evaluation against the generator's own training clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from echogen.metrics.bootstrap import bootstrap_interval
from echogen.metrics.evaluation.collectors import ByClip, Pair
from echogen.metrics.evaluation.figures import RESAMPLES, Figure, Row, share_row
from echogen.metrics.memorisation.identity import HeartIdentity
from echogen.metrics.memorisation.similarity import MemorisationReport, distance_ratio, memorisation_report

#: Under so many clips that are no copies the threshold is hardly known.
ENOUGH_CLIPS = 100
_NAMES = ("memorisation", "memorisation_covered", "memorisation_ratio")


class Copies(ByClip):
    """The share of generated clips that are copies, the share of real clips that come back, and the ratio of nearest distances.

    The threshold is what 95 % of real clips stay below when each is compared with the other ones (so give one clip of a patient).
    Truth: every other real clip in place of the generated ones, against the rest.
    """

    def __init__(self) -> None:
        super().__init__()
        self._identity = HeartIdentity()

    def add(self, pair: Pair) -> None:
        """Take in every clip."""
        for clip, side in ((pair.real, "real"), (pair.generated, "generated")):
            if clip is not None:
                self.keep(pair, side, self._identity(replace(clip.cine, frames=clip.canonical)))

    def figures(self) -> dict[str, Figure]:
        """Three figures."""
        real, generated = self.kept("real"), self.kept("generated")
        if len(real) < 3 or not generated:
            note = "The threshold needs at least 3 real clips, those that the generator was trained on; give more."
            return {name: Figure(Row(), "1", note=note) for name in _NAMES}
        own = memorisation_report(np.stack(generated), np.stack(real))
        halves = memorisation_report(np.stack(real[1::2]), np.stack(real[::2]), threshold=own.threshold)
        halves = replace(halves, innocent_similarity=own.innocent_similarity)
        note = f"A similarity above {own.threshold:.3f} counts as a copy: 95 % of real clips stay below it with the others."
        if len(real) < ENOUGH_CLIPS:
            note += f" With {len(real)} real clips (under {ENOUGH_CLIPS}) that is hardly known."
        figures = zip(_NAMES, _rows(own), _rows(halves), (note, None, None), strict=True)
        return {name: Figure(row, "1", truth, note=said) for name, row, truth, said in figures}


def _rows(report: MemorisationReport) -> tuple[Row, Row, Row]:
    similarities = report.similarity, report.innocent_similarity
    low, high = bootstrap_interval(distance_ratio, *similarities, paired=False, resamples=RESAMPLES)
    return share_row(report.copied), share_row(report.covered), Row(report.distance_ratio, low, high, len(report.similarity))
