"""Sizes of the chambers and of the wall in each frame: volumes, long axis, thickness, and length of the endocardium."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from echogen.arrays import ByteArray, Floats
from echogen.measurement.discs import disc_volume_ml, lv_diameters
from echogen.measurement.geometry import Midpoints, _long_axis, _steady, lv_geometry, mitral_midpoints
from echogen.physiology import area_length_volume_ml
from echogen.records import STRUCTURES


@dataclass(frozen=True)
class Sizes:
    """Sizes in each frame, all (T,); 0 where the structure is not outlined.

    area_length_ml: Volume of the left ventricle by area and length, in ml.
    discs_ml: Volume of the left ventricle by 20 discs, in ml.
    long_axis_mm: Length of the left ventricle from the annulus to the apex, in mm.
    la_ml: Volume of the left atrium by area and length, in ml.
    contour_mm: Length of the endocardium from one hinge of the annulus around the apex to the other, in mm.
    wall_mm: Mean thickness of the outlined myocardium, in mm.
    """

    area_length_ml: Floats
    discs_ml: Floats
    long_axis_mm: Floats
    la_ml: Floats
    contour_mm: Floats
    wall_mm: Floats


def sizes_of(masks: ByteArray, mm_per_pixel: float) -> Sizes:
    """Measure the outlines of a video. masks: (T, H, W) with the ids of `STRUCTURES`, apex above base; mm_per_pixel: in mm."""
    midpoints = mitral_midpoints(masks)
    area, length = lv_geometry(masks, mm_per_pixel, midpoints)
    diameters = lv_diameters(masks, mm_per_pixel, midpoints=midpoints)
    contour = endocardium_mm(diameters, length)
    wall_area = (masks == STRUCTURES["myocardium"]).sum(axis=(1, 2)) * mm_per_pixel**2
    return Sizes(
        area_length_ml=area_length_volume_ml(area, length),
        discs_ml=disc_volume_ml(diameters, length),
        long_axis_mm=length,
        la_ml=_atrium_ml(masks, mm_per_pixel, midpoints),
        contour_mm=contour,
        wall_mm=mean_thickness_mm(wall_area, contour),
    )


def endocardium_mm(diameters_mm: Floats, length_mm: Floats) -> Floats:
    """(T,) length of the endocardium of a ventricle that is symmetric about its axis.

    diameters_mm: (T, n) of discs from base to apex, in mm. length_mm: (T,) of the axis, in mm. Both sides count; the annulus
    does not.
    """
    step = length_mm[:, None] / diameters_mm.shape[1]
    halves = diameters_mm / 2.0
    # The middle of the first disc lies half a step above the annulus, that of the last one half a step below the apex.
    base = np.hypot(halves[:, 0] - halves[:, 1], step[:, 0]) / 2.0
    sides = np.hypot(np.diff(halves, axis=1), step).sum(axis=1)
    apex = np.hypot(halves[:, -1], step[:, 0] / 2.0)
    return np.asarray(2.0 * (base + sides + apex))


def mean_thickness_mm(wall_area_mm2: Floats, contour_mm: Floats) -> Floats:
    """(T,) thickness w of a band of area A around a curve of length C that turns by 180°: A = C w + pi w^2 / 2 (Steiner)."""
    return np.asarray((np.sqrt(contour_mm**2 + 2.0 * np.pi * wall_area_mm2) - contour_mm) / np.pi)


def _atrium_ml(masks: ByteArray, mm_per_pixel: float, midpoints: Midpoints) -> Floats:
    """(T,) volume of the left atrium by area and length, in ml; the length runs from the annulus to the roof."""
    atrium = masks == STRUCTURES["la"]
    area = atrium.sum(axis=(1, 2)) * mm_per_pixel**2
    # Turned upside down, an atrium without ventricle has its base below, as `_long_axis` expects.
    last = masks.shape[1] - 1
    bases = [None if point is None else np.array([last - point[0], point[1]]) for point in midpoints]
    lengths = [_long_axis(a[::-1], base) if count else np.nan for a, base, count in zip(atrium, bases, area, strict=True)]
    return area_length_volume_ml(area, _steady(np.array(lengths)) * mm_per_pixel)
