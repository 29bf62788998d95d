"""Frame times: the uniform rate behind them, and other rates by interpolation."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from echogen.errors import InputError
from echogen.records import Cine, SecondsArray

#: Times that lie this near to a uniform grid count as uniform.
UNIFORM_WITHIN_S = 1e-4
_RATE_OF_A_STILL = Fraction(25)


def uniform_rate(times_s: SecondsArray) -> Fraction | None:
    """The constant frame rate in Hz, as a fraction with a denominator up to 1001, or None where the times are not uniform."""
    if len(times_s) < 2:
        return _RATE_OF_A_STILL
    elapsed = times_s - times_s[0]
    mean_rate = (len(times_s) - 1) / float(elapsed[-1])
    for denominator in (1, 10, 1001, 100_000):
        rate = Fraction(mean_rate).limit_denominator(denominator)
        if rate > 0 and np.abs(np.arange(len(times_s)) / float(rate) - elapsed).max() <= UNIFORM_WITHIN_S:
            return rate
    return None


def resample_frames(cine: Cine, fps: float) -> Cine:
    """The cine at a uniform frame rate, by linear interpolation between the two frames around each time.

    fps: frames per second in Hz. Starts at the same time and keeps the duration; past the last frame it holds that frame.
    A cine that already has this rate comes back as it is. Raises `InputError` for a rate that is not positive.
    """
    if not (math.isfinite(fps) and fps > 0):
        raise InputError(f"The frame rate must be a positive number of frames per second, not {fps}.")
    old = cine.times_s
    if len(old) < 2 or np.abs(np.arange(len(old)) / fps + old[0] - old).max() <= UNIFORM_WITHIN_S:
        return cine
    times = old[0] + np.arange(max(1, round(cine.duration_s * fps))) / fps
    position = np.interp(times, old, np.arange(len(old)))
    before = np.minimum(position.astype(int), len(old) - 2)
    share = position - before
    frames = np.empty((len(times), *cine.frames.shape[1:]), dtype=np.uint8)
    for index, (first, weight) in enumerate(zip(before, share, strict=True)):
        mixed = cine.frames[first] * (1.0 - weight) + cine.frames[first + 1] * weight
        frames[index] = np.rint(mixed).astype(np.uint8)
    return replace(cine, frames=frames, times_s=times)
