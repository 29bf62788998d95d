"""Pictures of the open benchmark: EF seen against EF true, errors of end-systole, and frames beside those of the truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from echogen.arrays import Floats
from echogen.benchmark.cases import FRAMES, SECONDS, Case, recording
from echogen.benchmark.rows import Generated, Row, Shuffled, Truth, Work
from echogen.cine import read_cine
from echogen.cine.strip import BACKGROUND, FRAME_MARK, R_MARK, TEXT, TRACE, EcgStrip, resize_smoothly
from echogen.errors import InputError
from echogen.metrics.heart.ejection import bias, limits_of_agreement

#: Pixels a side of a frame, frames in a line, and height in pixels of an ECG strip and of a line's label.
_CELL, _CELLS, _STRIP, _LABEL = 88, 9, 72, 13
_COLOURS = ("#4d4d4d", "#0072b2", "#d55e00", "#999999")
#: Rhythm and view of each heart of which frames are shown.
_FILMED = (("sinus", "A4C"), ("af", "A2C"), ("pvc", "A4C"))


def plot(
    work: Work, listed: Sequence[Case], rows: Sequence[Row], scored: Sequence[dict[str, Any]], folder: Path
) -> list[tuple[str, str]]:
    """Write benchmark_*.png; (title, path from the folder above) of each.

    Shown are the truth, the first generator when given the EF and when given all that it takes, and its videos shuffled.
    Raises `InputError` without matplotlib.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise InputError("The pictures need matplotlib: pip install 'echogen[docs]', or say --no-plots.") from error
    matplotlib.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    by_title = {row["title"]: row for row in scored}
    generated = [row for row in rows if isinstance(row, Generated)]
    own = [row for row in generated if row.model == generated[0].model]
    with_ef = [row for row in own if "ef_percent" in row.given]
    shuffled = next(row for row in rows if isinstance(row, Shuffled))
    judged: list[Row] = [Truth(), *with_ef[:1], *own[-1:], shuffled]
    shown = [by_title[title] for title in dict.fromkeys(row.title for row in judged)]
    made = [(_ef(shown[:-1], folder / "benchmark_ef.png"), "EF seen against EF true, and their agreement")]
    made.append((_timing(shown, folder / "benchmark_timing.png"), "When end-systole comes, against the truth"))
    films: list[Row] = [Truth(), *with_ef[:1], *own[-1:]]
    made.append((_film(work, listed, list(dict.fromkeys(films)), folder / "benchmark_frames.png"), "Frames of three hearts"))
    return [(title, f"{folder.name}/{path.name}") for path, title in made]


def _save(figure: Any, path: Path) -> Path:
    import matplotlib.pyplot as plt

    figure.savefig(path, dpi=100, pil_kwargs={"optimize": True})
    plt.close(figure)
    return path


def _pairs(row: dict[str, Any]) -> tuple[Floats, Floats]:
    """EF seen and EF true in % of the clips of a row."""
    found = [case["ef"] for case in row["cases"].values() if case["ef"] is not None]
    seen, true = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return seen, true


