"""The error of measuring where the truth is known: python benchmarks/measuring.py -> docs/measuring.md, truth_error.json."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import echogen
from common import DOCS, arguments
from echogen.benchmark.markdown import table, write_section
from echogen.datasets.held_out import held_out
from echogen.measurement import measure
from echogen.measurement.matching import within_video
from echogen.measurement.shipped import load_segmenter
from echogen.metrics.heart.ejection import ejection_report
from echogen.metrics.heart.timing import match_beats, pooled_report

FIRST_SEED = 40_000
WEIGHTS = Path(echogen.__file__).parent / "weights"
TITLES = {
    "segmenter": "The error of measuring, on truth clips",
    "reader": "The error of measuring with the reader, on truth clips",
}


def main() -> None:
    options = arguments(__doc__ or "", clips=200, name="segmenter")
    got, truth, timing = [], [], []
    for clip in range(options.clips):
        case = held_out(FIRST_SEED + clip, 3.0)
        reading = measure(case.cine, load_segmenter(options.name))
        clock = case.heart.clock
        inside = within_video(clock, 0.0, float(case.cine.times_s[-1]))
        timing.append((np.array([b.es_s for b in reading.beats]), clock.avc_s[inside]))
        efs = 100 * (1 - case.heart.esvs_ml[inside] / case.heart.edvs_ml[inside])
        for found, true in match_beats(timing[-1][0], timing[-1][1]).pairs:
            got.append(reading.beat_ef_percent[found])
            truth.append(float(efs[true]))
        if clip % 20 == 19:
            print(clip + 1, ejection_report(got, truth).mae, pooled_report(timing).median_abs_ms, flush=True)
    ef, es = ejection_report(got, truth), pooled_report(timing)
    command = "python benchmarks/measuring.py" + (
        f" --name {options.name} --clips {options.clips}" if options.name == "reader" else ""
    )
    values = {
        "n": options.clips,
        "ef_mae_percent": round(ef.mae, 2),
        "ef_bias_percent": round(ef.bias, 2),
        "ef_r2": round(ef.r2, 3),
        "es_median_ms": round(es.median_abs_ms, 1),
        "es_mean_ms": round(es.mean_ms, 1),
        "matched_fraction": round(es.matched_fraction, 4),
        "command": command,
    }
    (WEIGHTS / options.name / "truth_error.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    rows = [
        ["EF of each beat found", f"R2 {ef.r2:.3f}, MAE {ef.mae:.1f}, bias {ef.bias:+.1f} points", str(ef.n)],
        ["beats found within 80 ms", f"{100 * es.matched_fraction:.1f} %", str(es.n_expected)],
        ["beats found / true beats", f"{es.n_video} / {es.n_expected}", ""],
        ["end-systole, median of the absolute error; mean", f"{es.median_abs_ms:.0f} ms; {es.mean_ms:+.0f} ms", str(es.n)],
    ]
    text = table(["figure", "value", "n"], rows)
    print(text)
    note = (
        f"The shipped {options.name} on {options.clips} held-out simulated clips of 3 s (seeds {FIRST_SEED}..), all "
        "rhythms, both views. "
        f"Command: `{command}`.\n\n"
    )
    write_section(DOCS / "measuring.md", TITLES[options.name], note + text)


if __name__ == "__main__":
    main()
