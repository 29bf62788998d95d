"""ECGs with known landmarks, as sums of Gaussians."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from echogen.records import Ecg

#: Centre from R in s, width in s, height in mV.
WAVES = {
    "p": (-0.16, 0.020, 0.15),
    "q": (-0.022, 0.007, -0.12),
    "r": (0.0, 0.009, 1.1),
    "s": (0.024, 0.008, -0.25),
    "t": (0.27, 0.045, 0.3),
}
WIDE = {"r": (0.0, 0.030, 0.9), "s": (0.075, 0.026, -0.5), "t": (0.33, 0.05, -0.35)}


@dataclass(frozen=True)
class Made:
    """An ECG and the truth behind it."""

    ecg: Ecg
    r_s: np.ndarray
    wide: np.ndarray


@pytest.fixture(scope="session")
def make_ecg() -> Callable[..., Made]:
    def make(
        rhythm: str = "sinus",
        *,
        rate_bpm: float = 72.0,
        seconds: float = 30.0,
        rate_hz: float = 500.0,
        gains: dict[str, float] | None = None,
        noise_mv: float = 0.02,
        start_s: float = 0.0,
        seed: int = 0,
    ) -> Made:
        random = np.random.default_rng(seed)
        count, rr_s = int(seconds * rate_bpm / 60) + 4, 60.0 / rate_bpm
        intervals = rr_s * (1 + 0.03 * random.standard_normal(count))
        wide = np.full(count, rhythm == "wide")
        if rhythm == "atrial fibrillation":
            intervals = np.clip(random.gamma(16, rr_s / 16, count), 0.35, 2.0)
        if rhythm == "premature":
            early = np.arange(3, count - 1, 5)
            intervals[early] *= 0.62
            intervals[early + 1] *= 1.38
            wide[early + 1] = True
        r = 0.3 + np.concatenate([[0.0], np.cumsum(intervals)[:-1]])
        keep = r < seconds - 0.2
        r, wide = r[keep], wide[keep]
        times = np.arange(round(seconds * rate_hz)) / rate_hz
        trace = np.zeros(times.size)
        for beat, broad in zip(r, wide, strict=True):
            for wave, (centre, width, height) in (WIDE if broad else WAVES).items():
                if not (wave == "p" and rhythm == "atrial fibrillation"):
                    stretched = centre * min((rr_s / 0.85) ** 0.5, 1.0) if wave in "pt" else centre
                    trace += height * np.exp(-0.5 * ((times - beat - stretched) / width) ** 2)
        if rhythm == "atrial fibrillation":
            phase = (
                2
                * np.pi
                * np.cumsum(6.2 + 1.2 * np.interp(times, np.arange(0, seconds + 1), random.standard_normal(int(seconds) + 1)))
            )
            trace += 0.06 * np.sin(phase / rate_hz)
        gains = gains or {"II": 1.0}
        wander = 0.15 * np.sin(2 * np.pi * 0.2 * times)
        signal = np.stack([gain * trace + wander + noise_mv * random.standard_normal(times.size) for gain in gains.values()])
        return Made(Ecg(signal, rate_hz, tuple(gains), start_s), start_s + r, wide)

    return make