def _ef(shown: Sequence[dict[str, Any]], path: Path) -> Path:
    """Above EF seen against EF true, below what lies between them against their mean (Bland and Altman)."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(shown), figsize=(3.2 * len(shown), 6.0), squeeze=False, layout="constrained")
    for column, (row, colour) in enumerate(zip(shown, _COLOURS, strict=False)):
        seen, true = _pairs(row)
        above, below = axes[:, column]
        above.plot([10, 85], [10, 85], color="0.7", linewidth=0.8)
        above.scatter(true, seen, s=14, color=colour, linewidths=0)
        above.set(xlim=(5, 90), ylim=(5, 90), xlabel="EF true, %", aspect="equal")
        above.set_title(row["title"].replace(": ", ":\n"), fontsize=9)
        below.scatter((seen + true) / 2, seen - true, s=14, color=colour, linewidths=0)
        below.set(xlim=(5, 90), ylim=(-40, 40), xlabel="mean of both, %")
        if len(seen):
            low, high = limits_of_agreement(seen, true)
            middle = bias(seen, true)
            for level, style in ((middle, "-"), (low, "--"), (high, "--")):
                below.axhline(level, color="0.3", linewidth=0.8, linestyle=style)
            below.text(7, 34, f"bias {middle:+.1f}, limits {low:+.1f}..{high:+.1f}", fontsize=8)
    axes[0, 0].set_ylabel("EF seen, %")
    axes[1, 0].set_ylabel("seen - true, points")
    return _save(figure, path)


def _timing(shown: Sequence[dict[str, Any]], path: Path) -> Path:
    """One histogram a row of end-systole seen minus true, on one axis."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(shown), 1, figsize=(7.0, 1.25 * len(shown) + 0.5), sharex=True, layout="constrained")
    edges = np.arange(-400.0, 401.0, 20.0)
    for axis, row, colour in zip(np.atleast_1d(axes), shown, _COLOURS, strict=False):
        errors = np.concatenate([np.zeros(0), *(np.asarray(case["es_ms"], dtype=np.float64) for case in row["cases"].values())])
        axis.hist(np.clip(errors, edges[0], edges[-1]), edges, color=colour)
        axis.axvspan(-80, 80, color="0.92", zorder=0)
        axis.set_title(f"{row['title']} ({len(errors)} beats)", fontsize=9, loc="left")
        axis.set_yticks([])
    np.atleast_1d(axes)[-1].set_xlabel("end-systole seen - true, ms (grey: 80 ms; what is beyond is at the ends)")
    return _save(figure, path)


def _film(work: Work, listed: Sequence[Case], rows: Sequence[Row], path: Path) -> Path:
    """A heart of each of three rhythms: its ECG, and under it frames of the rows at the same times."""
    chosen = []
    for rhythm, view in _FILMED:
        alike = sorted((case for case in listed if case.rhythm == rhythm), key=lambda case: (case.view != view, case.index))
        chosen += alike[:1]
    sheets = [_sheet(work, case, rows) for case in chosen]
    whole = Image.new("RGB", (sheets[0].width, sum(sheet.height + 6 for sheet in sheets) - 6), BACKGROUND)
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height + 6
    whole.quantize(palette=palette(24), dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def _sheet(work: Work, case: Case, wanted: Sequence[Row]) -> Image.Image:
    _, ecg = recording(case)
    at = np.round((np.arange(_CELLS) + 0.5) * FRAMES / _CELLS).astype(int)
    rows = [row for row in wanted if row.video(work, case).is_file()]
    truth = read_cine(Truth().video(work, case))
    sheet = Image.new("RGB", (_CELLS * (_CELL + 2) - 2, _STRIP + len(rows) * (_CELL + _LABEL)), BACKGROUND)
    label = f"{case.rhythm}, {case.heart_rate_bpm:.0f} bpm, EF {case.ef_percent:.0f} %"
    strip = EcgStrip(
        ecg,
        start_s=0.0,
        end_s=SECONDS,
        width=sheet.width,
        height=_STRIP,
        label=f"{label}, {case.view}, {case.quality} picture",
        frame_marks_s=truth.times_s[at],
        window_s=SECONDS,
    )
    sheet.paste(Image.fromarray(strip.draw()), (0, 0))
    pen = ImageDraw.Draw(sheet)
    for line, row in enumerate(rows):
        cine = read_cine(row.video(work, case))
        top = _STRIP + line * (_CELL + _LABEL)
        for place, time_s in enumerate(truth.times_s[at]):
            frame = cine.frames[int(np.abs(cine.times_s - time_s).argmin())]
            sheet.paste(Image.fromarray(resize_smoothly(frame, _CELL, _CELL)).convert("RGB"), (place * (_CELL + 2), top + _LABEL))
        pen.text((4, top), row.title, fill=TEXT)
    return sheet


def palette(greys: int) -> Image.Image:
    """Palette of so many greys and of the colours of an ECG strip at four strengths."""
    mixed = [np.linspace(BACKGROUND, colour, 5)[1:] for colour in (TRACE, R_MARK, FRAME_MARK)]
    colours = np.concatenate([np.linspace((0, 0, 0), (255, 255, 255), greys), *mixed])
    holder = Image.new("P", (1, 1))
    holder.putpalette(colours.round().astype(np.uint8).tobytes())
    return holder
