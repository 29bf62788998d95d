"""Pixel size of DICOM ultrasound: the calibrated region that holds the sector, on the screen whose coordinates it uses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from echogen.arrays import ByteArray
from echogen.cine.sector import find_sector
from echogen.errors import InputError

_MM_PER_CM = 10.0
#: Codes of PS3.3 C.8.5.5.1: unit of a delta, and spatial format of a region.
_CENTIMETRES, _TWO_DIMENSIONAL = 3, 1
#: Attributes of the edges of a region: left, top, right and bottom, in pixels.
_EDGES = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
#: Spatial formats of regions that move but show no sector: M-mode, spectrum, waveform, graphics.
_STRIPS = (2, 3, 4, 5)
#: Screens (width x height) from which machines export, in pixels.
_SCREEN_SIZES = """
320x240 400x300 512x384 576x432 640x480 720x540 720x576 768x576 800x600 1016x708 1024x768 1136x852 1152x864 1280x720 1280x800
1280x960 1280x1024 1366x768 1400x1050 1440x1080 1600x1200 1680x1050 1920x1080 1920x1200 2048x1536 2560x1440 3840x2160
"""
_SCREENS = tuple((int(width), int(height)) for width, height in (size.split("x") for size in _SCREEN_SIZES.split()))
#: Whole factors by which frames are reduced, too.
_FACTORS = (2, 3, 4)
#: Share by which two ratios of sides may differ and still count as one, and two scales.
_SAME, _SAME_SCALE = 0.01, 0.02
#: A region starts in the corner if it does so within this share of the picture; it may end so many pixels past the picture.
_CORNER, _BEYOND_PX = 0.02, 2
#: Least share of what is lit or moves that must lie in calibrated regions, and the share from which none other has the sector.
_LEAST_SHARE, _SURE_SHARE = 0.4, 0.7
#: A region of a larger screen must cover the sector this well (intersection over union of their boxes), and this much better
#: than it would on any other screen.
_LEAST_COVER, _CLEARLY = 0.45, 0.03
#: Pixels more unequal than this are no picture.
_MOST_UNEQUAL = 4.0

_NO_SCREEN = "Its calibrated region lies on a larger screen of unknown size: no mm, no ml."
_LARGER_SCREEN = "Its calibrated region is that of a screen {:.4g} times as large as the frames: mm per pixel follow from that."

_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class PixelSize:
    """Sides of a stored pixel.

    width_mm, height_mm: 0 where unknown. aspect: width / height, known also without mm. notes: what had to be guessed.
    """

    width_mm: float = 0.0
    height_mm: float = 0.0
    aspect: float = 1.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Region:
    """A region.

    box: left, top, right and bottom in its own coordinates, the last two past the end. width_mm, height_mm: of a pixel there.
    """

    box: _Box
    width_mm: float
    height_mm: float

    def scaled(self, factor: float) -> _Region:
        """The region where each stored pixel stands for `factor` pixels of the screen in both directions."""
        left, top, right, bottom = (edge / factor for edge in self.box)
        return _Region((left, top, right, bottom), self.width_mm * factor, self.height_mm * factor)


def pixel_size(dataset: Any, frames: ByteArray) -> PixelSize:
    """Sides of the pixels of frames (T, H, W) as stored, from the dataset's ultrasound regions and PixelAspectRatio.

    Of several calibrated regions, the one with the sector counts. A region that reaches past the frames lies on a larger screen,
    of which they are a reduction: by what factor is decided by the common screens and by where the sector is. Where that is
    not clear, or the calibrated region does not hold the sector, the sides in mm are unknown.
    """
    height, width = frames.shape[1:]
    aspect = _pixel_aspect(dataset)
    regions, strips = _regions(dataset)
    if not regions:
        return PixelSize(aspect=aspect)
    notes: tuple[str, ...] = ()
    right, bottom = max(region.box[2] for region in regions), max(region.box[3] for region in regions)
    if right > width + _BEYOND_PX or bottom > height + _BEYOND_PX:
        factor = _screen_factor(regions, frames)
        if factor is None:
            return PixelSize(aspect=aspect, notes=(_NO_SCREEN,))
        notes = (_LARGER_SCREEN.format(factor),)
        regions = [region.scaled(factor) for region in regions]
        strips = [_Region(box, 1.0, 1.0).scaled(factor).box for box in strips]
    region = _with_sector(regions, strips, frames)
    if region is None:
        return PixelSize(aspect=aspect, notes=("Its calibrated regions do not hold the sector: no mm, no ml.",))
    return PixelSize(region.width_mm, region.height_mm, region.width_mm / region.height_mm, notes)


def _regions(dataset: Any) -> tuple[list[_Region], list[_Box]]:
    """The two-dimensional regions calibrated in cm, and the boxes of M-mode, spectra and traces."""
    regions, strips = [], []
    for item in dataset.get("SequenceOfUltrasoundRegions", None) or ():
        kind = item.get("RegionSpatialFormat")
        if kind != _TWO_DIMENSIONAL and kind not in _STRIPS:
            continue
        left, top, right, bottom = (float(item.get(name, 0) or 0) for name in _EDGES)
        box = (left, top, right + 1.0, bottom + 1.0)
        if kind in _STRIPS:
            strips.append(box)
            continue
        if (item.get("PhysicalUnitsXDirection"), item.get("PhysicalUnitsYDirection")) != (_CENTIMETRES, _CENTIMETRES):
            continue
        across, down = (abs(float(item.get(name, 0) or 0)) * _MM_PER_CM for name in ("PhysicalDeltaX", "PhysicalDeltaY"))
        if _sensible(across, down):
            regions.append(_Region(box, across, down))
    return regions, strips


def _sensible(width: float, height: float) -> bool:
    small, large = sorted((width, height))
    return math.isfinite(large) and small > 0 and large <= _MOST_UNEQUAL * small


def _pixel_aspect(dataset: Any) -> float:
    """Width / height of a pixel as PixelAspectRatio states it, which has the height first; 1 where it is absent or senseless."""
    stated = dataset.get("PixelAspectRatio") if "PixelAspectRatio" in dataset else None
    if stated is None or not hasattr(stated, "__len__") or len(stated) != 2:
        return 1.0
    height, width = (float(value or 0) for value in stated)
    return width / height if _sensible(width, height) else 1.0


def _screen_factor(regions: list[_Region], frames: ByteArray) -> float | None:
    """Pixels of the screen for one stored pixel; None where several screens fit about as well, or none."""
    height, width = frames.shape[1:]
    right, bottom = max(region.box[2] for region in regions), max(region.box[3] for region in regions)
    left, top = min(region.box[0] for region in regions), min(region.box[1] for region in regions)
    across, down = right / width, bottom / height
    if left <= _CORNER * right and top <= _CORNER * bottom and abs(across / down - 1.0) <= _SAME:
        return (across + down) / 2.0
    least = max((right - _BEYOND_PX) / width, (bottom - _BEYOND_PX) / height)
    possible = {float(factor) for factor in _FACTORS}
    possible |= {wide / width for wide, tall in _SCREENS if abs(wide / width / (tall / height) - 1.0) <= _SAME}
    candidates = sorted(factor for factor in possible if factor >= least)
    try:
        sector = _sector_box(frames)
    except InputError:
        return None
    covers = [(max(_cover(region.scaled(factor).box, sector) for region in regions), factor) for factor in candidates]
    best = max(covers, default=(0.0, 0.0))
    rivals = [cover for cover, factor in covers if abs(factor / best[1] - 1.0) > _SAME_SCALE] if best[1] else []
    if best[0] < _LEAST_COVER or any(cover > best[0] - _CLEARLY for cover in rivals):
        return None
    return best[1]


def _sector_box(frames: ByteArray) -> _Box:
    """Left, top, right and bottom of the sector, in pixels. Raises `InputError` where there is none."""
    rows, columns = np.nonzero(find_sector(frames).inside(*frames.shape[1:]))
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)


def _cover(one: _Box, other: _Box) -> float:
    """Intersection over union of two boxes."""
    across, down = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    both = max(across, 0.0) * max(down, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return both / max(sum(areas) - both, 1e-9)


def _with_sector(regions: list[_Region], strips: list[_Box], frames: ByteArray) -> _Region | None:
    """The region that holds the sector; None where none does."""
    if len(regions) == 1 and not strips and _covers(regions[0].box, frames):
        return regions[0]
    shares = _shares([region.box for region in regions], strips, frames)
    order = sorted(range(len(regions)), key=lambda index: -shares[index])
    best = regions[order[0]]
    held = [regions[index] for index in order if shares[index] >= _LEAST_SHARE / 2]
    others = [region for region in held if abs(region.width_mm / best.width_mm - 1.0) > _SAME_SCALE]
    if sum(shares) < _LEAST_SHARE:
        return None
    if not others or (shares[order[0]] >= _SURE_SHARE and not any(_inside(region.box, best.box) for region in others)):
        return best
    try:
        sector = _sector_box(frames)
    except InputError:
        return None
    return max(held, key=lambda region: _cover(region.box, sector))


def _covers(box: _Box, frames: ByteArray) -> bool:
    """True for a region as large as the frames, in which the sector lies wherever it is."""
    height, width = frames.shape[1:]
    return box[0] <= _BEYOND_PX and box[1] <= _BEYOND_PX and box[2] >= width - _BEYOND_PX and box[3] >= height - _BEYOND_PX


def _inside(inner: _Box, outer: _Box) -> bool:
    """True where two boxes overlap for more than half of the smaller one."""
    across, down = min(inner[2], outer[2]) - max(inner[0], outer[0]), min(inner[3], outer[3]) - max(inner[1], outer[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (inner, outer))
    return max(across, 0.0) * max(down, 0.0) > 0.5 * smaller


def _shares(boxes: list[_Box], strips: list[_Box], frames: ByteArray) -> list[float]:
    """Share of what moves (in a still: is lit) that lies in each box, of all that lies outside the strips."""
    some = frames[np.unique(np.linspace(0, len(frames) - 1, 8).astype(int)), ::2, ::2].astype(np.float32)
    weight = some.std(axis=0)
    if not weight.any():
        weight = some[0]

    def cut(box: _Box) -> tuple[slice, slice]:
        left, top, right, bottom = (max(0.0, edge / 2) for edge in box)
        return slice(math.floor(top), math.ceil(bottom)), slice(math.floor(left), math.ceil(right))

    for box in strips:
        weight[cut(box)] = 0.0
    total = float(weight.sum())
    # A black picture has no sector anywhere: then nothing speaks against a region.
    return [float(weight[cut(box)].sum()) / total if total else 1.0 for box in boxes]
