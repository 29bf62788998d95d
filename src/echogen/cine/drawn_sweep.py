"""From a drawn line to a signal over time: how it moves through the picture says when each of its columns was recorded.

Machines draw in three manners. The line scrolls to the left, its right end being now; a pen runs to the right and writes over
what it drew one sweep before, behind a gap or a bar; or the whole line stands still and a marker runs along it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echogen.arrays import ByteArray, Floats
from echogen.cine.drawn_line import DrawnLine
from echogen.cine.drawn_track import (
    LEAST_FRAMES,
    SWEEPS_S,
    Track,
    changed_pixels,
    find_track,
    marker_track,
    pen_track,
    redrawn,
    stated_speed,
)
from echogen.records import SecondsArray

_SCROLL_LAG_S = 0.2
_CAP = 8.0
#: Distance in rows by which a line may differ between frames and still show the same.
_LEAST_TOLERANCE = 2.5


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
    """Times at which each column of a line was recorded, from the movement of the line or its marker; None where nothing tells.

    frames: (T, H, W, 3), those in which the line was found; times_s: (T,). seconds_per_pixel: as the file states it; taken for
    the speed where the picture agrees.
    """
    if len(times_s) < LEAST_FRAMES:
        return None
    speed = _scroll_speed(line.row, times_s)
    if speed is not None:
        return _scrolled(line.row, times_s, stated_speed(speed, seconds_per_pixel))
    return _passed(line, frames, times_s, seconds_per_pixel)


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


def _passed(line: DrawnLine, frames: ByteArray, times_s: SecondsArray, seconds_per_pixel: float | None) -> DrawnSignal | None:
    """The signal of a line that stands or is swept over, by the marker or the pen that passes along it."""
    between_s = (times_s[1:] + times_s[:-1]) / 2.0
    block = _beside(line, frames, 3)
    found = find_track(redrawn(line.row), between_s) or find_track(changed_pixels(block[1:], block[:-1]), between_s)
    if found is None:
        # A marker may stand under the line; what is that far away may also be another line.
        block = _beside(line, frames, (line.bottom - line.top) // 2 + 4)
        found = find_track(changed_pixels(block[1:], block[:-1]), between_s)
    if found is None:
        return None
    row = _without_marker(line, found, times_s)
    # A thick line is followed, and stands, less exactly than a thin one.
    tolerance = max(_LEAST_TOLERANCE, 0.5 * line.thickness)
    if _rewritten(row, found, times_s, tolerance):
        track = pen_track(row, found, times_s, seconds_per_pixel)
        return None if track is None else _swept(row, track, times_s, tolerance)
    usual = np.median(block[:: max(1, len(block) // 24)], axis=0).astype(np.uint8)
    track = marker_track(changed_pixels(block, usual[None]), found, times_s, seconds_per_pixel)
    return None if track is None else _standing(row, track, times_s, tolerance)


def _beside(line: DrawnLine, frames: ByteArray, rows: int) -> ByteArray:
    """The part of the frames that a line covers, and so many rows above and below."""
    across = slice(line.first_column, line.first_column + line.row.shape[1])
    return frames[:, max(0, line.top - rows) : line.bottom + rows, across]


def _without_marker(line: DrawnLine, track: Track, times_s: SecondsArray) -> NDArray[np.float32]:
    """The rows of a line without the bar or marker of its own colour, which fills columns that are usually low."""
    usual = np.median(line.tall, axis=0)
    tall = line.tall > np.maximum(0.8 * (line.bottom - line.top - 2), 2.0 * usual[None] + 3.0)
    columns = np.arange(line.row.shape[1])
    away = np.abs(track.passes(columns)[:, None, :] - times_s[None, :, None]).min(axis=0) * track.speed
    return np.where(tall & (away < 0.05 * len(columns)), np.nan, line.row)


def _rewritten(row: NDArray[np.float32], track: Track, times_s: SecondsArray, tolerance: float) -> bool:
    """True if the line differs before and after the track has passed, or is drawn by it for the first time."""
    width = row.shape[1]
    passes = track.passes(np.arange(width))
    clear = max(0.05 * width / track.speed, 3.0 * float(np.median(np.diff(times_s))))
    differ = same = first = 0
    for own in passes:
        for column in np.flatnonzero((own > times_s[0] + clear) & (own < times_s[-1] - clear)):
            lag = times_s - own[column]
            before = row[(lag < -clear) & (lag > -10 * clear), column]
            after = row[(lag > clear) & (lag < 10 * clear), column]
            if before.size > 2 and after.size > 2 and not np.isfinite(before).any() and np.isfinite(after).all():
                first += 1
            before, after = before[np.isfinite(before)], after[np.isfinite(after)]
            # A line over moving tissue is not followed well enough there to tell.
            if before.size > 2 and after.size > 2 and max(float(before.std()), float(after.std())) < 2.0:
                changed = abs(float(np.median(before)) - float(np.median(after))) > tolerance
                differ, same = differ + changed, same + (not changed)
    return differ > 0.04 * (differ + same) or first > differ + same


def _swept(row: NDArray[np.float32], track: Track, times_s: SecondsArray, tolerance: float) -> DrawnSignal:
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
    agreement = float((np.abs(row[frame, column][sure] - middle[index]) <= tolerance).mean())
    order = np.argsort(times, kind="stable")
    times, middle = times[order], middle[order]
    keep = np.concatenate([[True], np.diff(times) > 1e-6])
    return DrawnSignal(times[keep], -middle[keep], "sweeping", track.speed, agreement, track.followed)


def _standing(row: NDArray[np.float32], track: Track, times_s: SecondsArray, tolerance: float) -> DrawnSignal | None:
    width = row.shape[1]
    passes = track.passes(np.arange(width))
    away = np.abs(passes[:, None, :] - times_s[None, :, None]).min(axis=0) * track.speed
    clean = np.where(away < 4.0, np.nan, row)
    known = np.isfinite(clean).sum(axis=0) >= 2
    if known.sum() < 0.3 * width:
        return None
    middle = np.nanmedian(clean[:, known], axis=0)
    agreement = float((np.abs(clean[:, known] - middle) <= tolerance).sum() / np.isfinite(clean[:, known]).sum())
    longest = int(np.argmax([((own >= times_s[0]) & (own <= times_s[-1])).sum() for own in passes]))
    times = passes[longest][known]
    return DrawnSignal(times, -np.asarray(middle, dtype=np.float64), "standing", track.speed, agreement, track.followed)
