"""Beats from a left ventricular volume curve alone: when each reaches end-diastole and end-systole, and how much it ejects."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.signal import savgol_filter

from echogen.records import Beat

Floats = NDArray[np.float64]

#: End-systole is the time when the falling volume comes within this share of the stroke volume above its minimum, plus an offset.
NEAR_MINIMUM = 0.15
#: s from that time to aortic closure: median over `physiology.volume_curve` at 40..180 bpm and EF 15..75 %.
ES_OFFSET_S = 0.066
#: End-diastole likewise: the volume has fallen by this share of the stroke volume, minus an offset to mitral closure.
NEAR_MAXIMUM = 0.05
ED_OFFSET_S = 0.072
#: A beat ejects at least this share of the median stroke, and at least this share of its own end-diastolic volume.
SMALLEST_STROKE = 0.25
SMALLEST_EF = 0.04
SMOOTHING_S = 0.15
#: How far ED may seem to lie before the first frame, and how long the curve must go on after ES, in s.
EDGE_S = 0.040
R_BEFORE_ED_S, R_AFTER_ED_S = 0.250, 0.150


def smooth_volume(times_s: ArrayLike, volume: ArrayLike, window_s: float = SMOOTHING_S) -> Floats:
    """A volume curve with its frame-to-frame noise taken off (Savitzky-Golay, second order, about 0.15 s).

    times_s, volume: (T,), evenly sampled or nearly so; lone spikes of more than a quarter of the curve's swing are replaced
    by the median of their neighbours first. Returns (T,). A curve of fewer than 5 frames a window stays as it is.
    """
    times, values = np.asarray(times_s, dtype=np.float64), np.array(volume, dtype=np.float64)
    if len(values) < 5:
        return values
    around = np.stack([np.roll(values, shift) for shift in (-2, -1, 1, 2)])
    around[:, :2], around[:, -2:] = values[:2], values[-2:]
    neighbours = np.median(around, axis=0)
    swing = np.ptp(np.percentile(values, (5, 95)))
    values = np.where(np.abs(values - neighbours) > max(0.25 * swing, 1e-9), neighbours, values)
    step = float(np.median(np.diff(times)))
    window = int(round(window_s / step)) // 2 * 2 + 1
    window = min(window, (len(values) - 1) // 2 * 2 + 1)
    return np.asarray(savgol_filter(values, window, 2)) if window >= 5 else values


def _turning_points(volume: Floats, threshold: float) -> list[tuple[int, int]]:
    """(index of maximum, index of the minimum after it) of every fall of at least `threshold`, parted by rises as large."""
    falls: list[tuple[int, int]] = []
    high = low = 0
    falling = False
    for index, value in enumerate(volume):
        if falling:
            if value < volume[low]:
                low = index
            elif value - volume[low] >= threshold:
                falls.append((high, low))
                high, falling = index, False
        elif value >= volume[high]:
            high = index
        elif volume[high] - value >= threshold:
            low, falling = index, True
    if falling:
        falls.append((high, low))
    return falls


def _usual_swing(times: Floats, volume: Floats, window_s: float = 1.5) -> float:
    """Median over stretches of 1.5 s, each long enough for a slow beat, of the largest minus the smallest volume."""
    starts = np.arange(times[0], max(times[-1] - window_s, times[0]) + 1e-9, window_s / 2)
    parts = [volume[(times >= start) & (times <= start + window_s)] for start in starts]
    return float(np.median([np.ptp(part) for part in parts]))


def _falls(times: Floats, volume: Floats) -> list[tuple[int, int]]:
    """The ejections: falls that stand out of the noise and reach a quarter of the median stroke."""
    swing = _usual_swing(times, volume)
    falls: list[tuple[int, int]] = []
    for _ in range(2):
        falls = _turning_points(volume, max(SMALLEST_STROKE * swing, 1e-9))
        if not falls:
            return []
        swing = float(np.median([volume[high] - volume[low] for high, low in falls]))
    return [(high, low) for high, low in falls if volume[high] - volume[low] >= SMALLEST_EF * volume[high]]


def _falls_through(times: Floats, volume: Floats, first: int, last: int, level: float) -> float:
    """Time in s of the first downward passage through `level` between two frames, by linear interpolation."""
    below = first + int(np.argmax(volume[first : last + 1] <= level))
    if below == first:
        return float(times[first])
    share = (volume[below - 1] - level) / (volume[below - 1] - volume[below])
    return float(times[below - 1] + share * (times[below] - times[below - 1]))


def find_beats(
    times_s: ArrayLike,
    volume: ArrayLike,
    *,
    es_offset_s: float = ES_OFFSET_S,
    r_s: ArrayLike | None = None,
) -> tuple[Beat, ...]:
    """The beats of a volume curve, in time order, each with ED, ES, EDV and ESV.

    times_s: (T,) in s, increasing. volume: (T,) in ml, as measured; it is smoothed here.
    ES is where the falling volume comes within 15 % of the stroke volume above its minimum, plus `es_offset_s`; ED where it has
    fallen by 5 %, minus a fixed offset. Beats whose ED or ES lies outside the curve are left out, and so are falls of less than a
    quarter of the median stroke. r_s: R peaks in s on the same clock; a beat takes the nearest within -250..+150 ms of its ED.
    """
    times = np.asarray(times_s, dtype=np.float64)
    curve = smooth_volume(times, volume)
    if len(times) < 5:
        return ()
    peaks = np.asarray([] if r_s is None else r_s, dtype=np.float64)
    beats: list[Beat] = []
    for high, low in _falls(times, curve):
        edv, esv = float(curve[high]), float(curve[low])
        stroke = edv - esv
        ed = _falls_through(times, curve, high, low, edv - NEAR_MAXIMUM * stroke) - ED_OFFSET_S
        es = _falls_through(times, curve, high, low, esv + NEAR_MINIMUM * stroke) + es_offset_s
        if ed < times[0] - EDGE_S or es > times[-1] - EDGE_S:
            continue
        ed = max(ed, float(times[0]))
        near = peaks[(peaks >= ed - R_BEFORE_ED_S) & (peaks <= ed + R_AFTER_ED_S)]
        r = float(near[np.argmin(np.abs(near - ed))]) if len(near) else None
        beats.append(Beat(ed, es, edv, esv, r))
    return tuple(beats)
