"""Tracks along a drawn line: the pen that writes it, or the marker that says which moment the picture shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echogen.arrays import ByteArray, Floats
from echogen.records import SecondsArray

#: Shortest and longest duration of a line's whole width, in s.
SWEEPS_S = (0.8, 15.0)
LEAST_FRAMES = 6
_CHANGED = 60


@dataclass(frozen=True)
class Track:
    """Something that runs to the right: it stands at start[n] + speed * t (in columns) in sweep n; followed: share of frames."""

    speed: float
    start: Floats
    followed: float

    def passes(self, columns: NDArray[np.int64]) -> Floats:
        """(sweeps, columns): when it passes each column."""
        return (columns[None] - self.start[:, None]) / self.speed


def stated_speed(measured: float, seconds_per_pixel: float | None) -> float:
    """The stated speed in pixels per s where it is the measured one within 8 %, else the measured one."""
    if seconds_per_pixel is not None and abs(measured * seconds_per_pixel - 1.0) < 0.08:
        return 1.0 / seconds_per_pixel
    return measured


def redrawn(row: NDArray[np.float32]) -> Floats:
    """(T - 1, columns): 1 where the line comes, goes or moves from one frame to the next, else 0."""
    drawn = np.isfinite(row)
    moved = np.abs(np.diff(np.where(drawn, row, 0.0), axis=0)) > 2.0
    return (moved | (drawn[1:] != drawn[:-1])).astype(np.float64)


def changed_pixels(now: ByteArray, before: ByteArray) -> Floats:
    """(T, columns): how many pixels of each column differ clearly."""
    apart = np.maximum(now, before) - np.minimum(now, before)
    clear = (apart[..., 0] > _CHANGED) | (apart[..., 1] > _CHANGED) | (apart[..., 2] > _CHANGED)
    return clear.sum(axis=1).astype(np.float64)


def find_track(changes: Floats, times_s: SecondsArray) -> Track | None:
    """The straight run to the right, over and over, on which the change of most frames lies; None where there is none.

    changes: (T, columns), how much changed in each column; times_s: (T,).
    """
    width = changes.shape[1]
    # What runs by changes a column now and then; columns that flicker all the time tell little.
    local = changes / (0.1 + (changes > 0).mean(axis=0))
    smooth = ndimage.uniform_filter1d(local, max(3, width // 40), axis=1)
    seen = smooth.max(axis=1) > 0
    if seen.sum() < LEAST_FRAMES - 1:
        return None
    t, place = times_s[seen], smooth[seen].argmax(axis=1).astype(np.float64)
    one, two = np.triu_indices(len(t), 1)
    near = two - one <= 12
    one, two = one[near], two[near]
    speed = (place[two] - place[one]) / (t[two] - t[one])
    possible = (speed > width / SWEEPS_S[1]) & (speed < width / SWEEPS_S[0])
    one, speed = one[possible], speed[possible]
    if not speed.size:
        return None
    most = np.unique(np.linspace(0, len(speed) - 1, 1500).astype(int))
    one, speed = one[most], speed[most]
    off = place[None] - place[one, None] - speed[:, None] * (t[None] - t[one, None])
    off = (off + width / 2.0) % width - width / 2.0
    within = max(3.0, 0.03 * width)
    on = np.abs(off) < within
    best = int(on.sum(axis=1).argmax())
    if on[best].sum() < max(LEAST_FRAMES - 1, 0.45 * len(times_s)):
        return None
    start = place[one[best]] - speed[best] * t[one[best]]
    return _fitted(
        t[on[best]], place[on[best]], Track(float(speed[best]), np.array([start]), float(on[best].sum() / len(times_s))), width
    )


def _fitted(t: SecondsArray, place: Floats, rough: Track, width: int, seconds_per_pixel: float | None = None) -> Track:
    """Speed and starts by least squares without outliers; sweeps are told apart by the rough track and start separately."""
    sweep = np.rint((rough.start[0] + rough.speed * t - place) / width).astype(int)
    numbers, which = np.unique(sweep, return_inverse=True)
    keep = np.ones(len(t), dtype=bool)
    speed, starts = rough.speed, np.zeros(len(numbers))
    for _ in range(4):
        for n in range(len(numbers)):
            own = keep & (which == n)
            starts[n] = np.median((place - speed * t)[own if own.any() else which == n])
        centred_t, centred = t.copy(), place.copy()
        for n in range(len(numbers)):
            own = which == n
            centred_t[own] -= t[own & keep].mean() if (own & keep).any() else t[own].mean()
            centred[own] -= place[own & keep].mean() if (own & keep).any() else place[own].mean()
        spread = float((centred_t[keep] ** 2).sum())
        if spread > 0:
            speed = float((centred_t[keep] * centred[keep]).sum() / spread)
        off = np.abs(place - starts[which] - speed * t)
        keep = off <= max(1.0, 2.5 * float(np.median(off)))
    if abs(speed / rough.speed - 1.0) > 0.3:
        speed = rough.speed
    speed = stated_speed(speed, seconds_per_pixel)
    for n in range(len(numbers)):
        own = keep & (which == n)
        starts[n] = np.mean((place - speed * t)[own]) if own.any() else starts[n]
    # A sweep of which little was seen starts where its neighbours say.
    few = np.array([(keep & (which == n)).sum() < 4 for n in range(len(numbers))])
    if few.any() and not few.all():
        sure = int(np.flatnonzero(~few)[0])
        starts[few] = starts[sure] - (numbers[few] - numbers[sure]) * width
    order = np.argsort(numbers)
    return Track(speed, starts[order], rough.followed)


def pen_track(row: NDArray[np.float32], rough: Track, times_s: SecondsArray, seconds_per_pixel: float | None) -> Track | None:
    """The track of the pen: between which two frames each column of a line (T, columns) got the value that it kept."""
    width, step = row.shape[1], float(np.median(np.diff(times_s)))
    window_s = 0.06 * width / rough.speed + 4 * step
    when, where = [], []
    for own in rough.passes(np.arange(width)):
        for column in np.flatnonzero((own > times_s[0]) & (own < times_s[-1])):
            first, last = np.searchsorted(times_s, [own[column] - window_s, own[column] + window_s])
            values = row[first : min(last, len(row)), column]
            later = values[len(values) * 2 // 3 :]
            if len(values) < 4 or np.isfinite(later).sum() < 2:
                continue
            kept = np.abs(values - np.nanmedian(later)) < 2.0
            start = len(kept) - int((~kept[::-1]).argmax()) if (~kept).any() else 0
            if 0 < start < len(kept):
                when.append((times_s[first + start - 1] + times_s[first + start]) / 2.0)
                # Those written between two frames lie around the middle, and a column more, of where the pen was then.
                where.append(column - 0.5)
    if len(when) < 10:
        return None
    return _fitted(np.array(when), np.array(where, dtype=np.float64), rough, width, seconds_per_pixel)


def marker_track(changes: Floats, rough: Track, times_s: SecondsArray, seconds_per_pixel: float | None) -> Track | None:
    """The track of the marker, at the middle of what differs (T, columns) from the usual picture."""
    width = changes.shape[1]
    local = np.maximum(changes - np.median(changes, axis=0), 0.0)
    columns = np.arange(width)
    reach = max(6.0, 0.02 * width)
    when, where = [], []
    for number, t in enumerate(times_s):
        for expected in rough.start + rough.speed * t:
            weight = local[number] * (np.abs(columns - expected) <= reach)
            if weight.sum() > 0:
                # The sharpest part: what moves under the line elsewhere is left out.
                weight = np.where(weight >= 0.5 * weight.max(), weight, 0.0)
                when.append(t)
                where.append(float((weight * columns).sum() / weight.sum()))
    if len(when) < LEAST_FRAMES:
        return None
    return _fitted(np.array(when), np.array(where), rough, width, seconds_per_pixel)
