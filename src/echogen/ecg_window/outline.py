"""Length and width of the left ventricular cavity in the picture: as expected from the beats, and as read from cells."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from echogen.arrays import Floats
from echogen.ecg_window.beats import Beats
from echogen.physiology import BeatClock, Filling, beat_volumes, volume_curve

#: Function from times in s to length and width (area over length) in pixels of the cavity at those times.
Outline = Callable[[Floats], tuple[Floats, Floats]]
#: Share of its length that a ventricle with an EF of 100 % would lose in systole; measured on the phantom's ventricle.
SHORTENING = 0.25
#: Length in pixels of an average cavity at end-diastole, from which lengths are counted in the features.
USUAL_LENGTH_PX = 55.0
#: Width in pixels of an average cavity at end-diastole, from which widths are counted in the features.
USUAL_WIDTH_PX = 23.0
#: Length of a ventricle over the SD of its points along the long axis; that of the phantom's cut ellipse.
LENGTH_PER_SPREAD = 3.80
#: Share of its true area that a cavity covers in cells, whose edge is blurred.
READ_AREA = 0.975
#: Smallest area in pixels squared that is taken for a cavity; less is noise of the cells.
LEAST_AREA_PX2 = 200.0


def expected_outline(
    beats: Beats, sex: str | None, ef_percent: float, length_px: float, width_px: float, filling: Filling | None = None
) -> Outline:
    """Return the outline over time of a cavity that has this length and width in pixels at end-diastole.

    The volume V, relative to end-diastole, follows the beats' mechanical events. The base moves towards the apex, so that
    L = L0 (1 - SHORTENING (1 - V)); the single-plane area-length formula V ~ A^2 / L then gives the width
    W = A / L = W0 sqrt(V / (L / L0)). filling: how the ventricle fills; None is the average `Filling`.
    """

    def outline(times_s: Floats) -> tuple[Floats, Floats]:
        near = beats.extended(float(times_s.min()) - 1.0, float(times_s.max()) + 1.0)
        volume = volume_share(times_s, near.clock(sex, ef_percent), ef_percent, filling or Filling())
        length = 1.0 - SHORTENING * np.clip(1.0 - volume, -0.3, 1.0)
        return length_px * length, width_px * np.sqrt(volume / length)

    return outline


def volume_share(times_s: Floats, clock: BeatClock, ef_percent: float, filling: Filling) -> Floats:
    """(times,) left ventricular volume over that at the end-diastole of an average beat, 0..1.3."""
    edvs, esvs = beat_volumes(clock, 100.0, 100.0 - ef_percent, filling)
    return volume_curve(times_s, clock, edvs, esvs, filling) / 100.0


def outline_of_cells(cells: Floats, cell_px: float) -> tuple[float, float] | None:
    """Read length and width in pixels of a cavity from the covered share (0..1) of square cells (rows, columns).

    The length follows from the spread of the covered points along the long axis; the width is area over length. None where
    less than `LEAST_AREA_PX2` is covered.
    """
    area = float(cells.sum()) * cell_px**2
    if area < LEAST_AREA_PX2:
        return None
    points = np.indices(cells.shape).reshape(2, -1) * cell_px
    spread = np.cov(points, aweights=cells.ravel(), bias=True)
    length = LENGTH_PER_SPREAD * float(np.sqrt(np.linalg.eigvalsh(spread)[1]))
    return length, area / (READ_AREA * length)
