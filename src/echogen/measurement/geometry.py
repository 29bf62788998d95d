"""Area and long axis of the left ventricle in segmentation masks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import savgol_filter

from echogen.arrays import ByteArray, Floats, Mask
from echogen.records import STRUCTURES

_LV, _LA = STRUCTURES["lv"], STRUCTURES["la"]
#: Pixels that the mitral valve may take between the two cavities, and contacts needed to trust the plane.
_WIDEST_GAP, _FEWEST_CONTACTS = 5, 4


#: Middle (row, column) of the mitral plane in each frame, None where the cavities do not meet.
Midpoints = Sequence[Floats | None]


def lv_geometry(masks: ByteArray, mm_per_pixel: float, midpoints: Midpoints | None = None) -> tuple[Floats, Floats]:
    """Area and long axis of the left ventricle in each frame.

    masks: (T, H, W) uint8, apex above base. mm_per_pixel: 1.0 gives pixels. midpoints: As `mitral_midpoints` has them, where
    they are known already. Returns (area in mm^2, length in mm), both (T,);
    the length reaches from the middle of the mitral plane to the farthest edge of the cavity and is smoothed over 5 frames;
    a frame without ventricle has area 0 and the length of its neighbours (0 where no frame has one).
    """
    area = lv_area(masks, mm_per_pixel)
    bases = mitral_midpoints(masks) if midpoints is None else midpoints
    length = np.array(
        [_long_axis(mask == _LV, base) if count else np.nan for mask, count, base in zip(masks, area, bases, strict=True)]
    )
    return area, _steady(length) * mm_per_pixel


def mitral_midpoints(masks: ByteArray) -> Midpoints:
    """Middle of the mitral plane in each of (T, H, W) masks, in pixels of them."""
    masks, corner = _cavities_only(masks)
    found = [_mitral_midpoint(mask == _LV, mask == _LA) for mask in masks]
    return [None if point is None else point + corner for point in found]


def lv_area(masks: ByteArray, mm_per_pixel: float) -> Floats:
    """(T,) area of the left ventricle in each frame in mm^2, as `lv_geometry` has it."""
    return (masks == _LV).sum(axis=(1, 2)).astype(np.float64) * mm_per_pixel**2


def _cavities_only(masks: ByteArray) -> tuple[ByteArray, Floats]:
    """The part of all frames in which a left ventricle or atrium ever is, and its first row and column."""
    seen = ((masks == _LV) | (masks == _LA)).any(axis=0)
    if not seen.any():
        return masks, np.zeros(2)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return masks[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], np.array([rows[0], columns[0]], dtype=np.float64)


def _mitral_midpoint(ventricle: Mask, atrium: Mask) -> Floats | None:
    """Middle (row, column) of the seam between the left ventricle and the left atrium, or None where they do not meet."""
    if not (ventricle.any() and atrium.any()):
        return None
    to_ventricle, to_atrium = (ndimage.distance_transform_cdt(~cavity, "taxicab") for cavity in (ventricle, atrium))
    for gap in range(1, _WIDEST_GAP + 1):
        above, below = np.argwhere(ventricle & (to_atrium <= gap)), np.argwhere(atrium & (to_ventricle <= gap))
        if min(len(above), len(below)) >= _FEWEST_CONTACTS:
            return np.asarray((_middle(above) + _middle(below)) / 2)
    return None


def _middle(points: NDArray[np.int64]) -> Floats:
    """Half-way between the extremes of a seam along its main direction: a ragged edge does not pull it aside."""
    centre = points.mean(axis=0)
    direction = np.linalg.eigh(np.cov((points - centre).T))[1][:, -1]
    along = (points - centre) @ direction
    # np.percentile(along, (5, 95)), which takes ten times as long for so few points.
    ranked, places = np.sort(along), (0.05 * (len(along) - 1), 0.95 * (len(along) - 1))
    low, high = (ranked[int(place)] + (ranked[math.ceil(place)] - ranked[int(place)]) * (place % 1.0) for place in places)
    return np.asarray(centre + direction * (low + high) / 2.0)


def _long_axis(ventricle: Mask, base: Floats | None) -> float:
    """Length in pixels from the middle of the mitral plane (None: from the basal end) to the apex."""
    points = np.argwhere(ventricle).astype(np.float64)
    if base is None:
        if len(points) < 3:
            return float(np.ptp(points[:, 0])) + 1.0
        centre = points.mean(axis=0)
        direction = np.linalg.eigh(np.cov((points - centre).T))[1][:, -1]
        direction = direction if direction[0] > 0 else -direction
        base = centre + direction * (float(((points - centre) @ direction).max()) + 0.5)
    # The cavity ends half a pixel beyond the centre of its last pixel.
    return float(np.sqrt(((points - base) ** 2).sum(axis=1)).max()) + 0.5


def _steady(length: Floats, window: int = 5) -> Floats:
    """(T,) with gaps bridged, lone outliers taken off (median) and the rest smoothed (Savitzky-Golay), over 5 frames."""
    known = np.isfinite(length)
    if not known.any():
        return np.zeros(len(length))
    frames = np.arange(len(length))
    bridged = np.interp(frames, frames[known], length[known])
    if len(length) < window:
        return bridged
    return np.asarray(savgol_filter(ndimage.median_filter(bridged, 3, mode="nearest"), window, 1))
