"""Frame times: the uniform rate behind them, rates that no echo has, and other rates by interpolation."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

import numpy as np

from echogen.errors import InputError
from echogen.records import Cine, SecondsArray

#: Times in s that lie this near to a uniform grid count as uniform.
UNIFORM_WITHIN_S = 1e-4
#: Frames per second with which a still is written.
_RATE_OF_A_STILL = Fraction(25)
#: Frames per second below which no beat can be followed: two frames a beat at 120 beats a minute.
SLOWEST_HZ = 4.0
#: Frames per second above which no echocardiogram is recorded: focused beams reach some hundred.
FASTEST_HZ = 1000.0
#: Rates of this range are suggested where a wrong unit would explain an impossible rate.
_USUAL_HZ = (10.0, 200.0)
#: Fewest frames whose rate is judged: two may be the stills of end-diastole and end-systole.
_FEWEST_JUDGED = 3
#: A pause is an interval of more than this many usual ones, and more than so many seconds.
_PAUSE_INTERVALS, _PAUSE_S = 3.0, 0.2
#: Advice of every sentence about unknown or impossible times.
ASK_FOR_RATE = "give the frame rate with --fps (fps= in Python)"


def check_fps(fps: float | None) -> None:
    """Refuse a frame rate that is not a positive number of Hz; None is no rate. Raises `InputError`."""
    if fps is not None and not (math.isfinite(fps) and fps > 0):
        raise InputError(f"The frame rate must be a positive number of frames per second, not {fps}.")


def usual_interval(times_s: SecondsArray) -> float:
    """Median interval in s of frame times (T,), T >= 2; of so few numbers found faster than by `numpy.median`."""
    steps = times_s[1:] - times_s[:-1]
    steps.sort()
    middle = len(steps) // 2
    return float(steps[middle]) if len(steps) % 2 else float(steps[middle - 1] + steps[middle]) / 2.0


def is_plausible(times_s: SecondsArray) -> bool:
    """True where the median interval of frame times (T,) in s fits an echocardiogram, or where there are too few to judge."""
    if len(times_s) < _FEWEST_JUDGED:
        return True
    return SLOWEST_HZ <= 1.0 / usual_interval(times_s) <= FASTEST_HZ


def check_times(cine: Cine, name: str) -> Cine:
    """A cine as read from a file, with a note about a pause of its clock, if there is one.

    name: how messages call the file. Raises `InputError` for a rate that no echocardiogram has, with the option that helps.
    """
    if not is_plausible(cine.times_s):
        rate = cine.fps
        usual = [rate * factor for factor in (1e3, 1e6, 1e-3, 1e-6) if _USUAL_HZ[0] <= rate * factor <= _USUAL_HZ[1]]
        hint = f", {usual[0]:.5g} if its times are in another unit than they should be" if usual else ""
        stated = f"{rate:.0f}" if rate >= SLOWEST_HZ else f"{rate:.3g}"
        raise InputError(f"{name} states {stated} frames/s, which no echocardiogram has; {ASK_FOR_RATE}{hint}.")
    if len(cine.times_s) < _FEWEST_JUDGED:
        return cine
    steps = cine.times_s[1:] - cine.times_s[:-1]
    longest = int(np.argmax(steps))
    if steps[longest] <= max(_PAUSE_INTERVALS * usual_interval(cine.times_s), _PAUSE_S):
        return cine
    pause = f"The clock of {name} jumps by {steps[longest]:.2f} s after frame {longest + 1}; if no time is missing there, "
    return replace(cine, notes=(*cine.notes, f"{pause}{ASK_FOR_RATE}."))


def steady_times(
    stamps_s: SecondsArray, tick_s: float, stated_hz: Iterable[float] = (), *, simplest: bool = True
) -> SecondsArray:
    """Frame times freed from the rounding of the clock that stamped them, starting at 0 s.

    stamps_s: (T,) increasing, each rounded to whole ticks of tick_s seconds. stated_hz: rates that the file names. Where all
    stamps lie within one tick of a uniform grid, the times are those of that grid: of a stated rate, else of the simplest rate
    (0, 17, 33, 50 ms are 60 frames/s, not 58.8), or of the mean rate where not `simplest`. Other stamps come back as they are.
    """
    elapsed = np.asarray(stamps_s - stamps_s[0], dtype=np.float64)
    count = len(elapsed)
    if count < 3:
        return elapsed
    numbers, mean = np.arange(count), (count - 1) / float(elapsed[-1])
    slack = tick_s * 1.001 + 1e-9
    slowest = (count - 1) / float(elapsed[-1] + slack)
    fastest = (count - 1) / max(float(elapsed[-1] - slack), 1e-9)
    uniform = np.abs(numbers / mean - elapsed).max() < 1e-9
    simple = (_simplest(slowest, fastest, denominator) for denominator in (1, 1001, 2, 10, 100))
    guesses = (mean,) if uniform or not simplest else simple
    for rate in (*stated_hz, *guesses):
        if rate and slowest <= rate <= fastest and np.abs(numbers / rate - elapsed).max() <= slack:
            return np.asarray(numbers / rate, dtype=np.float64)
    return elapsed


def _simplest(slowest: float, fastest: float, denominator: int) -> float | None:
    """The multiple of 1 / denominator (of 1000 / 1001 for 1001) nearest to the middle of a range in Hz, if it has one."""
    unit = 1000.0 / 1001.0 if denominator == 1001 else 1.0 / denominator
    rate = round((slowest + fastest) / 2.0 / unit) * unit
    return rate if slowest <= rate <= fastest else None


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
    check_fps(fps)
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
