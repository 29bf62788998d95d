"""Volumes of the left ventricle and atrium from an apical four- and a two-chamber view of one patient."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from echogen.arrays import Floats
from echogen.errors import InputError
from echogen.measurement.discs import biplane_disc_volume_ml, lv_discs
from echogen.physiology import ejection_fraction_percent

if TYPE_CHECKING:
    from echogen.measurement.video import VideoReading


@dataclass(frozen=True)
class Biplane:
    """Biplane measurements.

    ef_percent: Ejection fraction by 20 discs in two planes, in %.
    edv_ml: End-diastolic volume in ml; None where the pixel size of a view is unknown.
    esv_ml: End-systolic volume in ml; None where the pixel size of a view is unknown.
    long_axis_difference_percent: Difference of the long axes of both views at ED, in % of the longer: more than some 10 % says
    that one view is foreshortened. None where the pixel size of a view is unknown.
    """

    ef_percent: float
    edv_ml: float | None
    esv_ml: float | None
    long_axis_difference_percent: float | None

    def to_json(self) -> dict[str, float | None]:
        """JSON-ready: all fields."""
        return asdict(self)


def biplane(four: VideoReading, two: VideoReading) -> Biplane:
    """Combine the readings of an A4C and an A2C by the modified Simpson rule (Schiller et al., JASE 1989).

    Each view gives its median discs over its own beats. Where a pixel size is unknown, the long axes of both views are taken to
    be equal at ED. Raises `InputError` where a view holds no beat.
    """
    known = four.volume_ml is not None and two.volume_ml is not None
    (a_ed, la_ed, a_es, la_es), (b_ed, lb_ed, b_es, lb_es) = (_phases(reading, known) for reading in (four, two))
    edv = float(biplane_disc_volume_ml(a_ed, b_ed, la_ed, lb_ed))
    esv = float(biplane_disc_volume_ml(a_es, b_es, la_es, lb_es))
    difference = 100.0 * abs(la_ed - lb_ed) / max(la_ed, lb_ed) if known else None
    return Biplane(float(ejection_fraction_percent(edv, esv)), edv if known else None, esv if known else None, difference)


def _phases(reading: VideoReading, known: bool) -> tuple[Floats, float, Floats, float]:
    """Median over the beats of the diameters (20,) and the length at ED, then at ES, in mm or in shares of the axis at ED."""
    if not reading.beats or reading.outlines is None:
        raise InputError("A view holds no whole beat; give longer videos of both views.")
    outlines = reading.outlines
    scale = 1.0
    if known and reading.mm_per_pixel is not None:
        scale = reading.mm_per_pixel
    diameters, lengths = lv_discs(outlines.masks, scale)
    volumes = np.pi / 4 * (diameters**2).mean(axis=1) * lengths
    found = []
    for largest, moments in ((True, [b.ed_s for b in reading.beats]), (False, [b.es_s for b in reading.beats])):
        frames = []
        for moment in moments:
            off = np.abs(reading.times_s - moment)
            near = np.flatnonzero(off <= max(0.1, float(off.min())))
            frames.append(near[np.argsort(volumes[near])[len(near) * 3 // 4 if largest else len(near) // 4]])
        found.append((np.median(diameters[frames], axis=0), float(np.median(lengths[frames]))))
    (ed, ed_length), (es, es_length) = found
    unit = 1.0 if known else ed_length
    return ed / unit, ed_length / unit, es / unit, es_length / unit
