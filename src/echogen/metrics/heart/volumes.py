"""Ejection fraction from masks of the left ventricle, by each of the ways that are in use: area, area-length, discs.

Only volumes say how much blood leaves. Area EF is there because published figures of generators are areas.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from echogen.arrays import ByteArray, Floats
from echogen.errors import InputError
from echogen.measurement.beats import find_beats
from echogen.measurement.discs import biplane_disc_volume_ml, disc_volume_ml, lv_discs
from echogen.measurement.geometry import lv_area, lv_geometry
from echogen.physiology import area_length_volume_ml, ejection_fraction_percent

__all__ = [
    "SIZES", "area_ef_percent", "biplane_disc_volume_ml", "biplane_ef_percent", "cavity_sizes", "disc_volume_ml", "ef_of_masks",
    "lv_discs",
]  # fmt: skip


def _area(masks: ByteArray, mm_per_pixel: float) -> Floats:
    return lv_area(masks, mm_per_pixel)


def _area_length(masks: ByteArray, mm_per_pixel: float) -> Floats:
    return area_length_volume_ml(*lv_geometry(masks, mm_per_pixel))


def _simpson(masks: ByteArray, mm_per_pixel: float) -> Floats:
    return disc_volume_ml(*lv_discs(masks, mm_per_pixel))


#: Ways of sizing the cavity in each frame: mm^2 for the area, ml for the volumes.
SIZES: dict[str, Callable[[ByteArray, float], Floats]] = {"area": _area, "area-length": _area_length, "simpson": _simpson}


def cavity_sizes(masks: ByteArray, mm_per_pixel: float = 1.0, method: str = "area-length") -> Floats:
    """(T,) size of the left ventricle in each frame, in ml, or in mm^2 for the method "area".

    masks: (T, H, W) uint8 with the ids of `STRUCTURES`. method: "area", "area-length" or "simpson" (one plane).
    Raises `InputError` for another method.
    """
    if method not in SIZES:
        raise InputError(f"The size of a ventricle can be had by {', '.join(SIZES)}, not by {method!r}; name one of these.")
    return SIZES[method](masks, mm_per_pixel)


def ef_of_masks(masks: ByteArray, times_s: ArrayLike, method: str = "area-length") -> float:
    """Ejection fraction in % of a video by the masks of its frames: the median over its beats, nan without a whole beat.

    masks: (T, H, W) uint8 with the ids of `STRUCTURES`. times_s: (T,) in s. method: as for `cavity_sizes`; with "area"
    it is an area EF, beat by beat.
    """
    fractions = [beat.ef_percent for beat in find_beats(times_s, cavity_sizes(masks, method=method))]
    known = [fraction for fraction in fractions if fraction is not None]
    return float(np.median(known)) if known else float("nan")


def area_ef_percent(masks: ByteArray) -> float:
    """Area EF of a video in %: 100 (A_ED - A_ES) / A_ED, ED its largest segmentation and ES its smallest; nan without ventricle.

    masks: (T, H, W) uint8 with the ids of `STRUCTURES`. This is how ECHOPulse reads EF from the masks of SAM 2 (Section 4.2,
    Figure 3: "ED (Biggest Segmentation)", "ES (Smallest Segmentation)"): an area counts as a volume, so it runs well below EF.
    Frames without ventricle are left out.
    """
    area = _area(masks, 1.0)
    seen = area[area > 0]
    return float(ejection_fraction_percent(seen.max(), seen.min())) if len(seen) else float("nan")


def biplane_ef_percent(ed_masks: tuple[ByteArray, ByteArray], es_masks: tuple[ByteArray, ByteArray]) -> float:
    """Biplane Simpson EF in % from two views, each with a mask at end-diastole and one at end-systole; nan without ventricle.

    ed_masks, es_masks: (four-chamber, two-chamber), each (H, W) uint8 with the ids of `STRUCTURES`. Both views must have the same
    pixel size, which cancels.
    """

    def volume(masks: tuple[ByteArray, ByteArray]) -> float:
        (a, length_a), (b, length_b) = (lv_discs(mask[None], 1.0) for mask in masks)
        return float(biplane_disc_volume_ml(a, b, length_a, length_b)[0])

    edv, esv = volume(ed_masks), volume(es_masks)
    return float(ejection_fraction_percent(edv, esv)) if edv > 0 else float("nan")
