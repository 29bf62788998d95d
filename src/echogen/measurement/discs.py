"""Method of discs: the left ventricle cut across its long axis, and its volume from one plane or from two."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from echogen.arrays import ByteArray, Floats, Mask
from echogen.measurement.geometry import Midpoints, lv_geometry, mitral_midpoints
from echogen.records import STRUCTURES

#: Discs that the cavity is cut into, as guidelines of echocardiography have it.
DISCS = 20
_LV = STRUCTURES["lv"]


def lv_discs(masks: ByteArray, mm_per_pixel: float, discs: int = DISCS) -> tuple[Floats, Floats]:
    """The cavity cut across its long axis into discs of equal height.

    masks: (T, H, W) uint8 with the ids of `STRUCTURES`, apex above base. mm_per_pixel: 1.0 gives pixels.
    Returns (diameters in mm, from base to apex, (T, discs); length in mm, (T,)), as `lv_geometry` has the length. The diameter is
    the area of the disc's section over its height; a frame without ventricle has diameters of 0.
    """
    midpoints = mitral_midpoints(masks)
    _, length = lv_geometry(masks, mm_per_pixel, midpoints)
    return lv_diameters(masks, mm_per_pixel, discs, midpoints), length


def lv_diameters(masks: ByteArray, mm_per_pixel: float, discs: int = DISCS, midpoints: Midpoints | None = None) -> Floats:
    """The diameters (T, discs) of `lv_discs` alone, in mm. midpoints: As `lv_geometry` takes them."""
    bases = mitral_midpoints(masks) if midpoints is None else midpoints
    return np.array([_diameters(mask == _LV, base, discs) for mask, base in zip(masks, bases, strict=True)]) * mm_per_pixel


def _diameters(ventricle: Mask, base: Floats | None, discs: int) -> Floats:
    """(discs,) in pixels; what of the cavity lies beyond the ends of the axis counts to the outermost discs."""
    points = np.argwhere(ventricle).astype(np.float64)
    if len(points) < 3:
        return np.zeros(discs)
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
