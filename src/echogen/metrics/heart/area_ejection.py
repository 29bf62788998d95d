"""EF by area of generated clips against that of the real ones, as ECHOPulse's paper has it, by our segmenter or by SAM 2."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from echogen.arrays import ByteArray
from echogen.errors import InputError
from echogen.measurement.sam2 import Sam2Segmenter
from echogen.metrics.evaluation.clips import Clip
from echogen.metrics.evaluation.collectors import ByClip, Pair
from echogen.metrics.evaluation.figures import Figure, Row
from echogen.metrics.heart.ejection import ejection_report
from echogen.metrics.heart.volumes import area_ef_percent
from echogen.metrics.sets.features import WEIGHTS_VARIABLE
from echogen.records import STRUCTURES

Masks = Callable[[Clip], ByteArray]

_NAN = float("nan")

#: The folder of SAM 2 among the published weights.
SAM2_FOLDER = "sam2"
_NOTE = (
    "By area, of the largest and the smallest segmentation of a clip: lower than an EF by volume, and to be compared with such "
    "figures only."
)


class AreaEjection(ByClip):
    """Area EF of generated clips against that of the real clip of the same name: mean |difference|, R2 about identity, RMSE.

    name: of the first figure; the others end in _r2 and _rmse. masks: makes what finds the ventricle in every frame of a clip.
    Clips in which none is seen are left out.
    """

    def __init__(self, name: str, masks: Callable[[], Masks]) -> None:
        super().__init__()
        self.name, self._masks = name, masks()
        self._last: tuple[Clip | None, float] = (None, _NAN)

    def add(self, pair: Pair) -> None:
        """Take in a pair; the control is the real clip before."""
        if pair.generated is None or pair.real is None:
            return
        other = _NAN
        if pair.other is not None:
            other = self._last[1] if self._last[0] is pair.other else self._ef(pair.other)
        own, real = self._ef(pair.generated), self._ef(pair.real)
        self._last = (pair.real, real)
        for what, reference in (("own", real), ("control", other)):
            if np.isfinite([own, reference]).all():
                self.keep(pair, what, (own, reference))

    def _ef(self, clip: Clip) -> float:
        try:
            return area_ef_percent(self._masks(clip))
        except InputError:  # nothing to prompt with
            return _NAN

    def figures(self) -> dict[str, Figure]:
        """Three figures, in points of EF but for R2."""
        own, control = (self._rows(what) for what in ("own", "control"))
        units = {"": "points", "_r2": "1", "_rmse": "points"}
        return {
            self.name + key: Figure(own[key], unit, control=control[key] if control[key].n else None, note=None if key else _NOTE)
            for key, unit in units.items()
        }

    def _rows(self, what: str) -> dict[str, Row]:
        report = ejection_report(*np.array(self.kept(what)).reshape(-1, 2).T)
        return {
            "": Row(report.mae, *report.mae_interval, report.n),
            "_r2": Row(report.r2, *report.r2_interval, report.n),
            "_rmse": Row(report.rmse, *report.rmse_interval, report.n),
        }


class OurMasks:
    """The ventricle as the shipped segmenter sees it."""

    def __call__(self, clip: Clip) -> ByteArray:
        """(T, 128, 128) of a clip."""
        return clip.masks


class Sam2Masks:
    """The ventricle as SAM 2 follows it, prompted by what the shipped segmenter sees in the first frame that shows one.

    directory: of SAM 2; None: the folder `sam2` in the folder that $ECHOGEN_WEIGHTS names. Raises `InputError` without it.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        if directory is None:
            weights = os.environ.get(WEIGHTS_VARIABLE)
            if not weights or not (Path(weights) / SAM2_FOLDER).is_dir():
                where = f"into {weights}" if weights else f"into a folder and name that in {WEIGHTS_VARIABLE}"
                raise InputError(
                    f"EF by SAM 2 needs its weights (facebook/sam2.1-hiera-tiny) as a folder {SAM2_FOLDER}; put it {where}."
                )
            directory = Path(weights) / SAM2_FOLDER
        self._segmenter = Sam2Segmenter(directory)

    def __call__(self, clip: Clip) -> ByteArray:
        """(T, 128, 128) of a clip. Raises `InputError` where no frame shows a ventricle to prompt with."""
        ventricle = clip.masks == STRUCTURES["lv"]
        seen = np.flatnonzero(ventricle.any(axis=(1, 2)))
        at = int(seen[0]) if len(seen) else 0
        return self._segmenter(clip.canonical, mask=ventricle[at], at=at)
