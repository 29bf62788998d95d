"""Echo pictures with an ECG drawn into them, in the manners of several machines, over simulated hearts whose R peaks are known.

The drawing shares nothing with the code that reads it: pens and pixels only.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from echogen.phantom.electrical import make_ecg
from echogen.phantom.rhythm import make_rhythm
from echogen.phantom.simulate import draw_heart, render

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]
Colour = tuple[int, int, int]

GREEN, YELLOW, CYAN, WHITE, ORANGE = (60, 230, 90), (240, 220, 50), (40, 210, 230), (235, 235, 235), (250, 140, 30)
BEFORE_S, AFTER_S = 6.0, 6.0
ECG_RATE_HZ = 500.0


@dataclass(frozen=True, eq=False)
class Recorded:
    """A simulated heart: grey frames (T, 128, 128), their times in s, lead II in mV at 500 Hz from start_s on, R peaks in s."""

    frames: Bytes
    times_s: Floats
    lead_mv: Floats
    start_s: float
    r_s: Floats
    heart_rate_bpm: float


@dataclass(frozen=True)
class Style:
    """How a machine draws. mode: scroll, sweep (old trace erased by a bar) or static (with a marker: line, dot, triangle, none).

    shows: ecg, respiration, pulse, menu, bars, doppler, text or nothing. width, height: of the picture. sweep_s: what the width
    of the trace lasts. thick: of the line in pixels; gap: of the erase bar in pixels. columns, rows: of the trace, as shares of
    the picture. jpeg: quality, or None. every: of so many frames one is stored. stored: size (width,
    height) to which the finished picture is reduced. also: respiration, doppler, tint (of the sector), repeats (of frames).
    """

    name: str
    mode: str = "static"
    colour: Colour = GREEN
    shows: str = "ecg"
    marker: str = "line"
    marker_colour: Colour = WHITE
    width: int = 400
    height: int = 300
    columns: tuple[float, float] = (0.05, 0.95)
    rows: tuple[float, float] = (0.86, 0.98)
    sweep_s: float = 4.0
    thick: float = 1.5
    smooth: bool = True
    gap: int = 12
    bar: bool = False
    grid: bool = False
    ticks: bool = False
    text: bool = False
    upside_down: bool = False
    jpeg: int | None = None
    grey: bool = False
    every: int = 1
    stored: tuple[int, int] | None = None
    also: tuple[str, ...] = field(default=())


STYLES = (
    Style("scrolling, green", "scroll"),
    Style("scrolling, thin yellow, low resolution", "scroll", YELLOW, width=320, height=240, thick=1.0, smooth=False),
    Style("scrolling, over a grid, 640 x 480", "scroll", CYAN, grid=True, width=640, height=480, sweep_s=5.0),
    Style("sweep with a gap, green, text beside", "sweep", text=True, columns=(0.05, 0.80), sweep_s=3.0),
    Style("sweep behind a bar, cyan", "sweep", CYAN, gap=3, bar=True, sweep_s=3.5),
    Style("sweep, thick, strong JPEG", "sweep", YELLOW, thick=3.0, jpeg=70, sweep_s=2.5),
    Style("static with a line, yellow, R ticks", "static", YELLOW, ticks=True),
    Style("static with a dot, green", "static", marker="dot", marker_colour=ORANGE),
    Style("static with a line of its own colour", "static", CYAN, marker_colour=CYAN),
    Style("static with a triangle, thin, grid and text", marker="triangle", grid=True, text=True, thick=1.0, columns=(0.05, 0.8)),
    Style("static, JPEG, low resolution", colour=GREEN, width=320, height=240, jpeg=80, thick=1.0),
    Style("static, over the sector's edge", colour=YELLOW, rows=(0.66, 0.80)),
    Style("sweep, over the sector's edge", "sweep", GREEN, rows=(0.66, 0.80), sweep_s=3.0),
    Style("scrolling, over the sector's edge, JPEG", "scroll", CYAN, rows=(0.66, 0.80), jpeg=85),
    Style("static, white on grey", colour=WHITE, marker_colour=(150, 150, 150), grey=True, rows=(0.88, 0.99)),
    Style("sweep, with a respiration curve above", "sweep", GREEN, rows=(0.88, 0.99), sweep_s=3.0, also=("respiration",)),
    Style("static, 16 fps", colour=GREEN, every=2),
    Style("sweep, drawn at 640 x 480, stored at 320 x 240, JPEG", "sweep", width=640, height=480, stored=(320, 240), jpeg=75),
    Style("static, yellow over a tinted sector", colour=YELLOW, rows=(0.66, 0.80), also=("tint",)),
    Style("scrolling, with colour Doppler", "scroll", YELLOW, also=("doppler",)),
    Style("sweep, every eighth frame repeated", "sweep", CYAN, sweep_s=3.0, also=("repeats",)),
    Style("static, upside down", colour=GREEN, upside_down=True),
)
NOT_AN_ECG = (
    Style("no trace", shows="nothing"),
    Style("no trace, text and menu", shows="menu"),
    Style("static trace without a marker", marker="none"),
    Style("static trace over the sector without a marker", marker="none", rows=(0.66, 0.80)),
    Style("respiration, scrolling", "scroll", shows="respiration"),
    Style("respiration, static with a line", "static", YELLOW, shows="respiration"),
    Style("arterial pulse, sweep", "sweep", ORANGE, shows="pulse"),
    Style("colour bars", shows="bars"),
    Style("colour Doppler", shows="doppler"),
    Style("flat line, sweep", "sweep", shows="flat"),
    Style("noise, scrolling", "scroll", shows="noise"),
)


def record(seed: int, seconds: float, fps: float = 32.0) -> Recorded:
    """The heart of a seed with `seconds` of cine and more ECG on both sides."""
    rng = np.random.default_rng(seed)
    name = str(rng.choice(["sinus", "af", "pvc", "paced"], p=[0.66, 0.16, 0.12, 0.06]))
    rate = float(np.clip(rng.lognormal(np.log(76.0), 0.22), 45, 140))
    rhythm = make_rhythm(name, rate, -BEFORE_S, seconds + AFTER_S, rng)
    ecg = make_ecg(rhythm, -BEFORE_S, seconds + AFTER_S, rng, rate_hz=ECG_RATE_HZ)
    heart = draw_heart(rhythm, rng, ef_percent=float(rng.uniform(25, 70)), view="A4C")
    times = np.arange(round(seconds * fps)) / fps
    frames = render(heart, times, seed).frames
    inside = rhythm.r_s[(rhythm.r_s > 0) & (rhythm.r_s < times[-1])]
    mean_rate = 60.0 / float(np.median(np.diff(inside))) if len(inside) > 1 else rate
    return Recorded(frames, times, ecg.lead("II").astype(np.float64), -BEFORE_S, rhythm.r_s, mean_rate)


def draw(recorded: Recorded, style: Style, seed: int = 0) -> Bytes:
    """The frames (T, height, width, 3) as a machine of this style would store them; of those recorded, one in `every`.

    The seed also varies the sweep by up to a quarter, the brightness of the line, and its place.
    """
    rng = np.random.default_rng(seed)
    dim, shift = float(rng.uniform(0.6, 1.0)), float(rng.uniform(-0.015, 0.01))
    style = replace(
        style,
        sweep_s=style.sweep_s * float(rng.uniform(0.8, 1.25)),
        colour=tuple(round(dim * part) for part in style.colour),
        rows=(style.rows[0] + shift, style.rows[1] + shift),
    )
    background = _surround(style)
    left, right = (round(share * style.width) for share in style.columns)
    top, bottom = (round(share * style.height) for share in style.rows)
    traces = _Trace(recorded, style, right - left, bottom - top, rng) if style.mode in ("scroll", "sweep", "static") else None
    other = None
    if "respiration" in style.also:
        height = (bottom - top) // 2
        other = _Trace(recorded, style, right - left, height, rng, shows="respiration", colour=ORANGE)
        other.phase = traces.phase if traces else 0.0
    shown = np.empty((-(-len(recorded.frames) // style.every), *background.shape), dtype=np.uint8)
    times = recorded.times_s[:: style.every]
    for number, grey in enumerate(_enlarged(recorded, style.width, style.height)[:: style.every]):
        picture = np.maximum(background, grey, out=shown[number])
        if "tint" in style.also:
            picture[:] = (picture * np.array([1.0, 0.86, 0.66])).astype(np.uint8)
        if style.shows == "doppler" or "doppler" in style.also:
            _doppler(picture, float(times[number]), rng)
        if traces is not None and style.shows in ("ecg", "respiration", "pulse", "flat", "noise"):
            band = picture[top:bottom, left:right]
            traces.onto(band, float(times[number]))
            if other is not None:
                other.onto(picture[top - other.height - 4 : top - 4, left:right], float(times[number]))
        if "repeats" in style.also and number % 8 == 7:
            picture[:] = shown[number - 1]
        if style.grey or style.jpeg is not None:
            shown[number] = _stored(picture, style)
    return shown if style.stored is None else shown[:, : style.stored[1], : style.stored[0]]


class _Trace:
    """A long strip of everything drawn, of which each moment shows a part."""

    def __init__(
        self,
        recorded: Recorded,
        style: Style,
        width: int,
        height: int,
        rng: np.random.Generator,
        shows: str | None = None,
        colour: Colour | None = None,
    ) -> None:
        self.style, self.width, self.height = style, width, height
        self.colour = colour or style.colour
        self.pixels_per_s = width / style.sweep_s
        self.first_s = recorded.start_s + 0.5
        times = recorded.start_s + np.arange(len(recorded.lead_mv)) / ECG_RATE_HZ
        values = _curve(shows or style.shows, times, recorded, rng)
        # Where in the first frame the pen or the marker stands.
        self.phase = float(rng.uniform(0.0, 0.9)) * width
        if style.mode == "static":
            room = style.sweep_s - float(recorded.times_s[-1])
            self.static_from_s = -float(rng.uniform(0.05, 0.95)) * max(room, 0.0)
        self.paint = self._draw(times, values, recorded)

    def _draw(self, times: Floats, values: Floats, recorded: Recorded) -> Floats:
        """The strip (height, columns, 1): how much of each pixel trace and ticks cover, 0..1."""
        finer = 4 if self.style.smooth else 1
        long = int((times[-1] - self.first_s) * self.pixels_per_s)
        image = Image.new("L", (long * finer, self.height * finer))
        pen = ImageDraw.Draw(image)
        low, high = float(np.percentile(values, 0.05)), float(np.percentile(values, 99.95))
        span = max(high - low, 0.3)
        low, high = low - 0.1 * span, low + 1.1 * span
        share = (values - low) / (high - low)
        if self.style.upside_down:
            share = 1.0 - share
        # Column c of the screen shows the moment c.
        columns = ((times - self.first_s) * self.pixels_per_s + 0.5) * finer
        rows = (1.0 - share) * (self.height - 1) * finer
        # One value a column of the screen, as machines sample it.
        at = np.arange(0, long * finer, max(finer // 2, 1))
        points = list(zip(at.tolist(), np.interp(at, columns, rows).tolist(), strict=True))
        pen.line(points, fill=255, width=max(1, round(self.style.thick * finer)), joint="curve")
        if self.style.ticks:
            for r in recorded.r_s:
                x = (r - self.first_s) * self.pixels_per_s * finer
                pen.line([(x, (self.height - 6) * finer), (x, self.height * finer)], fill=255, width=finer)
        small = image.resize((long, self.height), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float64)[..., None] / 255.0

    def _part(self, first: int, count: int) -> Floats:
        columns = np.clip(np.arange(first, first + count), 0, self.paint.shape[1] - 1)
        return self.paint[:, columns]

    def onto(self, band: Bytes, time_s: float) -> None:
        """Draw the trace of this moment over a part of the picture."""
        column = (time_s - self.first_s) * self.pixels_per_s
        if self.style.grid:
            band[:: max(self.height // 4, 4)] = np.maximum(band[:: max(self.height // 4, 4)], 45)
            band[:, :: max(self.width // 20, 8)] = np.maximum(band[:, :: max(self.width // 20, 8)], 45)
        if self.style.mode == "scroll":
            paint = self._part(round(column) - self.width + 1, self.width)
        elif self.style.mode == "sweep":
            position = column - (0.0 - self.first_s) * self.pixels_per_s + self.phase
            pen = round(position) % self.width
            now = round(column)
            paint = np.zeros((self.height, self.width, 1))
            paint[:, : pen + 1] = self._part(now - pen, pen + 1)
            paint[:, pen + 1 :] = self._part(now - self.width + 1, self.width - pen - 1)
            erased = slice(pen + 1, pen + 1 + self.style.gap)
            paint[:, erased] = 0.0
        else:
            start = (self.static_from_s - self.first_s) * self.pixels_per_s
            paint = self._part(round(start), self.width)
            marker = round(column) - round(start)
        band[:] = (band * (1 - paint) + paint * np.array(self.colour)).astype(np.uint8)
        if self.style.mode == "sweep" and self.style.bar:
            band[:, pen + 1 : pen + 1 + self.style.gap] = self.style.marker_colour
        if self.style.mode == "static" and 0 <= marker < self.width:
            self._mark(band, marker, paint)

    def _mark(self, band: Bytes, marker: int, paint: Floats) -> None:
        if self.style.marker == "line":
            band[:, marker : marker + max(1, self.width // 500)] = self.style.marker_colour
        elif self.style.marker == "dot":
            rows = np.flatnonzero(paint[:, marker, 0] > 0.3)
            row = int(rows.mean()) if rows.size else self.height // 2
            reach = max(2, self.height // 20)
            band[max(row - reach, 0) : row + reach + 1, max(marker - reach, 0) : marker + reach + 1] = self.style.marker_colour
        elif self.style.marker == "triangle":
            for step in range(6):
                band[self.height - 1 - 5 + step, max(marker - step // 2, 0) : marker + step // 2 + 1] = self.style.marker_colour


def _curve(shows: str, times: Floats, recorded: Recorded, rng: np.random.Generator) -> Floats:
    if shows == "respiration":
        return np.asarray(np.sin(2 * np.pi * 0.28 * times) + 0.2 * np.sin(2 * np.pi * 0.56 * times + 1.0))
    if shows == "pulse":
        phase = (times[:, None] - recorded.r_s - 0.15) / 0.1
        upstroke = np.where(phase > 0, phase**2 * np.exp(-1.3 * np.clip(phase, 0, 30)), 0.0)
        return np.asarray(upstroke.sum(axis=1))
    if shows == "flat":
        return 0.005 * rng.standard_normal(len(times))
    if shows == "noise":
        return np.convolve(rng.standard_normal(len(times)), np.ones(12) / 12, mode="same")
    return recorded.lead_mv


def _surround(style: Style) -> Bytes:
    picture = Image.new("RGB", (style.width, style.height))
    pen = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=max(9, style.height // 40))
    unit = style.height / 480
    pen.text((8 * unit, 8 * unit), "Adult Echo  S5-1\n62 Hz  16 cm\nMI 1.1", fill=(200, 200, 200), font=font)
    pen.ellipse([500 * unit, 8 * unit, 508 * unit, 16 * unit], fill=(80, 220, 90))
    for step in range(64):
        row = (60 + step) * unit
        pen.line([(style.width - 18 * unit, row), (style.width - 8 * unit, row)], fill=(4 * step,) * 3)
    if style.text:
        pen.text((0.83 * style.width, 0.90 * style.height), "HR 72", fill=style.colour, font=ImageFont.load_default(size=16))
    if style.shows == "menu":
        pen.rectangle([0, 440 * unit, style.width, style.height], fill=(40, 60, 120))
        for place in range(6):
            label = ("Freeze", "Depth", "Gain", "Sector", "Page 1/3", "On")[place]
            pen.text((20 * unit + place * 100 * unit, 450 * unit), label, fill=(120, 220, 120), font=font)
        pen.text((60 * unit, 410 * unit), "PATIENT ONE  1969-03-01  HOSPITAL OF THE TOWN  A4C", fill=YELLOW, font=font)
    if style.shows == "bars":
        for row in range(80):
            pen.line([(620 * unit, (100 + row) * unit), (630 * unit, (100 + row) * unit)], fill=(255, 3 * row, 0))
            pen.line([(620 * unit, (180 + row) * unit), (630 * unit, (180 + row) * unit)], fill=(0, 240 - 3 * row, 255))
        for column in range(300):
            pen.line(
                [((150 + column) * unit, 440 * unit), ((150 + column) * unit, 452 * unit)],
                fill=(255 - column // 2, column // 2, 60),
            )
    return np.array(picture)


@lru_cache(maxsize=2)
def _enlarged(recorded: Recorded, width: int, height: int) -> Bytes:
    """The cine in a picture of this size, (T, height, width, 3)."""
    side = round(0.85 * height)
    left = (width - side) // 2
    pictures = np.zeros((len(recorded.frames), height, width, 3), dtype=np.uint8)
    for picture, grey in zip(pictures, recorded.frames, strict=True):
        large = np.asarray(Image.fromarray(grey).resize((side, side), Image.Resampling.BICUBIC))
        picture[4 : 4 + side, left : left + side] = large[..., None]
    return pictures


def _doppler(picture: Bytes, time_s: float, rng: np.random.Generator) -> None:
    height, width = picture.shape[:2]
    rows, columns = np.mgrid[round(0.35 * height) : round(0.75 * height), round(0.4 * width) : round(0.6 * width)]
    flow = np.sin(2 * np.pi * 1.2 * time_s + rows / 25.0) + 0.3 * rng.standard_normal(rows.shape)
    box = picture[rows[0, 0] : rows[-1, 0] + 1, columns[0, 0] : columns[0, -1] + 1]
    toward, away = flow > 0.5, flow < -0.5
    box[toward] = np.stack([np.full(rows.shape, 230), 120 + 60 * flow, 0 * flow], axis=-1)[toward].astype(np.uint8)
    box[away] = np.stack([0 * flow, 120 - 60 * flow, np.full(rows.shape, 230)], axis=-1)[away].astype(np.uint8)


def _stored(picture: Bytes, style: Style) -> Bytes:
    if style.grey:
        picture = np.repeat(np.asarray(Image.fromarray(picture).convert("L"))[..., None], 3, axis=-1)
    if style.jpeg is None:
        return picture
    image, packed = Image.fromarray(picture), BytesIO()
    (image if style.stored is None else image.resize(style.stored, Image.Resampling.BILINEAR)).save(
        packed, "JPEG", quality=style.jpeg
    )
    small = np.asarray(Image.open(packed).convert("RGB"))
    return np.pad(small, ((0, picture.shape[0] - small.shape[0]), (0, picture.shape[1] - small.shape[1]), (0, 0)))
