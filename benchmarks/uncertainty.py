"""Uncertainty of volumes and strain on the phantom: python benchmarks/uncertainty.py -> docs/measuring.md, uncertainty.json.

Every second clip sets the width of each interval, so that it holds the truth of 90 % of them (split conformal prediction); the
others show how many it holds.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import echogen
from common import DOCS, arguments
from echogen.benchmark.markdown import table, write_section
from echogen.datasets.held_out import held_out
from echogen.measurement.chambers import sizes_of
from echogen.measurement.numbers import UNITS, beat_numbers, views_of
from echogen.measurement.reading import read_masks
from echogen.measurement.shipped import load_segmenter

FIRST_SEED = 60_000
WEIGHTS = Path(echogen.__file__).parent / "weights"
#: Share of truths that an interval should hold.
COVERAGE = 0.9


def main() -> None:
    options = arguments(__doc__ or "", clips=80, name="segmenter")
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in UNITS}
    for clip in range(options.clips):
        case = held_out(FIRST_SEED + clip, 2.5)
        views = views_of(case.cine.frames, load_segmenter(options.name))
        scale = case.cine.mm_per_pixel or 1.0
        reading = read_masks(views[0], case.cine.times_s, scale)
        if not reading.beats:
            continue
        got = [beat_numbers(sizes_of(view, scale), case.cine.times_s, reading) for view in views]
        truth = beat_numbers(sizes_of(case.drawn.labels, scale), case.cine.times_s, reading)
        for name in UNITS:
            values = [each[name] for each in got]
            if np.isfinite([*values, truth[name]]).all():
                found[name].append((values[0], float(np.std(values)), truth[name]))
    numbers, rows = {}, []
    for name, unit in UNITS.items():
        value, spread, true = np.array(found[name]).T
        # The same kinds of clips on both sides, which neighbouring seeds do not promise in blocks.
        sets = np.arange(len(value)) % 2 == 0
        half = int(sets.sum())
        usual = float(np.median(spread[sets]))
        ratio = np.abs(value - true) / (spread + usual)
        # The quantile of split conformal prediction (Lei et al., JASA 2018, eq. 4).
        rank = min(int(np.ceil((half + 1) * COVERAGE)), half)
        factor = float(np.sort(ratio[sets])[rank - 1])
        numbers[name] = {"factor": round(factor, 3), "usual_spread": round(usual, 4)}
        held = float((ratio[~sets] <= factor).mean())
        width = float(np.median(factor * (spread[~sets] + usual)))
        error = value - true
        rows.append(
            [
                name,
                unit,
                f"{np.abs(error).mean():.1f}",
                f"{error.mean():+.1f}",
                f"± {width:.1f}",
                f"{100 * held:.0f} %",
                str(len(value)),
            ]
        )
    command = f"python benchmarks/uncertainty.py --name {options.name} --clips {options.clips}"
    document = {"n": options.clips // 2, "coverage": COVERAGE, "command": command, "numbers": numbers}
    (WEIGHTS / options.name / "uncertainty.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    text = table(["number", "unit", "mean error", "bias", "usual interval", "held of the other clips", "n"], rows)
    print(text)
    note = (
        f"The shipped {options.name} against the same measures of the true outlines, on {options.clips} held-out "
        f"simulated clips of 2.5 s (seeds {FIRST_SEED}..). Every second clip sets the width of the intervals, which should hold "
        "90 % of the others. "
        f"This is the error of outlining; on recordings of patients it is larger. Command: `{command}`.\n\n"
    )
    write_section(DOCS / "measuring.md", f"Volumes, atrium and strain by the {options.name}, with their uncertainty", note + text)


if __name__ == "__main__":
    main()
