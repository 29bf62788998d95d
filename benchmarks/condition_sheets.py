"""Sheets of frames under their ECG: the pictures of conditions.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from condition_trials import Result, Shown
from echogen.benchmark.plots import palette
from echogen.cine.strip import BACKGROUND, TEXT, EcgStrip, resize_smoothly
from echogen.records import ByteArray

CELL, STRIP_HEIGHT, MOST_GREYS = 112, 66, 32
LARGEST_SHEET_BYTES = 300_000


def strip(result: Result, video: Shown | None, name: str, frames: int) -> Image.Image:
    """The ECG, and under it a spoilt first frame and the frames at the first R peaks and end-systoles that are due.

    Without an ECG they are those at the video's own end-diastoles and end-systoles; of a refused ECG it alone is drawn.
    """
    sheet = Image.new("RGB", (frames * (CELL + 2), STRIP_HEIGHT + CELL + 4), BACKGROUND)
    pen, trial = ImageDraw.Draw(sheet), result.trial
    cells: list[tuple[str, ByteArray]] = []
    start = until = trial.start_s
    at: list[float] = []
    if video is not None:
        times = video.cine.times_s
        start, end = float(times[0]), float(times[-1])
        pairs = zip(trial.rhythm.r_s, result.clock.avc_s, strict=True)
        kinds = ("R", "ES")
        if trial.ecg is None:
            pairs, kinds = zip(video.ed_s, video.es_s, strict=True), ("ED", "ES")
        if trial.image is not None:
            cells.append(("first frame", trial.image.frames[0]))
        due = [mark for pair in pairs if pair[0] >= start and pair[1] <= end for mark in zip(kinds, pair, strict=True)]
        for kind, time in due[: frames - len(cells)]:
            index = int(np.abs(times - time).argmin())
            cells.append((f"{kind} {time:.2f} s", video.cine.frames[index]))
            at.append(float(times[index]))
        until = min(at[-1] + 0.3, end) if at else end
    if trial.ecg is None:
        pen.text((6, 4), f"{name}: no ECG", fill=TEXT)
    else:
        until = until if until > start else start + 0.5 * frames
        trace = EcgStrip(
            trial.ecg,
            start_s=start,
            end_s=until,
            width=sheet.width,
            height=STRIP_HEIGHT,
            r_s=trial.rhythm.between(start, until).r_s,
            label=name if video is not None else f"{name}: refused",
            frame_marks_s=at,
            window_s=until - start,
        )
        sheet.paste(Image.fromarray(trace.draw()), (0, 0))
    for place, (text, frame) in enumerate(cells):
        left = place * (CELL + 2)
        sheet.paste(Image.fromarray(resize_smoothly(frame, CELL, CELL)).convert("RGB"), (left, STRIP_HEIGHT))
        pen.text((left + 3, STRIP_HEIGHT + 2), text, fill=TEXT)
    return sheet


def save_sheet(strips: Sequence[Image.Image], columns: int, path: Path) -> None:
    """Strips below and beside each other, in as many greys as keep the file small."""
    width, height = strips[0].size
    rows = -(-len(strips) // columns)
    sheet = Image.new("RGB", (columns * (width + 8) - 8, rows * height), BACKGROUND)
    for index, one in enumerate(strips):
        sheet.paste(one, (index % columns * (width + 8), index // columns * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    greys = MOST_GREYS
    while True:
        sheet.quantize(palette=palette(greys), dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size <= LARGEST_SHEET_BYTES or greys <= 8:
            return
        greys //= 2
