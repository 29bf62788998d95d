"""Echo pictures of simulated hearts with a known ECG drawn into them as machines do.

The drawing shares nothing with the code that reads it: pens and pixels only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from echogen.arrays import ByteArray, Floats
from echogen.phantom.electrical import make_ecg
from echogen.phantom.rhythm import make_rhythm
from echogen.phantom.simulate import draw_heart, render
from echogen.testing.machine_styles import ORANGE, YELLOW, Colour, Style

#: Seconds of ECG before and after the video.
BEFORE_S, AFTER_S = 6.0, 6.0
ECG_RATE_HZ = 500.0


@dataclass(frozen=True, eq=False)
class Recorded:
    """Simulated heart with its ECG.

    frames: grey, (T, 128, 128).
    times_s: of the frames.
    lead_mv: lead II at `ECG_RATE_HZ` from start_s on.
    start_s: time of the first sample of the ECG.
    r_s: times of the R peaks, also those outside the video.
    heart_rate_bpm: from the median interval within the video.
    """

    frames: ByteArray
    times_s: Floats
    lead_mv: Floats
    start_s: float
    r_s: Floats
    heart_rate_bpm: float


def record(seed: int, seconds: float, fps: float = 32.0) -> Recorded:
    """Simulate the heart of a seed, with `seconds` of video and more ECG on both sides."""
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


def draw(recorded: Recorded, style: Style, seed: int = 0) -> ByteArray:
    """Frames (T, height, width, 3) as a machine of this style would store them; of those recorded, one in `every`.

    The seed also varies the sweep by up to a quarter, the brightness of the line, and its place.
    """
    rng = np.random.default_rng(seed)
    dim, shift = float(rng.uniform(0.6, 1.0)), float(rng.uniform(-0.015, 0.01))
    red, green, blue = style.colour
    style = replace(
        style,
        sweep_s=style.sweep_s * float(rng.uniform(0.8, 1.25)),
        colour=(round(dim * red), round(dim * green), round(dim * blue)),
        rows=(style.rows[0] + shift, style.rows[1] + shift),
    )
    background = _surround(style, recorded.heart_rate_bpm)
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
        if traces is not None and style.shows in ("ecg", "respiration", "pulse", "flat", "noise", "volume", "velocity", "scale"):
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

    def onto(self, band: ByteArray, time_s: float) -> None:
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

    def _mark(self, band: ByteArray, marker: int, paint: Floats) -> None:
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
    if shows == "volume":
        # Ejection for 0.3 s, early filling for 0.15 s, a rest, and the filling by the atrium before the next beat.
        changes = ((0.2, -1.0, 0.04), (0.45, 0.75, 0.03), (0.7, 0.25, 0.03))
        after = times[:, None] - recorded.r_s
        return np.sum([size / (1.0 + np.exp(-(after - at) / lasts)) for at, size, lasts in changes], axis=(0, 2))
    if shows == "velocity":
        # A wall's velocity: up in systole, down twice in diastole, each for about 0.1 s.
        waves = ((0.15, 1.0), (0.45, -0.9), (0.7, -0.6))
        after = times[:, None] - recorded.r_s
        return np.sum([size * np.exp(-(((after - at) / 0.045) ** 2)) for at, size in waves], axis=(0, 2))
    if shows == "scale":
        return np.asarray((np.mod(times, 0.8) < 0.02).astype(np.float64))
    if shows == "noise":
        return np.convolve(rng.standard_normal(len(times)), np.ones(12) / 12, mode="same")
    return recorded.lead_mv


def _surround(style: Style, rate_bpm: float) -> ByteArray:
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
        rate = f"HR {rate_bpm:.0f}"
        pen.text((0.83 * style.width, 0.90 * style.height), rate, fill=style.colour, font=ImageFont.load_default(size=16))
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
def _enlarged(recorded: Recorded, width: int, height: int) -> ByteArray:
    """The cine in a picture of this size, (T, height, width, 3)."""
    side = round(0.85 * height)
    left = (width - side) // 2
    pictures = np.zeros((len(recorded.frames), height, width, 3), dtype=np.uint8)
    for picture, grey in zip(pictures, recorded.frames, strict=True):
        large = np.asarray(Image.fromarray(grey).resize((side, side), Image.Resampling.BICUBIC))
        picture[4 : 4 + side, left : left + side] = large[..., None]
    return pictures


def _doppler(picture: ByteArray, time_s: float, rng: np.random.Generator) -> None:
    height, width = picture.shape[:2]
    rows, columns = np.mgrid[round(0.35 * height) : round(0.75 * height), round(0.4 * width) : round(0.6 * width)]
    flow = np.sin(2 * np.pi * 1.2 * time_s + rows / 25.0) + 0.3 * rng.standard_normal(rows.shape)
    box = picture[rows[0, 0] : rows[-1, 0] + 1, columns[0, 0] : columns[0, -1] + 1]
    toward, away = flow > 0.5, flow < -0.5
    box[toward] = np.stack([np.full(rows.shape, 230), 120 + 60 * flow, 0 * flow], axis=-1)[toward].astype(np.uint8)
    box[away] = np.stack([0 * flow, 120 - 60 * flow, np.full(rows.shape, 230)], axis=-1)[away].astype(np.uint8)


def _stored(picture: ByteArray, style: Style) -> ByteArray:
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
