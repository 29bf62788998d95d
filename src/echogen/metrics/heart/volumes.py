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
from echogen.measurement.geometry import _mitral_midpoint, lv_area, lv_geometry
from echogen.physiology import area_length_volume_ml, ejection_fraction_percent
from echogen.records import STRUCTURES

#: Discs that the cavity is cut into, as guidelines of echocardiography have it.
DISCS = 20
_LV, _LA = STRUCTURES["lv"], STRUCTURES["la"]


def lv_discs(masks: ByteArray, mm_per_pixel: float, discs: int = DISCS) -> tuple[Floats, Floats]:
    """The cavity cut across its long axis into discs of equal height.

    masks: (T, H, W) uint8 with the ids of `STRUCTURES`, apex above base. mm_per_pixel: 1.0 gives pixels.
    Returns (diameters in mm, from base to apex, (T, discs); length in mm, (T,)), as `lv_geometry` has the length. The diameter is
    the area of the disc's section over its height; a frame without ventricle has diameters of 0.
    """
    _, length = lv_geometry(masks, mm_per_pixel)
    diameters = np.array([_diameters(mask, discs) for mask in masks])
    return diameters * mm_per_pixel, length


def _diameters(mask: ByteArray, discs: int) -> Floats:
    """(discs,) in pixels; what of the cavity lies beyond the ends of the axis counts to the outermost discs."""
    ventricle, atrium = mask == _LV, mask == _LA
    points = np.argwhere(ventricle).astype(np.float64)
    if len(points) < 3:
        return np.zeros(discs)
    base = _mitral_midpoint(ventricle, atrium) if atrium.any() else None
    if base is None:
        centre = points.mean(axis=0)
        upwards = np.linalg.eigh(np.cov((points - centre).T))[1][:, -1]
        upwards = upwards if upwards[0] < 0 else -upwards
        along = (points - centre) @ upwards
    else:
        apex = points[np.argmax(((points - base) ** 2).sum(axis=1))]
        along = (points - base) @ ((apex - base) / np.linalg.norm(apex - base))
    start = float(along.min()) - 0.5 if base is None else 0.0
    height = (float(along.max()) + 0.5 - start) / discs
    # A pixel is spread over its own height, so that no disc gains or loses a row by chance.
    inner_edges = start + height * np.arange(1, discs)
    below = np.clip(inner_edges[:, None] - along[None, :] + 0.5, 0.0, 1.0).sum(axis=1)
    return np.diff(below, prepend=0.0, append=float(len(points))) / height


def disc_volume_ml(diameters_mm: ArrayLike, length_mm: ArrayLike) -> Floats:
    """Modified Simpson in one plane, V = pi / 4 sum(d_i^2) L / n: (..., n) diameters and (...) lengths in mm to ml."""
    return biplane_disc_volume_ml(diameters_mm, diameters_mm, length_mm, length_mm)


def biplane_disc_volume_ml(
    diameters_a_mm: ArrayLike, diameters_b_mm: ArrayLike, length_a_mm: ArrayLike, length_b_mm: ArrayLike
) -> Floats:
    """Modified Simpson in two planes, V = pi / 4 sum(a_i b_i) L / n, L the longer of both axes, in ml (Schiller 1989).

    diameters: (..., n) in mm, base to apex, of the four- and the two-chamber view. lengths: (...) in mm.
    """
    a, b = np.asarray(diameters_a_mm, dtype=np.float64), np.asarray(diameters_b_mm, dtype=np.float64)
    length = np.maximum(np.asarray(length_a_mm, dtype=np.float64), np.asarray(length_b_mm, dtype=np.float64))
    return np.pi / 4.0 * (a * b).mean(axis=-1) * length / 1000.0


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
