"""Finding a line that a machine drew across the echo picture (an ECG, a respiration curve) by its colour and its shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from echogen.arrays import ByteArray, Mask
from echogen.cine.sector import find_sector
from echogen.errors import InputError

#: Weights of pixels and columns, in the precision of the pictures.
Weights = NDArray[np.float32]


#: A pixel counts as coloured if its largest and smallest channel differ by this much.
_LEAST_CHROMA = 18
#: A white line is this bright at least.
_LEAST_WHITE = 130
_HUES = 36
_NEAR_HUE = 22.0
#: Share of the full colour from which a pixel belongs to a line.
_FAINTEST = 0.4
_LEAST_WIDTH = 0.25
_LOOKED_AT = 16
_MOST_LINES = 6
#: Share of the picture's rows over which the trace of one lead is drawn at most.
_TALLEST = 0.25
#: Share of a line's colour from which a pixel beside the line belongs to a coloured area, and the share of a line's columns
#: with such pixels beside it from which the line is an area's edge, as of a menu bar, and no trace.
_AREA_COLOUR, _MOST_AREA = 0.35, 0.5


@dataclass(frozen=True)
class DrawnLine:
    """A line across the picture, frame by frame.

    row: (T, columns) float32, where it stands in each column, in rows of the picture from the top; nan where it is not drawn.
    tall: (T, columns) float32, how many rows it covers there. thickness: of its flat parts, in pixels. first_column: of the
    picture. top, bottom: the rows between which it moves. colour: its RGB where it is brightest.
    """

    row: Weights
    tall: Weights
    thickness: float
    first_column: int
    top: int
    bottom: int
    colour: tuple[int, int, int]


def find_lines(frames: ByteArray) -> list[DrawnLine]:
    """The lines drawn across a cine in colour or white, the longest first; empty where there are none.

    frames: (T, H, W, 3) uint8. A line spans a quarter of the picture's width, is thin, and is not straight; it may lie over the
    sector if it is coloured. White lines are looked for where there is no coloured one, outside the sector only.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, _LOOKED_AT).astype(int))
    sample = frames[chosen]
    lines: list[DrawnLine] = []
    for candidates in (_coloured, _white):
        for reference, lit in candidates(sample):
            followed = (_follow(frames, part, reference) for part in _long_parts(lit))
            lines += [line for line in followed if line is not None]
        if lines:
            break
    return sorted(lines, key=lambda line: -line.row.shape[1])[:_MOST_LINES]


def _chroma(pictures: ByteArray) -> tuple[ByteArray, ByteArray]:
    """Largest minus smallest channel of every pixel, and the smallest."""
    red, green, blue = pictures[..., 0], pictures[..., 1], pictures[..., 2]
    smallest = np.minimum(np.minimum(red, green), blue)
    return np.maximum(np.maximum(red, green), blue) - smallest, smallest


def _hue(pixels: Weights) -> Weights:
    """Angle on the colour circle in degrees, of (n, 3) pixels."""
    red, green, blue = pixels.T
    return np.asarray(np.degrees(np.arctan2(np.sqrt(3.0) * (green - blue), 2.0 * red - green - blue)) % 360.0, dtype=np.float32)


def _enough(sample: ByteArray) -> float:
    """Pixels of the shortest and thinnest line in all frames, of which half may be missing."""
    return 0.5 * _LEAST_WIDTH * sample.shape[2] * len(sample)


def _coloured(sample: ByteArray) -> list[tuple[Weights, Mask]]:
    """Colours that occur often, as the RGB of their brightest pixels, and where they are, (T, H, W)."""
    chroma, _ = _chroma(sample)
    at = np.nonzero(chroma > _LEAST_CHROMA)
    enough = _enough(sample)
    found = []
    if len(at[0]) > enough:
        pixels = sample[at].astype(np.float32)
        strength = chroma[at].astype(np.float32)
        hue = _hue(pixels)
        counts = np.bincount((hue * _HUES / 360.0).astype(int) % _HUES, minlength=_HUES).astype(np.float64)
        smooth = ndimage.gaussian_filter1d(counts, 1.0, mode="wrap")
        peaks = np.flatnonzero((smooth >= np.roll(smooth, 1)) & (smooth > np.roll(smooth, -1)) & (3 * smooth > enough))
        for peak in peaks[np.argsort(-smooth[peaks])][:_MOST_LINES]:
            away = np.abs((hue - (peak + 0.5) * 360.0 / _HUES + 180.0) % 360.0 - 180.0)
            near = away < _NEAR_HUE
            full = np.percentile(strength[near], 90)
            reference = pixels[near & (strength >= full)].mean(axis=0)
            lit = np.zeros(sample.shape[:3], dtype=bool)
            chosen = near & (strength > max(_LEAST_CHROMA, _FAINTEST * full))
            lit[at[0][chosen], at[1][chosen], at[2][chosen]] = True
            found.append((reference, lit))
    return found


