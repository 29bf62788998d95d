"""Video of a measurement: outlines of the chambers, marks at ED and ES, and the volume curve beneath."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from echogen.arrays import ByteArray, Floats
from echogen.cine.writing import write_coloured
from echogen.measurement.outlines import Outlines
from echogen.measurement.reading import Reading
from echogen.records import STRUCTURES

#: Colours (RGB) of the outlines by chamber.
COLOURS = {"lv": (255, 215, 60), "myocardium": (90, 200, 120), "la": (90, 160, 255), "rv": (200, 120, 230), "ra": (230, 120, 140)}
#: Colours (RGB) of the marks and of the plot.
ED_COLOUR, ES_COLOUR, CURVE, PAPER, INK = (255, 120, 90), (90, 220, 230), (235, 235, 235), (18, 18, 22), (180, 180, 190)
#: Least width of the video in pixels, which a small picture is enlarged to by a whole number.
LEAST_WIDTH = 384
#: Rows of the plot beneath the picture, and the rows and columns that its labels take.
PLOT_ROWS, TEXT_ROWS, MARGIN = 130, 20, 44
#: Height of letters in pixels.
LETTERS = 13


def write_overlay(outlines: Outlines, reading: Reading, path: Path) -> None:
    """Write a video (.mp4) that shows what was measured, whole or not at all.

    outlines: The video and its chambers on every frame. reading: What was measured of them.
    """
    height, width = outlines.cine.frames.shape[1:]
    enlarged = max(1, -(-LEAST_WIDTH // width))
    size = (width * enlarged, height * enlarged + PLOT_ROWS)
    write_coloured(_pictures(outlines, reading, enlarged), outlines.cine, size, path)


def _pictures(outlines: Outlines, reading: Reading, enlarged: int) -> Iterator[ByteArray]:
    """(rows, columns, 3) uint8 RGB of each frame with its plot."""
    cine = outlines.cine
    height, width = cine.frames.shape[1:]
    size = (width * enlarged, height * enlarged)
    plot = _plot(reading, size[0])
    marks = _marks(reading, cine.times_s)
    for index, (frame, mask) in enumerate(zip(cine.frames, outlines.on_pictures(enlarged), strict=True)):
        grey = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
        picture = Image.fromarray(outlined(grey, mask))
        draw = ImageDraw.Draw(picture)
        if index in marks:
            word, colour = marks[index]
            draw.text((6, 4), word, fill=colour, font=ImageFont.load_default(2 * LETTERS))
        draw.text((size[0] - 64, 4), f"{cine.times_s[index]:.2f} s", fill=INK, font=ImageFont.load_default(LETTERS))
        yield np.concatenate([np.asarray(picture), _with_cursor(plot, reading, float(cine.times_s[index]))])


def outlined(grey: ByteArray, mask: ByteArray) -> ByteArray:
    """(H, W, 3) uint8 RGB picture with the outline of each chamber; grey and mask are (H, W)."""
    picture = np.repeat(grey[..., None], 3, axis=2)
    for name, colour in COLOURS.items():
        chamber = mask == STRUCTURES[name]
        if name == "myocardium":
            # The inner border of the wall is the outline of the ventricle already.
            chamber |= mask == STRUCTURES["lv"]
        picture[chamber & ~ndimage.binary_erosion(chamber)] = colour
    return picture


def _marks(reading: Reading, times: Floats) -> dict[int, tuple[str, tuple[int, int, int]]]:
    """Word and colour of the frames at ED and ES; each mark stays for two frames more, to be seen."""
    marks: dict[int, tuple[str, tuple[int, int, int]]] = {}
    for beat in reading.beats:
        for word, moment, colour in (("ED", beat.ed_s, ED_COLOUR), ("ES", beat.es_s, ES_COLOUR)):
            first = int(np.argmin(np.abs(times - moment)))
            marks |= {index: (word, colour) for index in range(first, min(first + 3, len(times)))}
    return marks


def _across(reading: Reading, time: float, width: int) -> float:
    """Column of a time in s in a plot of so many columns."""
    first, last = float(reading.times_s[0]), float(reading.times_s[-1])
    return MARGIN + (time - first) / max(last - first, 1e-9) * (width - MARGIN - 8)


def _plot(reading: Reading, width: int) -> Image.Image:
    """Volume curve with its marks at ED and ES, and the EF."""
    plot = Image.new("RGB", (width, PLOT_ROWS), PAPER)
    draw, font = ImageDraw.Draw(plot), ImageFont.load_default(LETTERS)
    times, values = reading.times_s, reading.curve
    low, high = float(values.min()), float(values.max())
    top, bottom = TEXT_ROWS + 14, PLOT_ROWS - 16

    def at(time: float) -> tuple[float, float]:
        share = (float(np.interp(time, times, values)) - low) / max(high - low, 1e-9)
        return _across(reading, time, width), bottom - share * (bottom - top)

    draw.line([at(float(time)) for time in times], fill=CURVE, width=2)
    for beat in reading.beats:
        for word, moment, colour, shift in (("ED", beat.ed_s, ED_COLOUR, -17), ("ES", beat.es_s, ES_COLOUR, 3)):
            x, y = at(moment)
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour)
            draw.text((min(x - 8, width - 20), y + shift), word, fill=colour, font=font)
    known = reading.volume_ml is not None
    for value, row in ((high, top), (low, bottom)):
        text = f"{value:.0f}" if known else f"{100 * value / max(high, 1e-9):.0f}"
        draw.text((4, row - 8), text, fill=INK, font=font)
    ef = "EF -" if reading.ef_percent is None else f"EF {reading.ef_percent:.0f} %"
    rate = "" if reading.heart_rate_bpm is None else f"   {reading.heart_rate_bpm:.0f} bpm"
    draw.text((4, 2), f"{'LV volume (ml)' if known else 'LV volume (% of largest)'}   {ef}{rate}", fill=INK, font=font)
    return plot


def _with_cursor(plot: Image.Image, reading: Reading, time: float) -> ByteArray:
    """The plot as (rows, columns, 3) uint8 with a line at a time in s."""
    drawn = plot.copy()
    x = _across(reading, time, plot.width)
    ImageDraw.Draw(drawn).line([(x, TEXT_ROWS), (x, PLOT_ROWS - 2)], fill=INK)
    return np.asarray(drawn)
