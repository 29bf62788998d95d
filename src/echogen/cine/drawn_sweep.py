"""From a drawn line to a signal over time: how it moves through the picture says when each of its columns was recorded.

Machines draw in three manners. The line scrolls to the left, its right end being now; a pen runs to the right and writes over
what it drew one sweep before, behind a gap or a bar; or the whole line stands still and a marker runs along it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echogen.cine.drawn_line import DrawnLine
from echogen.records import ByteArray, SecondsArray

Floats = NDArray[np.float64]

#: A line as long as this, in s, is shown at once.
SWEEPS_S = (0.8, 15.0)
_CHANGED = 60
_SCROLL_LAG_S = 0.2
_LEAST_FRAMES = 6
_CAP = 8.0


@dataclass(frozen=True)
class DrawnSignal:
    """A line as a signal over time.

    times_s: (n,) increasing, on the clock of the cine; height_px: (n,) upwards, in rows. manner: "scrolling", "sweeping" or
    "standing". pixels_per_s: how fast. agreement: share of all frames and columns that show this signal, 0..1. followed: share
    of the frames in which the movement was seen where it should be.
    """

    times_s: Floats
    height_px: Floats
    manner: str
    pixels_per_s: float
    agreement: float
    followed: float


def line_signal(
    line: DrawnLine, frames: ByteArray, times_s: SecondsArray, seconds_per_pixel: float | None = None
) -> DrawnSignal | None:
    """When each column of a line was recorded, from how the line or its marker moves; None where nothing tells.

    frames: (T, H, W, 3), those in which the line was found; times_s: (T,). seconds_per_pixel: as the file states it; taken for
    the speed where the picture agrees.
    """
    if len(times_s) < _LEAST_FRAMES:
        return None
    speed = _scroll_speed(line.row, times_s)
    if speed is not None:
        return _scrolled(line.row, times_s, _stated(speed, seconds_per_pixel))
    return _passed(line, frames, times_s, seconds_per_pixel)


def _stated(measured: float, seconds_per_pixel: float | None) -> float:
    """The stated speed in pixels per s where it is the measured one within 8 %."""
    if seconds_per_pixel is not None and abs(measured * seconds_per_pixel - 1.0) < 0.08:
        return 1.0 / seconds_per_pixel
    return measured


def _mismatch(row: NDArray[np.float32], times_s: SecondsArray, lag: int, speeds: Floats) -> Floats:
    """Mean distance in rows (capped) between frames `lag` apart, the later one moved back by each speed (pixels per s)."""
    first = np.unique(np.linspace(0, len(row) - 1 - lag, 20).astype(int))
    width = row.shape[1]
    costs = []
    for speed in speeds:
        total, count = 0.0, 0
        for k in first:
            shift = round(float(speed * (times_s[k + lag] - times_s[k])))
            if shift >= width - 20:
                continue
            apart = np.abs(row[k + lag, : width - shift] - row[k, shift:])
            both = np.isfinite(apart)
            total += float(np.minimum(apart[both], _CAP).sum())
            count += int(both.sum())
        costs.append(total / count if count > 0.2 * width else np.inf)
    return np.array(costs)


def _scroll_speed(row: NDArray[np.float32], times_s: SecondsArray) -> float | None:
    """Pixels per s to the left, or None for a line that does not scroll."""
    width = row.shape[1]
    step = float(np.median(np.diff(times_s)))
    lag = max(1, round(_SCROLL_LAG_S / step))
    if lag >= len(row) - 2:
        return None
    lag_s = lag * step
    shifts = np.arange(0, int(min(0.45 * width, lag_s * width / SWEEPS_S[0])) + 1)
    cost = _mismatch(row, times_s, lag, shifts / lag_s)
    # A beat further on the line looks alike: of all good matches the first is the movement.
    alike = cost < 0.6 * min(cost[0], float(np.median(cost[np.isfinite(cost)])))
    alike[0] = False
    if not alike.any():
        return None
    best = int(alike.argmax())
    while best + 1 < len(cost) and cost[best + 1] < cost[best]:
        best += 1
    speed, wide = best / lag_s, 1.0 / lag_s
    # Frames further apart tell the speed better, once it is known well enough not to mistake one beat for the next.
    longest = min(len(row) - 2, int(0.6 * width / (speed * step)))
    while 2 * lag <= longest:
        lag *= 2
        grid = speed + np.linspace(-1.0, 1.0, 13) * wide
        cost = _mismatch(row, times_s, lag, grid)
        speed, wide = float(grid[cost <= cost.min() + 0.02].mean()), 0.7 / (lag * step)
    speed = _averaged_speed(row, times_s, max(lag, longest), speed)
    return speed if SWEEPS_S[0] < width / speed < SWEEPS_S[1] else None


def _averaged_speed(row: NDArray[np.float32], times_s: SecondsArray, lag: int, rough: float) -> float:
    """The mean over many pairs of frames of the whole number of columns by which the line moved; machines round each to one."""
    width, measured = row.shape[1], []
    for first in np.unique(np.linspace(0, len(row) - 1 - lag, 40).astype(int)):
        elapsed = float(times_s[first + lag] - times_s[first])
        shifts = round(rough * elapsed) + np.arange(-3, 4)
        shifts = shifts[(shifts > 0) & (shifts < width - 20)]
        costs = []
        for shift in shifts:
            apart = np.abs(row[first + lag, : width - shift] - row[first, shift:])
            costs.append(float(np.nanmean(np.minimum(apart, _CAP))) if np.isfinite(apart).any() else np.inf)
        if costs:
            measured.append(shifts[int(np.argmin(costs))] / elapsed)
    middle = float(np.median(measured)) if measured else rough
    near = [speed for speed in measured if abs(speed - middle) * lag * float(np.median(np.diff(times_s))) < 1.6]
    return float(np.mean(near)) if near else rough


def _scrolled(row: NDArray[np.float32], times_s: SecondsArray, speed: float) -> DrawnSignal:
    drawn = np.isfinite(row)
    usual = np.flatnonzero(drawn.mean(axis=0) > 0.5)
    newest = int(usual.max())
    place = np.arange(row.shape[1])[None] + np.rint(speed * (times_s - times_s[0]))[:, None].astype(int)
    place, value = place[drawn], row[drawn]
    column, middle = _medians(place, value)
    lowest, highest = ndimage.minimum_filter1d(middle, 5) - 2.0, ndimage.maximum_filter1d(middle, 5) + 2.0
    index = np.searchsorted(column, place)
    agreement = float(((value >= lowest[index]) & (value <= highest[index])).mean())
    return DrawnSignal(times_s[0] + (column - newest) / speed, -middle, "scrolling", speed, agreement, 1.0)


def _medians(labels: NDArray[np.int64], values: NDArray[np.float32]) -> tuple[NDArray[np.int64], Floats]:
    """The distinct labels, increasing, and the median of the values of each."""
    order = np.lexsort((values, labels))
    labels, values = labels[order], values[order].astype(np.float64)
    distinct, first, count = np.unique(labels, return_index=True, return_counts=True)
    return distinct, (values[first + (count - 1) // 2] + values[first + count // 2]) / 2.0


@dataclass(frozen=True)
class _Track:
    """Something that runs to the right: it stands at start[n] + speed * t (in columns) in sweep n; followed: share of frames."""

    speed: float
    start: Floats
    followed: float

    def passes(self, columns: NDArray[np.int64]) -> Floats:
        """(sweeps, columns): when it passes each column."""
        return (columns[None] - self.start[:, None]) / self.speed


def _passed(line: DrawnLine, frames: ByteArray, times_s: SecondsArray, seconds_per_pixel: float | None) -> DrawnSignal | None:
    """The signal of a line that stands or is swept over, by the marker or the pen that passes along it."""
    between_s = (times_s[1:] + times_s[:-1]) / 2.0
    block = _beside(line, frames, 3)
    found = _find_track(_redrawn(line.row), between_s) or _find_track(_change(block[1:], block[:-1]), between_s)
    if found is None:
        # A marker may stand under the line; what is that far away may also be another line.
        block = _beside(line, frames, (line.bottom - line.top) // 2 + 4)
        found = _find_track(_change(block[1:], block[:-1]), between_s)
    if found is None:
        return None
    row = _without_marker(line, found, times_s)
    if _rewritten(row, found, times_s):
        track = _pen(row, found, times_s, seconds_per_pixel)
        return None if track is None else _swept(row, track, times_s)
    usual = np.median(block[:: max(1, len(block) // 24)], axis=0).astype(np.uint8)
    track = _marker(_change(block, usual[None]), found, times_s, seconds_per_pixel)
    return None if track is None else _standing(row, track, times_s)


def _beside(line: DrawnLine, frames: ByteArray, rows: int) -> ByteArray:
    """The part of the frames that a line covers, and so many rows above and below."""
    across = slice(line.first_column, line.first_column + line.row.shape[1])
    return frames[:, max(0, line.top - rows) : line.bottom + rows, across]


def _redrawn(row: NDArray[np.float32]) -> Floats:
    """(T - 1, columns): 1 where the line comes, goes or moves from one frame to the next, else 0."""
    drawn = np.isfinite(row)
    moved = np.abs(np.diff(np.where(drawn, row, 0.0), axis=0)) > 2.0
    return (moved | (drawn[1:] != drawn[:-1])).astype(np.float64)


def _change(now: ByteArray, before: ByteArray) -> Floats:
    """(T, columns): how many pixels of each column differ clearly."""
    apart = np.maximum(now, before) - np.minimum(now, before)
    clear = (apart[..., 0] > _CHANGED) | (apart[..., 1] > _CHANGED) | (apart[..., 2] > _CHANGED)
    return clear.sum(axis=1).astype(np.float64)


def _find_track(change: Floats, times_s: SecondsArray) -> _Track | None:
    """The straight run to the right, over and over, on which the change of most frames lies."""
    width = change.shape[1]
    local = np.maximum(change - np.median(change, axis=0), 0.0)
    smooth = ndimage.uniform_filter1d(local, max(3, width // 40), axis=1)
    seen = smooth.max(axis=1) > 0
    if seen.sum() < _LEAST_FRAMES - 1:
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
    if on[best].sum() < max(_LEAST_FRAMES - 1, 0.45 * len(times_s)):
        return None
    start = place[one[best]] - speed[best] * t[one[best]]
    return _fitted(
        t[on[best]], place[on[best]], _Track(float(speed[best]), np.array([start]), float(on[best].sum() / len(times_s))), width
    )


def _fitted(t: SecondsArray, place: Floats, rough: _Track, width: int, seconds_per_pixel: float | None = None) -> _Track:
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
    speed = _stated(speed, seconds_per_pixel)
    for n in range(len(numbers)):
        own = keep & (which == n)
        starts[n] = np.mean((place - speed * t)[own]) if own.any() else starts[n]
    # A sweep of which little was seen starts where its neighbours say.
    few = np.array([(keep & (which == n)).sum() < 4 for n in range(len(numbers))])
    if few.any() and not few.all():
        sure = int(np.flatnonzero(~few)[0])
        starts[few] = starts[sure] - (numbers[few] - numbers[sure]) * width
    order = np.argsort(numbers)
    return _Track(speed, starts[order], rough.followed)


def _without_marker(line: DrawnLine, track: _Track, times_s: SecondsArray) -> NDArray[np.float32]:
    """The rows of a line without the bar or marker of its own colour, which fills columns that are usually low."""
    usual = np.median(line.tall, axis=0)
    tall = line.tall > np.maximum(0.8 * (line.bottom - line.top - 2), 2.0 * usual[None] + 3.0)
    columns = np.arange(line.row.shape[1])
    away = np.abs(track.passes(columns)[:, None, :] - times_s[None, :, None]).min(axis=0) * track.speed
    return np.where(tall & (away < 0.05 * len(columns)), np.nan, line.row)


def _rewritten(row: NDArray[np.float32], track: _Track, times_s: SecondsArray) -> bool:
    """Whether the line differs before and after the track has passed."""
    width = row.shape[1]
    passes = track.passes(np.arange(width))
    clear = max(0.05 * width / track.speed, 3.0 * float(np.median(np.diff(times_s))))
    differ = same = 0
    for own in passes:
        for column in np.flatnonzero((own > times_s[0] + clear) & (own < times_s[-1] - clear)):
            lag = times_s - own[column]
            before = row[(lag < -clear) & (lag > -10 * clear), column]
            after = row[(lag > clear) & (lag < 10 * clear), column]
            before, after = before[np.isfinite(before)], after[np.isfinite(after)]
            if before.size > 2 and after.size > 2:
                changed = abs(float(np.median(before)) - float(np.median(after))) > 2.5
                differ, same = differ + changed, same + (not changed)
    return differ > 0.04 * (differ + same)


def _pen(row: NDArray[np.float32], rough: _Track, times_s: SecondsArray, seconds_per_pixel: float | None) -> _Track | None:
    """The track of the pen: between which two frames each column got the value that it kept."""
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


def _swept(row: NDArray[np.float32], track: _Track, times_s: SecondsArray) -> DrawnSignal:
    width = row.shape[1]
    starts = np.concatenate([[track.start.max() + width], track.start])
    starts = np.sort(np.concatenate([starts, [starts.min() - width]]))[::-1]
    passes = (np.arange(width)[None] - starts[:, None]) / track.speed
    step = float(np.median(np.diff(times_s)))
    drawn = np.isfinite(row)
    frame, column = np.nonzero(drawn)
    # The last pass before the frame wrote what it shows; what is just being written is left out.
    number = np.full(frame.shape, -1)
    for n, own in enumerate(passes):
        number = np.where(times_s[frame] >= own[column] + 0.5 * step, n, number)
    sure = number >= 0
    nearest = np.abs(passes[:, None, :] - times_s[None, :, None]).min(axis=0)[frame, column]
    sure &= nearest > 0.5 * step
    label, middle = _medians((number * width + column)[sure], row[frame, column][sure])
    times = passes[label // width, label % width]
    index = np.searchsorted(label, (number * width + column)[sure])
    agreement = float((np.abs(row[frame, column][sure] - middle[index]) <= 2.5).mean())
    order = np.argsort(times, kind="stable")
    times, middle = times[order], middle[order]
    keep = np.concatenate([[True], np.diff(times) > 1e-6])
    return DrawnSignal(times[keep], -middle[keep], "sweeping", track.speed, agreement, track.followed)


def _marker(change: Floats, rough: _Track, times_s: SecondsArray, seconds_per_pixel: float | None) -> _Track | None:
    """The track of the marker, at the middle of what differs from the usual picture."""
    width = change.shape[1]
    local = np.maximum(change - np.median(change, axis=0), 0.0)
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
    if len(when) < _LEAST_FRAMES:
        return None
    return _fitted(np.array(when), np.array(where), rough, width, seconds_per_pixel)


def _standing(row: NDArray[np.float32], track: _Track, times_s: SecondsArray) -> DrawnSignal | None:
    width = row.shape[1]
    passes = track.passes(np.arange(width))
    away = np.abs(passes[:, None, :] - times_s[None, :, None]).min(axis=0) * track.speed
    clean = np.where(away < 4.0, np.nan, row)
    known = np.isfinite(clean).sum(axis=0) >= 2
    if known.sum() < 0.3 * width:
        return None
    middle = np.nanmedian(clean[:, known], axis=0)
    agreement = float((np.abs(clean[:, known] - middle) <= 2.0).sum() / np.isfinite(clean[:, known]).sum())
    longest = int(np.argmax([((own >= times_s[0]) & (own <= times_s[-1])).sum() for own in passes]))
    times = passes[longest][known]
    return DrawnSignal(times, -np.asarray(middle, dtype=np.float64), "standing", track.speed, agreement, track.followed)
