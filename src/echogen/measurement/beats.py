"""Beats from a left ventricular volume curve alone: when each reaches end-diastole and end-systole, and how much it ejects."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator
from scipy.signal import savgol_coeffs, savgol_filter

from echogen.arrays import Floats
from echogen.physiology import preceding_rr
from echogen.records import Beat

#: End-systole is the time when the falling volume comes within this share of the stroke volume above its minimum, plus an offset.
NEAR_MINIMUM = 0.15
#: s from that time to aortic closure at 75 bpm: the median over `physiology.volume_curve` at EF 15..75 %.
ES_OFFSET_S = 0.085
#: The offset is the last part of the ejection, which shortens with the rate by this much per bpm (Weissler's LVET slope x 0.3).
ES_OFFSET_SLOPE_S = -0.0005
#: End-diastole likewise: the volume has fallen by this share of the stroke volume, minus an offset back to mitral closure.
NEAR_MAXIMUM = 0.05
ED_OFFSET_S = 0.100
ED_OFFSET_SLOPE_S = -0.00075
REFERENCE_RATE_BPM, SLOWEST_BPM, FASTEST_BPM = 75.0, 40.0, 150.0
#: A beat ejects at least this share of the median stroke, this share of its own EDV, and this many standard deviations of noise.
SMALLEST_STROKE = 0.25
SMALLEST_EF = 0.04
SMALLEST_NOISE_RATIO = 4.0
SMOOTHING_S = 0.15
#: Longest time before the first frame, in s, at which ED may seem to lie; it then counts as the first frame.
EDGE_S = 0.040
#: Below this many frames per second a beat has too few to tell its noise from itself: the curve is interpolated to FILLED_FPS,
#: and a beat must eject this share of its EDV.
FEWEST_FPS, FILLED_FPS, SMALLEST_EF_SLOW = 15.0, 32.0, 0.08
R_BEFORE_ED_S, R_AFTER_ED_S = 0.250, 0.150


def _without_spikes(values: Floats) -> Floats:
    """(T,) with lone values more than a quarter of the curve's swing off replaced by the median of their four neighbours."""
    around = np.stack([np.roll(values, shift) for shift in (-2, -1, 1, 2)])
    around[:, :2], around[:, -2:] = values[:2], values[-2:]
    neighbours = np.median(around, axis=0)
    swing = float(np.ptp(np.percentile(values, (5, 95))))
    return np.where(np.abs(values - neighbours) > max(0.25 * swing, 1e-9), neighbours, values)


