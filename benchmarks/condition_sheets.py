"""Sheets of frames under their ECG: the pictures of conditions.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from condition_trials import Result, Shown
from echogen.cine.strip import BACKGROUND, TEXT, EcgStrip, resize_smoothly

CELL, STRIP_HEIGHT, COLOURS = 112, 66, 48
LARGEST_SHEET_BYTES = 300_000


def strip(result: Result, video: Shown | None, name: str, frames: int) -> Image.Image:
    """The ECG, and under it the frames at the R peaks and the end-systoles of the first beats that the video should show."""
    sheet = Image.new("RGB", (frames * (CELL + 2), STRIP_HEIGHT + CELL + 4), BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    if video is None:
        pen.text((6, 4), f"{name}: refused", fill=TEXT)
        return sheet
    cine, trial = video.cine, result.trial
    start, end = float(cine.times_s[0]), float(cine.times_s[-1])
    pairs = zip(trial.rhythm.r_s, result.clock.avc_s, strict=True)
    marks = [mark for r, es in pairs if r >= start and es <= end for mark in (("R", r), ("ES", es))][:frames]
    until = min(marks[-1][1] + 0.3, end) if marks else end
    chosen = [int(np.abs(cine.times_s - time).argmin()) for _, time in marks]
    if trial.ecg is not None:
        r_s = trial.rhythm.between(start, until).r_s
        trace = EcgStrip(
            trial.ecg,
            start_s=start,
            end_s=until,
            width=sheet.width,
            height=STRIP_HEIGHT,
            r_s=r_s,
            label=name,
            frame_marks_s=cine.times_s[chosen],
            window_s=until - start,
        )
        sheet.paste(Image.fromarray(trace.draw()), (0, 0))
    for place, ((kind, time), index) in enumerate(zip(marks, chosen, strict=True)):
        left = place * (CELL + 2)
        sheet.paste(Image.fromarray(resize_smoothly(cine.frames[index], CELL, CELL)).convert("RGB"), (left, STRIP_HEIGHT))
        pen.text((left + 3, STRIP_HEIGHT + 2), f"{kind} {time:.2f} s", fill=TEXT)
    return sheet


def save_sheet(strips: Sequence[Image.Image], columns: int, path: Path) -> None:
    """Strips below and beside each other, in as many colours as keep the file small."""
    width, height = strips[0].size
    rows = -(-len(strips) // columns)
    sheet = Image.new("RGB", (columns * (width + 8) - 8, rows * height), BACKGROUND)
    for index, one in enumerate(strips):
        sheet.paste(one, (index % columns * (width + 8), index // columns * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = COLOURS
    while True:
        sheet.quantize(colours).save(path, optimize=True)
        if path.stat().st_size <= LARGEST_SHEET_BYTES or colours <= 8:
            return
        colours //= 2
