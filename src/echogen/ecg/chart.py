"""A picture of an ECG as it was read: every lead on a grid of time and mV, its waves marked, its gaps grey."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from echogen.arrays import Floats
from echogen.ecg.gaps import Gap
from echogen.ecg.landmarks import Landmarks

#: Pixels a second and a mV, least and greatest height of a lead, margins left and above, and the height of a line of text.
_PX_PER_S, _PX_PER_MV = 110, 44
_LOWEST, _HIGHEST = 60, 260
_LEFT, _TOP, _TEXT = 76, 12, 20
_MOST_LEADS = 24
#: Lines of the grid, in s and mV, and every which of them is strong.
_GRID_S, _GRID_MV = 0.2, 0.5
_STRONG_S = 5
_COLOURS = {"paper": "#ffffff", "grid": "#f6dede", "strong": "#ecbcbc", "trace": "#1c1c28", "gap": "#d8d8d8", "text": "#303038"}
_MARKS = {"R": "#d02020", "P": "#2060d0", "T": "#188038"}


def _size(part: Floats) -> int:
    finite = part[np.isfinite(part)]
    swing = float(np.ptp(finite)) if finite.size else 0.0
    return int(np.clip(swing * _PX_PER_MV + 24, _LOWEST, _HIGHEST))


def _trace(draw: ImageDraw.ImageDraw, part: Floats, rate_hz: float, middle: float, px_per_mv: float, level: float) -> None:
    """One lead as a line, broken where there are no values."""
    x = _LEFT + np.arange(len(part)) / rate_hz * _PX_PER_S
    y = middle - (part - level) * px_per_mv
    there = np.isfinite(part)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(np.int8))).reshape(-1, 2)
    for low, high in edges:
        if high - low > 1:
            draw.line([*np.stack([x[low:high], y[low:high]], 1).ravel().tolist()], fill=_COLOURS["trace"], width=1)


def draw_chart(
    signal_mv: Floats,
    rate_hz: float,
    lead_names: Sequence[str],
    start_s: float,
    *,
    gaps: Sequence[Gap] = (),
    landmarks: Landmarks | None = None,
    lines: Sequence[str] = (),
) -> Image.Image:
    """A picture of a (leads, samples) signal in mV that begins at start_s, nan in its gaps.

    landmarks: marked where they were found, R red, P blue, T green. lines: text below the leads. At most 24 leads are shown.
    """
    signal_mv, lead_names = signal_mv[:_MOST_LEADS], lead_names[:_MOST_LEADS]
    seconds = signal_mv.shape[1] / rate_hz
    heights = [_size(part) for part in signal_mv]
    bottom = _TOP + sum(heights)
    right = _LEFT + round(seconds * _PX_PER_S)
    picture = Image.new("RGB", (max(right + 28, 720), bottom + _TEXT * (len(lines) + 2)), _COLOURS["paper"])
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    for n in range(int(seconds / _GRID_S + 1e-6) + 1):
        x = _LEFT + n * _GRID_S * _PX_PER_S
        draw.line([x, _TOP, x, bottom], fill=_COLOURS["grid" if n % _STRONG_S else "strong"])
        if n % _STRONG_S == 0:
            draw.text((x - 4, bottom + 3), f"{start_s + n * _GRID_S:g} s", fill=_COLOURS["text"], font=font)
    top = _TOP
    for name, part, height in zip(lead_names, signal_mv, heights, strict=True):
        finite = part[np.isfinite(part)]
        level = float((finite.max() + finite.min()) / 2) if finite.size else 0.0
        swing = float(np.ptp(finite)) if finite.size else 0.0
        scale = min(_PX_PER_MV, (height - 16) / max(swing, 1e-6))
        middle = top + height / 2
        _lead_ground(draw, (top, top + height, right), scale, [gap for gap in gaps if name in gap.leads], start_s, seconds)
        _trace(draw, part, rate_hz, middle, scale, level)
        draw.text((8, middle - 16), name[:9], fill=_COLOURS["text"], font=font)
        draw.text((8, middle), f"{swing:.2f} mV", fill=_COLOURS["text"], font=ImageFont.load_default(11))
        if landmarks is not None and landmarks.lead == name:
            for wave, times in (("R", landmarks.r_s), ("P", landmarks.p_onset_s), ("T", landmarks.t_peak_s)):
                _marks(draw, wave, times - start_s, seconds, (top, top + height), font)
        top += height
    for n, line in enumerate(lines):
        draw.text((8, bottom + _TEXT * (n + 1) + 4), line[:180], fill=_COLOURS["text"], font=font)
    return picture


def _lead_ground(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int], px_per_mv: float, gaps: Sequence[Gap], start_s: float, seconds: float
) -> None:
    """The lines of 0.5 mV and the gaps of one lead; box: its top, bottom and right edge in pixels."""
    top, bottom, right = box
    for gap in gaps:
        low, high = (_LEFT + float(np.clip(at - start_s, 0, seconds)) * _PX_PER_S for at in (gap.start_s, gap.end_s))
        if high > low:
            draw.rectangle([low, top, high, bottom], fill=_COLOURS["gap"])
    step = _GRID_MV * px_per_mv
    for n in range(int((bottom - top) / max(step, 6.0)) + 1 if step >= 6 else 0):
        draw.line([_LEFT, top + n * step, right, top + n * step], fill=_COLOURS["grid"])
    draw.line([_LEFT, bottom, right, bottom], fill=_COLOURS["strong"])


def _marks(
    draw: ImageDraw.ImageDraw,
    wave: str,
    times_s: Floats,
    seconds: float,
    span: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    shown: Callable[[float], bool] = lambda at: bool(np.isfinite(at)) and 0 <= at <= seconds  # noqa: E731
    for at in filter(shown, times_s):
        x = _LEFT + float(at) * _PX_PER_S
        draw.line([x, span[0] + 14, x, span[1]], fill=_MARKS[wave])
        draw.text((x - 4, span[0] - 1), wave, fill=_MARKS[wave], font=font)