def _window(times: Floats, window_s: float) -> int:
    """Odd number of frames nearest to window_s, no more than there are."""
    frames = round(window_s / float(np.median(np.diff(times)))) // 2 * 2 + 1
    return min(frames, (len(times) - 1) // 2 * 2 + 1)


def smooth_volume(times_s: ArrayLike, volume: ArrayLike, window_s: float = SMOOTHING_S) -> Floats:
    """A volume curve with its frame-to-frame noise taken off (Savitzky-Golay, second order, about 0.15 s).

    times_s, volume: (T,), evenly sampled or nearly so; lone spikes of more than a quarter of the curve's swing are replaced
    by the median of their neighbours first. Returns (T,). Where the window holds fewer than 5 frames, only spikes are taken off.
    """
    times, values = np.asarray(times_s, dtype=np.float64), np.array(volume, dtype=np.float64)
    if len(values) < 5:
        return values
    values = _without_spikes(values)
    window = _window(times, window_s)
    return np.asarray(savgol_filter(values, window, 2)) if window >= 5 else values


def typical_period_s(times_s: ArrayLike, volume: ArrayLike) -> float:
    """The lag between 0.3 and 2 s at which a volume curve is most like itself (autocorrelation), in s; a prior, not a heart rate.

    times_s, volume: (T,). The earliest lag within 10 % of the best counts, so that one beat is found and not two.
    Returns 0.8 s for a curve too short or too flat to tell.
    """
    times, values = np.asarray(times_s, dtype=np.float64), np.asarray(volume, dtype=np.float64)
    step = float(np.median(np.diff(times)))
    values = values - values.mean()
    first, last = int(np.ceil(0.3 / step)), int(min(2.0 / step, 0.6 * len(values)))
    if last <= first + 1 or not values.any():
        return 0.8
    likeness = np.array([np.mean(values[lag:] * values[:-lag]) for lag in range(first, last + 1)])
    inner = likeness[1:-1]
    peaks = 1 + np.flatnonzero((inner >= likeness[:-2]) & (inner >= likeness[2:]) & (inner > 0))
    if not len(peaks):
        return 0.8
    best = peaks[likeness[peaks] >= 0.9 * likeness[peaks].max()][0]
    return float((first + best) * step)


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
    stretches = (volume[(times >= start) & (times <= start + window_s)] for start in starts)
    # A pause of the clock leaves stretches without frames.
    return float(np.median([np.ptp(stretch) for stretch in stretches if len(stretch)]))


def _ejections(times: Floats, volume: Floats) -> list[tuple[int, int]]:
    """(start, end) frames of the falls that stand out of the noise and reach a quarter of the median stroke.

    They are sought on a curve smoothed over a quarter of the typical beat, which noise cannot turn.
    """
    volume = _without_spikes(volume)
    frames = max(_window(times, float(np.clip(0.25 * typical_period_s(times, volume), SMOOTHING_S, 0.35))), 3)
    curve = np.asarray(savgol_filter(volume, frames, 2))
    # White noise of variance s^2 gives second differences of variance 6 s^2.
    noise = 1.4826 * float(np.median(np.abs(np.diff(volume, 2)))) / np.sqrt(6.0)
    least = SMALLEST_NOISE_RATIO * noise * float(np.linalg.norm(savgol_coeffs(frames, 2)))
    swing = _usual_swing(times, curve)
    falls: list[tuple[int, int]] = []
    for _ in range(2):
        falls = _turning_points(curve, max(SMALLEST_STROKE * swing, least, 1e-9))
        if not falls:
            return []
        swing = float(np.median([curve[high] - curve[low] for high, low in falls]))
    return [(high, low) for high, low in falls if curve[high] - curve[low] >= SMALLEST_EF * curve[high]]


def _falls_through(times: Floats, volume: Floats, first: int, last: int, level: float, *, latest: bool = False) -> float:
    """Time in s of the first (or the latest) downward passage through `level` from frame first to last, linearly interpolated."""
    part = volume[first : last + 1]
    below = first + (int(np.flatnonzero(part > level)[-1]) + 1 if latest else int(np.argmax(part <= level)))
    if below == first:
        return float(times[first])
    share = (volume[below - 1] - level) / (volume[below - 1] - volume[below])
    return float(times[below - 1] + share * (times[below] - times[below - 1]))


def find_beats(
    times_s: ArrayLike, volume_ml: ArrayLike, *, es_offset_s: float = ES_OFFSET_S, r_s: ArrayLike | None = None
) -> tuple[Beat, ...]:
    """The beats of a volume curve, in time order, each with ED, ES, EDV and ESV.

    times_s: (T,) in s, increasing. volume_ml: (T,) as measured (any unit serves for times and EF); it is smoothed here, and
    interpolated where there are fewer than 15 frames per second.
    ES is where the falling volume comes within 15 % of the stroke volume above its minimum, plus `es_offset_s` (at 75 bpm;
    0.5 ms less for each bpm of the beat's own rate above that); ED where it has fallen by 5 %, minus an offset of that kind.
    Beats whose ED or ES lies outside the curve are left out, and so are falls of less than a quarter of the median stroke.
    r_s: R peaks in s on the same clock; a beat takes the nearest within -250..+150 ms of its ED.
    """
    times, volume = np.asarray(times_s, dtype=np.float64), np.asarray(volume_ml, dtype=np.float64)
    if len(times) < 5:
        return ()
    if np.median(np.diff(times)) > 1.0 / FEWEST_FPS:
        filled = np.append(np.arange(times[0], times[-1], 1.0 / FILLED_FPS), times[-1])
        coarse = find_beats(filled, PchipInterpolator(times, volume)(filled), es_offset_s=es_offset_s, r_s=r_s)
        return tuple(beat for beat in coarse if (beat.ef_percent or 0.0) >= 100.0 * SMALLEST_EF_SLOW)
    # From the first frame on and to the ns, so that the origin of the clock cannot turn a tie between two frames.
    clock = np.round(times - times[0], 9)
    ejections = _ejections(clock, volume)
    if not ejections:
        return ()
    curve = smooth_volume(clock, volume)
    # The turning points on the lightly smoothed curve: the maximum before each fall's end, the minimum up to the next maximum.
    ends = [low for _, low in ejections]
    highs = [begin + int(np.argmax(curve[begin : end + 1])) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    bounds = [*highs[1:], len(curve) - 1]
    lows = [high + int(np.argmin(curve[high : bound + 1])) for high, bound in zip(highs, bounds, strict=True)]
    edv, esv = curve[highs], curve[lows]
    stroke = edv - esv
    spans = list(zip(highs, lows, strict=True))
    near_maximum, near_minimum = edv - NEAR_MAXIMUM * stroke, esv + NEAR_MINIMUM * stroke
    leaves = np.array(
        [_falls_through(clock, curve, *s, level, latest=True) for s, level in zip(spans, near_maximum, strict=True)]
    )
    arrives = np.array([_falls_through(clock, curve, *s, level) for s, level in zip(spans, near_minimum, strict=True)])
    rate = np.clip(60.0 / np.maximum(preceding_rr(arrives), 0.1), SLOWEST_BPM, FASTEST_BPM) - REFERENCE_RATE_BPM
    ed = times[0] + leaves - ED_OFFSET_S - ED_OFFSET_SLOPE_S * rate
    es = times[0] + arrives + es_offset_s + ES_OFFSET_SLOPE_S * rate

    peaks = np.asarray([] if r_s is None else r_s, dtype=np.float64)
    beats: list[Beat] = []
    for index in np.flatnonzero((ed >= times[0] - EDGE_S) & (es <= times[-1])):
        start = max(float(ed[index]), float(times[0]))
        near = peaks[(peaks >= start - R_BEFORE_ED_S) & (peaks <= start + R_AFTER_ED_S)]
        r = float(near[np.argmin(np.abs(near - start))]) if len(near) else None
        beats.append(Beat(start, float(es[index]), float(edv[index]), float(esv[index]), r))
    return tuple(beats)
