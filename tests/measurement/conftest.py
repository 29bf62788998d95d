"""Hearts with a known clock, as volume curves and as masks."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from echogen.physiology import BeatClock, Filling, beat_clock, beat_volumes, volume_curve
from echogen.records import STRUCTURES


@dataclass(frozen=True)
class Heart:
    """A volume curve at the times of video frames, and the truth behind it."""

    times_s: np.ndarray
    volume_ml: np.ndarray
    clock: BeatClock
    edv_ml: np.ndarray
    esv_ml: np.ndarray

    def beats_to_find(self) -> np.ndarray:
        """Which beats lie inside the curve and eject enough to be seen."""
        stroke = self.edv_ml - self.esv_ml
        inside = (self.clock.ed_s >= self.times_s[0] + 0.03) & (self.clock.avc_s <= self.times_s[-1] - 0.1)
        return inside & (stroke > 0.35 * np.median(stroke))


def beat_onsets(rate_bpm: float, rhythm: str, seconds: float, random: np.random.Generator) -> np.ndarray:
    """QRS onsets in s, from before 0 to past the end."""
    count, rr_s = int(seconds * rate_bpm / 60) + 8, 60.0 / rate_bpm
    if rhythm == "atrial fibrillation":
        intervals = np.clip(random.gamma(18, rr_s / 18, count), 0.33, 2.2)
    else:
        intervals = rr_s * (1 + 0.03 * random.standard_normal(count))
        if rhythm == "premature beats":
            early = np.arange(3, count - 1, 4)
            intervals[early] *= 0.62
            intervals[early + 1] *= 1.38
    return np.cumsum(intervals) - 2 * rr_s + random.uniform(0, rr_s)


@pytest.fixture(scope="session")
def heart() -> Callable[..., Heart]:
    def make(
        rate_bpm: float = 72.0,
        ef_percent: float = 55.0,
        rhythm: str = "sinus",
        *,
        seconds: float = 10.0,
        fps: float = 32.0,
        noise: float = 0.0,
        seed: int = 0,
    ) -> Heart:
        random = np.random.default_rng(seed)
        onset = beat_onsets(rate_bpm, rhythm, seconds, random)
        p_onset = None if rhythm == "atrial fibrillation" else onset - min(0.16, 0.06 + 12.0 / rate_bpm)
        clock = beat_clock(onset, p_onset, ef_percent=ef_percent)
        edv, esv = beat_volumes(clock, 120.0, 120.0 * (1 - ef_percent / 100), Filling())
        times = np.arange(0, seconds, 1 / fps)
        volume = volume_curve(times, clock, edv, esv) + noise * 120.0 * random.standard_normal(len(times))
        return Heart(times, volume, clock, edv, esv)

    return make


@pytest.fixture(scope="session")
def chambers() -> Callable[..., np.ndarray]:
    """Masks (T, 128, 128) of an elliptic left ventricle, cut at the mitral plane with an atrium below it, or whole."""

    def draw(long_px: np.ndarray, short_px: np.ndarray, tilt: float = 0.0, cut: float | None = 0.42) -> np.ndarray:
        rows, columns = np.mgrid[:128, :128] - np.array([50.3, 66.7])[:, None, None]
        along, across = rows * np.cos(tilt) + columns * np.sin(tilt), columns * np.cos(tilt) - rows * np.sin(tilt)
        masks = np.zeros((len(long_px), 128, 128), np.uint8)
        for mask, a, b in zip(masks, long_px, short_px, strict=True):
            mask[(along / (a + 5)) ** 2 + (across / (b + 5)) ** 2 <= 1] = STRUCTURES["myocardium"]
            ventricle = (along / a) ** 2 + (across / b) ** 2 <= 1
            if cut is not None:
                mask[along > cut * a] = 0
                mask[((along - cut * a - 15) / 17) ** 2 + (across / (0.9 * b)) ** 2 <= 1] = STRUCTURES["la"]
                ventricle &= along <= cut * a
            mask[ventricle] = STRUCTURES["lv"]
        return masks

    return draw
