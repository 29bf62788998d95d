"""Tables of the open benchmark in markdown, with a legend and notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from echogen.benchmark.cases import FIRST_SEED, FPS, FRAMES, TIERS, VERSION
from echogen.benchmark.markdown import table


@dataclass(frozen=True)
class Column:
    """Column of a table.

    head: text over the column.
    figure: name of the figure in it.
    form: format of the numbers.
    scale: factor before they are written, 100 for a share in %.
    """

    head: str
    figure: str
    form: str = ".2f"
    scale: float = 1.0


#: Columns of each table, by its title.
TABLES: dict[str, tuple[Column, ...]] = {
    "Timing": (
        Column("matched within 80 ms, %", "timing", ".0f", 100.0),
        Column("matched of beats that eject, %", "timing_ejecting", ".0f", 100.0),
        Column("median ES error, ms", "timing_median_ms", ".0f"),
        Column("drift, ms/s", "drift_ms_per_s", "+.1f"),
        Column("ED error, ms", "ed", ".0f"),
        Column("ES error, ms", "es", ".0f"),
        Column("cycle lengths, r", "cycle_correlation"),
        Column("area curve, r", "curve"),
    ),
    "Ejection": (
        Column("EF, R2", "ef_r2"),
        Column("EF, mean abs. error, points", "ef", ".1f"),
        Column("EF, RMSE", "ef_rmse", ".1f"),
        Column("EF, bias, points", "ef_bias", "+.1f"),
        Column("EF by a regressor, R2", "ef_regressor_r2"),
        Column("stroke of a premature beat over a normal one", "pvc_stroke"),
        Column("stroke after each RR in AF, r", "af_stroke_rr"),
        Column("late filling in sinus rhythm, % of stroke", "late_filling_sinus", ".0f", 100.0),
        Column("late filling in AF, % of stroke", "late_filling_af", ".0f", 100.0),
    ),
    "Picture and cost": (
        Column("SSIM", "ssim"),
        Column("speckle contrast", "speckle"),
        Column("speckle width along the beam, px", "speckle_axial_px", ".1f"),
        Column("speckle, frame to frame, r", "speckle_frame_correlation"),
        Column("Fréchet echo distance", "echo", ".1f"),
        Column("kernel distance of the same features", "echo_mmd", ".3f"),
        Column("copies of training clips, %", "memorisation", ".0f", 100.0),
        Column("CPU s per clip", "cpu_seconds", ".1f"),
    ),
}
#: Text above the tables.
LEGEND = (
    "Truth: the simulated clips themselves, measured alike, so its row is the error of measuring; its distances between sets are "
    "those between every other clip and the rest, and fewer clips make a Fréchet distance larger. Below: baselines that any "
    "generator should beat; another heart's truth is the same set of clips, so between sets it is the best that can be. "
    "Shuffled: each video of the row named, judged as that of another heart. Intervals of 95 % by resampling clips.\n\n"
    "Matched, ES error, drift: measured end-systole against the true aortic closure. Beats that eject: those with at least a "
    "quarter of the heart's median stroke; early beats of a heart that hardly filled have an end-systole that nothing shows. "
    "ED and ES error: mean, against the truth video measured alike, beat by beat, up to half a cycle away (a video without the "
    "ECG's timing gets about a quarter of a cycle). Premature beats: hearts with PVCs, stroke volume over the median of the "
    "clip's normal beats, 1 where the beat is like any other. Late filling: the median share of a stroke that flows in during "
    "the last 0.16 s of a diastole of at least 0.5 s: by the atria, which in AF do not contract; diastoles that a beat "
    "interrupts which ejects too little to be seen are left out. EF without an EF asked: what is drawn or seen, against the "
    "truth's."
)


def _value(row: dict[str, Any], column: Column) -> dict[str, Any] | None:
    found: dict[str, Any] | None = row["figures"].get(column.figure)
    return found if found and np.isfinite(found["value"]) else None


def _cell(row: dict[str, Any], column: Column) -> str:
    found = _value(row, column)
    if found is None:
        return ""
    value, low, high = (format(column.scale * found[key], column.form) for key in ("value", "low", "high"))
    return f"{value} ({low}..{high})" if np.isfinite(found["low"]) else value


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """Write every row into every table, truth first; a column of which nothing is known is left out."""
    parts = []
    for title, columns in TABLES.items():
        known = [column for column in columns if any(_value(row, column) for row in rows)]
        lines = [[row["title"], str(row["n"]), *(_cell(row, c) for c in known)] for row in rows]
        parts.append(f"### {title}\n\n" + table(["video", "n", *(column.head for column in known)], lines))
    return "\n".join(parts)


def notes(rows: Sequence[dict[str, Any]]) -> str:
    """List the figures that could not be had, or only in part, with the reason, one line a figure."""
    shown = {column.figure for columns in TABLES.values() for column in columns} | {"refused"}
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for name, note in row["notes"].items():
            if name in shown:
                found.setdefault(name, {}).setdefault(note, []).append(row["title"])
    lines = []
    for name, by_note in found.items():
        for note, titles in by_note.items():
            whose = "" if len(titles) == len(rows) else f" ({'; '.join(titles)})"
            lines.append(f"- {name}{whose}: {note}")
    return "\n".join(lines)


def section(results: dict[str, Any], pictures: Sequence[tuple[str, str]]) -> str:
    """Write the section of a document; pictures: (title, path from the document)."""
    count = results["hearts"]
    tier = f"Tier {count}" if count in TIERS else f"A trial with {count} hearts, which is no tier"
    text = (
        f"{tier} of `{VERSION}` (cases {results['cases_hash']}, seeds {FIRST_SEED}..{FIRST_SEED + count - 1}); phantom "
        f"{results['phantom']}; videos of {FRAMES} frames at {FPS:g} frames/s. Command: `{results['command']}`; "
        f"{results['cpu_seconds_per_heart']:.0f} CPU s per heart to make and measure all rows ({results['device']}, one thread a "
        f"process, {results['cores']} cores).\n\n{LEGEND}\n\n"
    )
    text += tables(results["rows"])
    remarks = notes(results["rows"])
    text += f"\nNotes:\n\n{remarks}\n" if remarks else ""
    text += "".join(f"\n![{title}]({path})\n" for title, path in pictures)
    return text
