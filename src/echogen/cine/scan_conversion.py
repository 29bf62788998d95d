"""Beamspace pictures (rows: depth, columns: beams) as Cartesian ones with square pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.ndimage import uniform_filter1d

from echogen.arrays import ByteArray, Floats
from echogen.errors import InputError

#: Frames that are converted at once, which bounds the memory.
_CHUNK = 32
_LARGEST_SIDE = 4096


@dataclass(frozen=True)
class BeamGeometry:
    """Geometry of a beamspace picture: its first and last row in mm from the tip, its first and last beam in rad.

    An angle of 0 points straight down, positive ones to the right. Raises `InputError` for what spans no sector.
    """

    depth_start_mm: float
    depth_end_mm: float
    angle_start_rad: float
    angle_end_rad: float

    def __post_init__(self) -> None:
        depths, angles = (self.depth_start_mm, self.depth_end_mm), (self.angle_start_rad, self.angle_end_rad)
        if not (
            all(map(math.isfinite, depths + angles)) and 0 <= depths[0] < depths[1] and -np.pi <= angles[0] < angles[1] <= np.pi
        ):
            raise InputError(
                f"Depths of {depths[0]:g} to {depths[1]:g} mm and angles of {angles[0]:g} to {angles[1]:g} rad span no sector; "
                "correct the geometry of the recording."
            )

    @property
    def bounds_mm(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the sector in mm; the tip is at 0, 0."""
        inner = [a for a in (-np.pi / 2, 0.0, np.pi / 2) if self.angle_start_rad < a < self.angle_end_rad]
        angles = np.array([self.angle_start_rad, self.angle_end_rad, *inner])
        across, down = (np.outer([self.depth_start_mm, self.depth_end_mm], way(angles)) for way in (np.sin, np.cos))
        return float(across.min()), float(down.min()), float(across.max()), float(down.max())

    def pixels(self, points_mm: ArrayLike, mm_per_pixel: float) -> Floats:
        """Columns and rows (..., 2) in the converted picture of points (..., 2) in mm to the right of the tip and below it.

        The centre of the first pixel is at 0, 0.
        """
        left, top, _, _ = self.bounds_mm
        return (np.asarray(points_mm, dtype=np.float64) - (left, top)) / mm_per_pixel - 0.5


def native_mm_per_pixel(geometry: BeamGeometry, depths: int) -> float:
    """The side in mm of pixels that are as fine as the samples along a beam are (rows: depths)."""
    return (geometry.depth_end_mm - geometry.depth_start_mm) / max(depths - 1, 1)


def scan_convert(frames: ByteArray, geometry: BeamGeometry, mm_per_pixel: float) -> ByteArray:
    """Beamspace frames (T, depths, beams) uint8 as Cartesian ones (T, H, W) uint8 with the tip on top, black beside the sector.

    The picture is the rectangle around the sector; every pixel is interpolated between its four neighbouring samples (bilinear
    in depth and angle), which are averaged along the beam first where pixels are coarser than they are. The map is kept for
    recordings of the same shape. Raises `InputError` for a picture of more than 4,096 pixels a side.
    """
    depths, beams = frames.shape[1:]
    height, width, weights = _conversion(geometry, depths, beams, mm_per_pixel)
    samples_a_pixel = round(mm_per_pixel / native_mm_per_pixel(geometry, depths))
    out = np.empty((len(frames), height, width), dtype=np.uint8)
    for first in range(0, len(frames), _CHUNK):
        part = frames[first : first + _CHUNK].astype(np.float32)
        if samples_a_pixel > 1:
            part = uniform_filter1d(part, samples_a_pixel, axis=1, mode="nearest")
        flat = np.ascontiguousarray(part.reshape(len(part), -1).T)
        out[first : first + _CHUNK] = np.rint(weights @ flat).T.reshape(-1, height, width)
    return out


@lru_cache(maxsize=8)
def _conversion(geometry: BeamGeometry, depths: int, beams: int, mm_per_pixel: float) -> tuple[int, int, sparse.csr_array]:
    """Height, width and the (pixels, samples) weights of a conversion."""
    left, top, right, bottom = geometry.bounds_mm
    height, width = (max(1, round(extent / mm_per_pixel)) for extent in (bottom - top, right - left))
    if max(height, width) > _LARGEST_SIDE:
        raise InputError(f"A sector of {height} x {width} pixels is too large; give larger pixels (mm_per_pixel).")
    down = top + (np.arange(height)[:, None] + 0.5) * mm_per_pixel
    across = left + (np.arange(width)[None, :] + 0.5) * mm_per_pixel
    depth_span, angle_span = geometry.depth_end_mm - geometry.depth_start_mm, geometry.angle_end_rad - geometry.angle_start_rad
    row = (np.hypot(down, across) - geometry.depth_start_mm) / depth_span * (depths - 1)
    beam = (np.arctan2(across, down) - geometry.angle_start_rad) / angle_span * (beams - 1)
    pixel = np.flatnonzero((row >= 0) & (row <= depths - 1) & (beam >= 0) & (beam <= beams - 1))
    row, beam = row.ravel()[pixel], beam.ravel()[pixel]
    upper, before = np.minimum(row.astype(int), max(depths - 2, 0)), np.minimum(beam.astype(int), max(beams - 2, 0))
    lower, after = np.minimum(upper + 1, depths - 1), np.minimum(before + 1, beams - 1)
    below, beside = row - upper, beam - before
    samples = np.concatenate([r * beams + b for r in (upper, lower) for b in (before, after)])
    shares = np.concatenate([v * h for v in (1 - below, below) for h in (1 - beside, beside)])
    places = (shares.astype(np.float32), (np.tile(pixel, 4), samples))
    return height, width, sparse.csr_array(places, shape=(height * width, depths * beams))
