"""Videos at another frame rate as EchoDiffusion's published code has them, for its networks and its figures."""

from __future__ import annotations

import numpy as np

from echogen.arrays import ByteArray


def published_resample(frames: ByteArray, fps: float, new_fps: float) -> ByteArray:
    """Frames (T, ...) at `fps` Hz as round(T new_fps / fps) frames, the first and the last as they are.

    Between them values are interpolated and rounded, so that all motion is a little too slow or too fast: the time between the
    first and the last frame becomes that of one frame more or less. `cine.timing` keeps the time.
    """
    count = max(1, round(len(frames) * new_fps / fps))
    position = np.linspace(0.0, len(frames) - 1, count)
    before = np.minimum(position.astype(int), max(len(frames) - 2, 0))
    after = np.minimum(before + 1, len(frames) - 1)
    share = (position - before).reshape(-1, *(1,) * (frames.ndim - 1))
    return np.floor(frames[before] * (1.0 - share) + frames[after] * share + 0.5).astype(np.uint8)
