"""How long and wide the cavity of a simulated clip truly is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from echogen.datasets.clip_store import FPS
from echogen.generators.conditioning import Outline


def true_outline(heart: Mapping[str, Any], factor: float) -> Outline:
    """The true length and width of a clip's cavity at any time of the clip, all of them off by a factor."""
    length, width = (factor * np.asarray(heart[name], dtype=np.float64) for name in ("length_px", "width_px"))
    frames = np.arange(len(length))
    return lambda times_s: (np.interp(times_s * FPS, frames, length), np.interp(times_s * FPS, frames, width))
