"""Sharpness and smoothness of a generated picture beside a true one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echogen.physiology import Floats
from echogen.records import ByteArray

#: Width (sigma) in pixels of the smoothing that takes off speckle.
SMOOTH_PX = 1.5


def without_speckle(frames: ByteArray) -> Floats:
    """(T, H, W) smoothed by `SMOOTH_PX`."""
    return np.asarray(ndimage.gaussian_filter(frames.astype(np.float32), (0.0, SMOOTH_PX, SMOOTH_PX)))


def seam_ratio(frames: ByteArray, seams: NDArray[np.int64]) -> float:
    """How much more frames change after those of these indices than elsewhere: a ratio of mean |differences|, nan without both.

    Motion alone makes it leave 1: two windows may meet where the heart moves fast.
    """
    change = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean((1, 2))
    inside = np.delete(change, seams)
    return float(change[seams].mean() / inside.mean()) if len(seams) and inside.size else float("nan")


def sharpness(frames: ByteArray) -> Floats:
    """(T,) mean |gradient| per pixel over the mean brightness, speckle taken off."""
    smooth = without_speckle(frames)
    return np.asarray(_slopes(smooth) / smooth.mean((1, 2)), dtype=np.float64)


def trembling(frames: ByteArray) -> float:
    """Mean |second difference in time| over the mean |gradient|, in pixels, speckle taken off: how far edges jump."""
    smooth = without_speckle(frames)
    return float(np.abs(np.diff(smooth, n=2, axis=0)).mean() / _slopes(smooth).mean())


def _slopes(smooth: Floats) -> Floats:
    """(T,) mean |gradient| per pixel."""
    return np.asarray(np.hypot(ndimage.sobel(smooth, 1), ndimage.sobel(smooth, 2)).mean((1, 2)) / 8.0)
