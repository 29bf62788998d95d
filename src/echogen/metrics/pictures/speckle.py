"""Speckle statistics of echo frames in the canonical geometry: how coarse, how contrasty, how steady, how bright."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from echogen.arrays import Floats, Mask

#: Beams meet here in a 128 x 128 frame, and the sector ends at this radius; all in pixels.
APEX_ROW, APEX_COLUMN, RADIUS = 6.0, 63.5, 112.0
_HALF_ANGLE = np.deg2rad(45.0)
_RADIAL_STEP, _BEAMS = 0.5, 361
_FIRST_RADIUS = 12.0
LOCAL_MEAN_PX = 8.0
_LONGEST_LAG_PX = 12.0


@dataclass(frozen=True)
class SpeckleStatistics:
    """Speckle in a region: widths are full widths at half maximum of the autocorrelation in pixels, along and across the beam;
    contrast is standard deviation / mean; frame_correlation lies in -1..1 (nan for a single frame)."""

    axial_px: float
    lateral_px: float
    contrast: float
    frame_correlation: float


def _stack(frames: ArrayLike, mask: ArrayLike) -> tuple[Floats, Mask]:
    """(T, H, W) floats and the mask of each frame, from one or many frames and one or many masks."""
    values = np.asarray(frames, dtype=np.float64)
    values = values[None] if values.ndim == 2 else values
    return values, np.broadcast_to(np.asarray(mask, dtype=bool), values.shape)


def local_mean(frames: ArrayLike, mask: ArrayLike, sigma_px: float = LOCAL_MEAN_PX) -> Floats:
    """(T, H, W) Gaussian mean of the grey values over the region only, so that nothing beside it leaks in; 0 outside."""
    values, region = _stack(frames, mask)
    sigma = (0.0, sigma_px, sigma_px)
    weight = ndimage.gaussian_filter(region.astype(np.float64), sigma, truncate=3.0)
    total = ndimage.gaussian_filter(np.where(region, values, 0.0), sigma, truncate=3.0)
    return np.where(region, total / np.maximum(weight, 1e-9), 0.0)


def to_polar(frames: Floats, order: int = 3, wanted: Mask | None = None) -> Floats:
    """(T, H, W) -> (T, radii, beams): radii every half pixel from 12 to 112 px, 361 beams from -45 to 45 degrees.

    order: of the spline; 3 keeps the speckle's width, 0 is for masks. wanted: (T, radii, beams), the places to read; the others
    are 0. None is all.
    """
    radius = np.arange(_FIRST_RADIUS, RADIUS, _RADIAL_STEP)[:, None]
    angle = np.linspace(-_HALF_ANGLE, _HALF_ANGLE, _BEAMS)[None, :]
    where = np.stack([APEX_ROW + radius * np.cos(angle), APEX_COLUMN + radius * np.sin(angle)])
    polar = np.zeros((len(frames), len(radius), _BEAMS))
    for index, frame in enumerate(frames):
        places = np.s_[:] if wanted is None else wanted[index]
        polar[index][places] = ndimage.map_coordinates(frame, where[:, places], order=order, mode="constant")
    return polar


def _half_width(speckle: Floats, region: Mask, axis: int, step_px: float) -> float:
    """Full width at half maximum in pixels of the autocorrelation along an axis, over pairs of which both lie in the region."""
    found = np.argwhere(region.any(axis=0))
    box = (slice(None), *(slice(low, high + 1) for low, high in zip(found.min(0), found.max(0), strict=True)))
    weight = region[box].astype(np.float64)
    signal = speckle[box] * weight
    power = float((signal**2).sum() / max(weight.sum(), 1.0))
    if power <= 0:
        return float("nan")
    before = 1.0
    for lag in range(1, max(int(_LONGEST_LAG_PX / step_px), 2)):
        near, far = [slice(None)] * 3, [slice(None)] * 3
        near[axis], far[axis] = slice(None, -lag), slice(lag, None)
        pairs = float((weight[tuple(near)] * weight[tuple(far)]).sum())
        if pairs < 1:
            break
        now = float((signal[tuple(near)] * signal[tuple(far)]).sum()) / pairs / power
        if now <= 0.5:
            return 2.0 * step_px * (lag - 1 + (before - 0.5) / (before - now))
        before = now
    return float("nan")


def speckle_widths(frames: ArrayLike, mask: ArrayLike) -> tuple[float, float]:
    """(axial, lateral) full width at half maximum of the speckle's autocorrelation, in pixels.

    frames: (T, 128, 128) or (128, 128) grey values in the canonical geometry. mask: the region, for all frames or for each.
    The local mean (Gaussian of 8 px, within the region) is removed, then beams are resampled around the apex; the lateral
    width is an angle, given in pixels at the region's mean depth. nan where the region is too small to tell.
    """
    return _widths(*_residual(frames, mask))


def _residual(frames: ArrayLike, mask: ArrayLike) -> tuple[Floats, Mask]:
    """The speckle, which is what is left without the local mean, 0 outside; and the region: (T, H, W) each."""
    values, region = _stack(frames, mask)
    return np.where(region, values - local_mean(values, region), 0.0), region


def _widths(speckle: Floats, region: Mask) -> tuple[float, float]:
    inside = to_polar(region.astype(np.float64), order=0) > 0.5
    if not inside.any():
        return float("nan"), float("nan")
    polar = to_polar(speckle, wanted=inside)
    depth = np.arange(_FIRST_RADIUS, RADIUS, _RADIAL_STEP)
    mean_depth = float((inside.sum(axis=(0, 2)) * depth).sum() / inside.sum())
    lateral_step = 2 * _HALF_ANGLE / (_BEAMS - 1) * mean_depth
    return _half_width(polar, inside, 1, _RADIAL_STEP), _half_width(polar, inside, 2, lateral_step)


def speckle_contrast(frames: ArrayLike, mask: ArrayLike) -> float:
    """Standard deviation of the grey values about their local mean, over their mean, in a region; nan where that is black."""
    return _contrast(frames, *_residual(frames, mask))


def _contrast(frames: ArrayLike, speckle: Floats, region: Mask) -> float:
    mean = float(_stack(frames, region)[0][region].mean()) if region.any() else 0.0
    return float(speckle[region].std()) / mean if mean > 0 else float("nan")


def frame_correlation(frames: ArrayLike, mask: ArrayLike, sigma_px: float | None = LOCAL_MEAN_PX) -> float:
    """Mean correlation of each frame with the next over the region common to both, -1..1.

    sigma_px: the local mean of this width is removed first, which leaves the speckle; None compares the grey values as they are.
    nan for a single frame.
    """
    values, region = _stack(frames, mask)
    return _correlation(values if sigma_px is None else values - local_mean(values, region, sigma_px), region)


def _correlation(values: Floats, region: Mask) -> float:
    found: list[float] = []
    for first, second, both in zip(values[:-1], values[1:], region[:-1] & region[1:], strict=True):
        a, b = first[both], second[both]
        if len(a) > 1 and a.std() > 0 and b.std() > 0:
            found.append(float(np.corrcoef(a, b)[0, 1]))
    return float(np.mean(found)) if found else float("nan")


def grey_percentiles(frames: ArrayLike, mask: ArrayLike) -> tuple[float, float, float]:
    """(P10, P50, P90) of the grey values in a region; nan where it is empty."""
    values, region = _stack(frames, mask)
    if not region.any():
        return float("nan"), float("nan"), float("nan")
    p10, p50, p90 = np.percentile(values[region], (10, 50, 90))
    return float(p10), float(p50), float(p90)


def speckle_statistics(frames: ArrayLike, mask: ArrayLike) -> SpeckleStatistics:
    """Every speckle figure of a region (frames and mask as in `speckle_widths`)."""
    speckle, region = _residual(frames, mask)
    return SpeckleStatistics(*_widths(speckle, region), _contrast(frames, speckle, region), _correlation(speckle, region))
