"""How good a picture looks where nothing was measured in it: whether it is as sharp as a true one, and moves as smoothly."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from echogen.physiology import Floats
from echogen.records import ByteArray

#: Width (sigma) in pixels of the smoothing that takes off speckle.
SMOOTH_PX = 1.5


def without_speckle(frames: ByteArray) -> Floats:
    """(T, H, W) smoothed by `SMOOTH_PX`."""
    return np.asarray(ndimage.gaussian_filter(frames.astype(np.float32), (0.0, SMOOTH_PX, SMOOTH_PX)))


def sharpness(frames: ByteArray) -> Floats:
    """(T,) mean |gradient| over the mean brightness, speckle taken off."""
    smooth = without_speckle(frames)
    slopes = np.hypot(ndimage.sobel(smooth, 1), ndimage.sobel(smooth, 2)).mean((1, 2))
    return np.asarray(slopes / smooth.mean((1, 2)), dtype=np.float64)


def trembling(frames: ByteArray) -> float:
    """Mean |second difference in time| over the mean brightness, in %, speckle taken off: what moves smoothly has little."""
    smooth = without_speckle(frames)
    return float(100.0 * np.abs(np.diff(smooth, n=2, axis=0)).mean() / smooth.mean())
