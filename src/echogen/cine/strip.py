"""Drawing: the ECG strip under a video with its moving cursor, and the filmstrip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from echogen.arrays import ByteArray
from echogen.errors import InputError
from echogen.records import Cine, Ecg

#: The longest stretch of ECG shown at once, in s; longer clips scroll.
WINDOW_S = 6.0
#: Place of the cursor in a scrolling window, as a share of its width.
CURSOR_SHARE = 0.75

BACKGROUND = (5, 7, 9)
GRID = (24, 30, 33)
SECOND_LINE = (46, 56, 60)
TRACE = (98, 232, 148)
R_MARK = (240, 178, 74)
FRAME_MARK = (120, 190, 255)
CURSOR = (245, 245, 245)
TEXT = (172, 182, 188)
#: Brightness of the part that the cursor has not reached yet.
AHEAD = 0.5

_FINER = 3
_GRID_S, _GRID_MV = 0.2, 0.5
_LEAST_CELL, _MOST_CELL, _GAP = 192, 256, 4

Colour = tuple[int, int, int]


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


def heart_rate_at(r_s: NDArray[np.float64], time_s: float) -> float | None:
    """60 / the RR interval around a time (the nearest one before the first or after the last R peak), in bpm; None below two."""
    if len(r_s) < 2:
        return None
    beat = int(np.clip(np.searchsorted(r_s, time_s, side="right") - 1, 0, len(r_s) - 2))
    return float(60.0 / (r_s[beat + 1] - r_s[beat]))


@dataclass(frozen=True)
class Layout:
    """Rows of a strip in pixels: a line of text, the trace, and the seconds under it."""

    width: int
    height: int

    @property
    def text_size(self) -> int:
        """Font size in pixels."""
        return int(np.clip(round(self.height * 0.12), 9, 20))

    @property
    def trace_top(self) -> int:
        """First row of the trace; the R marks stand between it and the text."""
        return round(self.text_size * 1.6) + 4

    @property
    def trace_bottom(self) -> int:
        """Row below the trace."""
        return self.height - self.text_size - 4

    @property
    def line_width(self) -> int:
        """Width of the cursor in pixels."""
        return max(1, round(self.width / 640))


class EcgStrip:
    """One lead of an ECG drawn as a strip for the time from start_s to end_s.

    A stretch of at most `WINDOW_S` is shown whole; a longer one scrolls under a cursor. lead: name of the lead (None: II,
    else the first). r_s: R peaks in s, marked above the trace. label: a word for the corner, such as "synthetic".
    frame_marks_s: times marked at the lower edge. Raises `InputError` where the ECG does not overlap that time at all.
    """

    def __init__(
        self,
        ecg: Ecg,
        *,
        start_s: float,
        end_s: float,
        width: int,
        height: int,
        lead: str | None = None,
        r_s: ArrayLike = (),
        label: str | None = None,
        frame_marks_s: ArrayLike = (),
        window_s: float = WINDOW_S,
    ) -> None:
        if ecg.end_s <= start_s or ecg.start_s >= end_s:
            raise InputError(
                f"The ECG covers {ecg.start_s:.2f} s to {ecg.end_s:.2f} s and the video {start_s:.2f} s to {end_s:.2f} s; "
                "give an ECG of the same time."
            )
        self.lead = lead or next((name for name in ecg.lead_names if name.upper() in ("II", "MLII")), ecg.lead_names[0])
        shown = ecg.between(start_s - 1.0, end_s + 1.0)
        self.signal_mv = shown.lead(self.lead) - np.median(shown.lead(self.lead))
        self.times_s = shown.times_s
        low, high = np.percentile(self.signal_mv, (0.1, 99.9))
        low, high = min(float(low), -0.3), max(float(high), 0.7)
        self.low_mv, self.high_mv = low - 0.08 * (high - low), high + 0.08 * (high - low)
        self.r_s = np.sort(np.asarray(r_s, dtype=np.float64))
        self.frame_marks_s = np.asarray(frame_marks_s, dtype=np.float64)
        self.label = label
        self.start_s, self.end_s = start_s, end_s
        self.span_s = min(end_s - start_s, window_s)
        self.layout = Layout(width, height)
        self._pixels_per_s = width / self.span_s
        self._tiles: dict[int, ByteArray] = {}

    def _offset(self, time_s: float) -> int:
        """Number of pixels by which the window at a time is scrolled to the left."""
        first = np.clip(time_s - CURSOR_SHARE * self.span_s, self.start_s, self.end_s - self.span_s)
        return round(float(first - self.start_s) * self._pixels_per_s)

    def cursor_column(self, time_s: float) -> int:
        """The pixel column of a time in the strip drawn for that time."""
        column = int(np.floor((time_s - self.start_s) * self._pixels_per_s + 1e-6)) - self._offset(time_s)
        return int(np.clip(column, 0, self.layout.width - 1))

    def draw(self, time_s: float | None = None) -> ByteArray:
        """The strip at one moment, (height, width, 3) uint8 RGB; without a time the whole window without a cursor."""
        offset = 0 if time_s is None else self._offset(time_s)
        index, shift = divmod(offset, self.layout.width)
        picture = self._tile(index)
        if shift:
            picture = np.concatenate([picture[:, shift:], self._tile(index + 1)[:, :shift]], axis=1)
        picture = picture.copy()
        if time_s is not None:
            rows = slice(self.layout.trace_top - 2, self.layout.height)
            column, thick = self.cursor_column(time_s), self.layout.line_width
            ahead = picture[rows, column + thick :]
            picture[rows, column + thick :] = (ahead * AHEAD + np.array(BACKGROUND) * (1 - AHEAD)).astype(np.uint8)
            picture[rows.start : self.layout.trace_bottom + 2, column : column + thick] = CURSOR
        return self._with_text(picture, time_s)

    def _with_text(self, picture: ByteArray, time_s: float | None) -> ByteArray:
        image = Image.fromarray(picture)
        pen, font = ImageDraw.Draw(image), _font(self.layout.text_size)
        left = f"{self.lead}   {self.label}" if self.label else self.lead
        pen.text((6, 2), left, fill=TEXT, font=font)
        if time_s is None:
            rate = 60.0 / float(np.median(np.diff(self.r_s))) if len(self.r_s) > 1 else None
        else:
            rate = heart_rate_at(self.r_s, time_s)
        right = [] if rate is None else [f"{rate:.0f} bpm"]
        if time_s is not None:
            right.append(f"{time_s:.2f} s")
        pen.text((self.layout.width - 6, 2), "   ".join(right), fill=TEXT, font=font, anchor="ra")
        return np.asarray(image)

    def _tile(self, index: int) -> ByteArray:
        """The strip without text and cursor from start_s + index * span_s on, one window wide; the last few are kept."""
        if index not in self._tiles:
            if len(self._tiles) >= 3:
                self._tiles.pop(next(iter(self._tiles)))
            self._tiles[index] = self._drawn_tile(self.start_s + index * self.span_s)
        return self._tiles[index]

    def _drawn_tile(self, first_s: float) -> ByteArray:
        layout, k = self.layout, _FINER
        # Labels and line ends that cross a tile's edge are drawn on both sides of it.
        margin = 4 * layout.text_size
        image = Image.new("RGB", ((layout.width + 2 * margin) * k, layout.height * k), BACKGROUND)
        pen, font = ImageDraw.Draw(image), _font(round(layout.text_size * 0.85) * k)
        top, bottom = layout.trace_top * k, layout.trace_bottom * k
        from_s, to_s = first_s - margin / self._pixels_per_s, first_s + self.span_s + margin / self._pixels_per_s

        def column(seconds: NDArray[np.float64] | float) -> NDArray[np.float64]:
            return (np.asarray(seconds) - from_s) * self._pixels_per_s * k

        def row(millivolts: NDArray[np.float32] | float) -> NDArray[np.float64]:
            share = (np.asarray(millivolts, dtype=np.float64) - self.low_mv) / (self.high_mv - self.low_mv)
            return np.clip(bottom - share * (bottom - top), top, bottom)

        for level in np.arange(np.ceil(self.low_mv / _GRID_MV), self.high_mv / _GRID_MV) * _GRID_MV:
            y = float(row(float(level)))
            pen.line([(0, y), (image.width, y)], fill=GRID, width=k - 1)
        step_s = 1 if self.span_s <= 15 else 10 ** int(np.ceil(np.log10(self.span_s / 15)))
        for number in range(int(np.ceil(from_s / _GRID_S)), int(to_s / _GRID_S) + 1):
            x, whole = float(column(number * _GRID_S)), number % round(step_s / _GRID_S) == 0
            if whole or step_s == 1:
                pen.line([(x, top), (x, bottom)], fill=SECOND_LINE if whole else GRID, width=k if whole else k - 1)
            if whole:
                pen.text((x + 3 * k, image.height - k), f"{round(number * _GRID_S)} s", fill=TEXT, font=font, anchor="ld")
        inside = slice(*np.searchsorted(self.times_s, (from_s - 0.1, to_s + 0.1)))
        points = np.stack([column(self.times_s[inside]), row(self.signal_mv[inside])], axis=1)
        if len(points) > 1:
            pen.line(
                [tuple(point) for point in points],
                fill=TRACE,
                width=round(1.4 * k * np.clip(layout.width / 640, 1.0, 1.4)),
                joint="curve",
            )
        for x in column(self.r_s[(self.r_s > from_s) & (self.r_s < to_s)]):
            size = 0.28 * layout.text_size * k
            pen.polygon([(x - size, top - 1.5 * size), (x + size, top - 1.5 * size), (x, top + 0.2 * size)], fill=R_MARK)
        for x in column(self.frame_marks_s[(self.frame_marks_s > from_s) & (self.frame_marks_s < to_s)]):
            pen.line([(x, top), (x, bottom)], fill=FRAME_MARK, width=k)
        small = image.resize((layout.width + 2 * margin, layout.height), Image.Resampling.BOX)
        return np.asarray(small)[:, margin : margin + layout.width]


def resize_smoothly(picture: ByteArray, width: int, height: int) -> ByteArray:
    """(height, width) uint8, by cubic interpolation (antialiased when it shrinks)."""
    if picture.shape == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def filmstrip(
    cine: Cine,
    ecg: Ecg | None = None,
    *,
    count: int = 8,
    r_s: Sequence[float] | NDArray[np.float64] = (),
    lead: str | None = None,
    label: str | None = None,
) -> ByteArray:
    """`count` evenly spaced frames beside each other with their times, and the ECG under them; uint8 RGB (rows, columns, 3).

    Every frame is the one nearest to the middle of its share of the clip, so that its mark in the ECG stands under it.
    Raises `InputError` where count is below one or the ECG does not overlap the video.
    """
    if count < 1:
        raise InputError(f"A filmstrip needs at least one frame, not {count}.")
    count = min(count, len(cine.frames))
    start, length = float(cine.times_s[0]), cine.duration_s or 1.0
    middles = start + (np.arange(count) + 0.5) * length / count
    chosen = np.unique(np.abs(cine.times_s[None] - middles[:, None]).argmin(axis=1))
    height, width = cine.frames.shape[1:]
    cell_width = int(np.clip(width, _LEAST_CELL, _MOST_CELL))
    cell_height = max(1, round(height * cell_width / width))
    sheet = Image.new("RGB", (len(chosen) * (cell_width + _GAP) - _GAP, cell_height), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for place, index in enumerate(chosen):
        left = place * (cell_width + _GAP)
        sheet.paste(Image.fromarray(resize_smoothly(cine.frames[index], cell_width, cell_height)).convert("RGB"), (left, 0))
        pen.text((left + 6, 4), f"{cine.times_s[index]:.2f} s", fill=TEXT, font=_font(14))
    if ecg is None:
        return np.asarray(sheet)
    strip = EcgStrip(
        ecg,
        start_s=start,
        end_s=start + length,
        width=sheet.width,
        height=max(96, round(0.65 * cell_height)),
        lead=lead,
        r_s=r_s,
        label=label,
        frame_marks_s=cine.times_s[chosen] if len(cine.frames) > 1 else (),
        window_s=length,
    )
    return np.concatenate([np.asarray(sheet), strip.draw()], axis=0)