def _white(sample: ByteArray) -> list[tuple[Weights, Mask]]:
    """White, as `_coloured`, outside the sector; nothing in a picture without one."""
    chroma, smallest = _chroma(sample)
    white = (smallest > _LEAST_WHITE) & (chroma < _LEAST_CHROMA)
    try:
        sector = find_sector(smallest)
    except InputError:
        return []
    height, width = white.shape[1:]
    white &= ~sector.inside(height, width, margin=0.02 * sector.radius)
    if white.sum() <= _enough(sample):
        return []
    full = float(np.percentile(smallest[white], 90))
    return [(np.full(3, full, dtype=np.float32), white & (smallest > 0.6 * full))]


def _long_parts(lit: Mask) -> list[Mask]:
    """The connected parts, over all frames, that are long, thin in each frame, and not straight; each (H, W), a little wider."""
    height, width = lit.shape[1:]
    reach = max(2, width // 120)
    seen = ndimage.binary_dilation(lit.any(axis=0), structure=np.ones((3, 2 * reach + 1)))
    labels, count = ndimage.label(seen, structure=np.ones((3, 3)))
    thickness = np.zeros(count + 1)
    boxes = ndimage.find_objects(labels)
    for number, box in enumerate(boxes, start=1):
        if box[1].stop - box[1].start > max(0.03 * width, 4 * reach):
            inside = (lit[:, box[0], box[1]] & (labels[box] == number)).sum(axis=1)
            thickness[number] = np.median(inside[inside > 0])
    parts = []
    for group in _in_a_row(boxes, thickness, 0.04 * width, 3 * reach):
        part = np.isin(labels, group + _short_pieces(boxes, group, 2 * reach, _TALLEST * height))
        columns = np.flatnonzero(part.any(axis=0))
        rows = np.flatnonzero(part.any(axis=1))
        thick = float(thickness[group].max())
        moves = rows[-1] - rows[0] - 1 - thick
        drawn = (lit[:, :, columns[0] : columns[-1] + 1] & part[:, columns[0] : columns[-1] + 1]).any(axis=1)
        long = len(columns) >= _LEAST_WIDTH * width and float(drawn.mean()) > 0.4
        if long and thick <= 0.02 * height + 3 and moves >= max(4.0, 1.5 * thick):
            parts.append(part)
    return parts


def _in_a_row(boxes: list[tuple[slice, slice]], thickness: NDArray[np.float64], gap: float, overlap: int) -> list[list[int]]:
    """Numbers of parts (of thickness above 0) that follow each other from left to right on the same rows: pieces of one line.

    gap, overlap: How many columns may lie between two pieces, and how many they may share. Text of the same colour beside a
        line is thicker than the line.
    """
    rest = sorted((number for number in range(1, len(thickness)) if thickness[number] > 0), key=lambda n: boxes[n - 1][1].start)
    groups: list[list[int]] = []
    for number in rest:
        rows, columns = boxes[number - 1]
        for group in groups:
            before, end = boxes[group[-1] - 1]
            alike = (
                thickness[number] <= 1.5 * thickness[group[-1]] + 0.5 and thickness[group[-1]] <= 1.5 * thickness[number] + 0.5
            )
            if alike and -overlap <= columns.start - end.stop < gap and rows.start < before.stop and before.start < rows.stop:
                group.append(number)
                break
        else:
            groups.append([number])
    return groups


def _short_pieces(boxes: list[tuple[slice, slice]], group: list[int], gap: int, tallest: float) -> list[int]:
    """Numbers of the pieces, such as steep strokes, on the rows of a group and within `gap` columns of it.

    None for a group of more than `tallest` rows, on which the sector stands as well.
    """
    top, bottom = min(boxes[n - 1][0].start for n in group), max(boxes[n - 1][0].stop for n in group)
    left, right = min(boxes[n - 1][1].start for n in group), max(boxes[n - 1][1].stop for n in group)
    return [
        number
        for number, (rows, columns) in enumerate(boxes, start=1)
        if rows.start >= top - 2 and rows.stop <= bottom + 2 and columns.start < right + gap and columns.stop > left - gap
        if bottom - top <= tallest
    ]


def _weights(block: ByteArray, reference: Weights) -> Weights:
    """Share of the line's colour in each pixel: 1 the full colour, 0 another hue, grey or black."""
    pixels = block.astype(np.float32)
    own = reference - reference.min()
    strength = float(np.linalg.norm(own))
    if strength < _LEAST_CHROMA:
        return np.asarray(pixels.min(axis=-1) / reference.min(), dtype=np.float32)
    direction = own / strength
    pixels -= pixels.min(axis=-1, keepdims=True)
    along = pixels @ direction
    across = np.sqrt(np.maximum((pixels**2).sum(axis=-1) - along**2, 0.0))
    return np.asarray(np.clip((along - across) / strength, 0.0, 1.2), dtype=np.float32)


def _follow(frames: ByteArray, part: Mask, reference: Weights) -> DrawnLine | None:
    """The line within a part of the picture, in every frame and column."""
    rows, columns = ndimage.find_objects(part.astype(np.uint8))[0]
    weight = _weights(frames[:, rows, columns], reference) * part[rows, columns]
    highest = weight.max(axis=1, keepdims=True)
    lit = (weight > 0.5 * highest) & (highest > _FAINTEST * 0.75)
    lit[:, 1:-1] |= lit[:, :-2] & lit[:, 2:]
    lit = _heaviest_run(lit, weight)
    weight = weight * lit
    tall = lit.sum(axis=1).astype(np.float32)
    drawn = tall > 0
    used = np.flatnonzero(drawn.any(axis=0))
    if drawn.mean() < 0.3:
        return None
    down = np.arange(weight.shape[1], dtype=np.float32)[:, None]
    total = weight.sum(axis=1)
    centre = (weight * down).sum(axis=1) / np.where(total > 0, total, 1.0)
    thickness = float(np.median(tall[drawn]))
    first, last = lit.argmax(axis=1), weight.shape[1] - 1 - lit[:, ::-1].argmax(axis=1)
    base = float(np.median(centre[drawn]))
    half = (thickness - 1.0) / 2.0
    # A steep stroke fills its column; the line's way through it ends at the far side.
    extreme = np.where(base - first >= last - base, first + half, last - half)
    row = np.where(tall > 1.8 * thickness + 1.0, extreme, centre) + rows.start
    row = np.where(drawn, row, np.nan).astype(np.float32)
    colour = (int(reference[0]), int(reference[1]), int(reference[2]))
    ends = slice(int(used[0]), int(used[-1]) + 1)
    line = DrawnLine(row[:, ends], tall[:, ends], thickness, columns.start + ends.start, rows.start, rows.stop, colour)
    return None if _edge_of_area(frames, line, reference) else line


def _edge_of_area(frames: ByteArray, line: DrawnLine, reference: Weights) -> bool:
    """True for a line along most of which its colour goes on beside it: the edge of a menu bar or of a coloured panel."""
    away = int(np.ceil(line.thickness / 2.0)) + 2
    beside: list[Weights] = []
    for number in np.unique(np.linspace(0, len(frames) - 1, _LOOKED_AT // 2).astype(int)):
        drawn = np.flatnonzero(np.isfinite(line.row[number]))
        rows = np.rint(line.row[number, drawn]).astype(int)
        sides = np.clip(np.stack([rows - away, rows + away]), 0, frames.shape[1] - 1)
        beside.append(_weights(frames[number, sides, drawn + line.first_column], reference).max(axis=0))
    return float((np.concatenate(beside) > _AREA_COLOUR).mean()) > _MOST_AREA


def _heaviest_run(lit: Mask, weight: Weights) -> Mask:
    """Keep of the runs of lit pixels in each column the one with most weight; lit, weight: (T, rows, columns)."""
    starts = lit.copy()
    starts[:, 1:] &= ~lit[:, :-1]
    number = np.cumsum(starts, axis=1, dtype=np.int16)
    most = int(number[:, -1].max())
    if most <= 1:
        return lit
    heaviest = np.zeros(number.shape[::2], dtype=np.int16)
    best = np.zeros(heaviest.shape, dtype=np.float32)
    for run in range(1, most + 1):
        its = (weight * (lit & (number == run))).sum(axis=1)
        heaviest, best = np.where(its > best, run, heaviest), np.maximum(best, its)
    return lit & (number == heaviest[:, None])
