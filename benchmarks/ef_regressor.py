"""The EF regressor where the truth is known: python benchmarks/ef_regressor.py -> docs/ef_regressor.md, truth_error.json."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import echogen
from common import DOCS
from echogen.benchmark.markdown import table, write_section
from echogen.datasets.held_out import HeldOut, held_out
from echogen.measurement import load_segmenter, measure
from echogen.measurement.regression import regressed_ef_percent
from echogen.metrics.heart.ejection import ejection_report
from echogen.networks.config import load_network
from echogen.networks.ef_regressor import EfRegressor
from echogen.phantom.simulate import true_beats

FIRST_SEED = 110_000
SECONDS = 3.0
#: Below, between and above these EFs in %, the error is given by itself.
EDGES = (35.0, 50.0)
SHIPPED = Path(echogen.__file__).parent / "weights" / "ef-regressor"


def shown_ef(case: HeldOut) -> float:
    """Median EF in % of the beats that the clip shows."""
    times = case.cine.times_s
    shown = [beat.ef_percent for beat in true_beats(case.heart, times[0], times[-1])]
    return float(np.median([ef for ef in shown if ef is not None]))


def row(name: str, seen: NDArray[np.float64], truth: NDArray[np.float64]) -> list[str]:
    report = ejection_report(seen, truth)
    (low, high), (least, most) = report.r2_interval, report.limits_of_agreement
    points = [f"{report.mae:.1f}", f"{report.rmse:.1f}", f"{report.bias:+.1f}", f"{least:+.1f}..{most:+.1f}"]
    return [name, str(report.n), f"{report.r2:.2f} ({low:.2f}..{high:.2f})", *points]


def by_range(seen: NDArray[np.float64], truth: NDArray[np.float64]) -> list[list[str]]:
    """Errors of low, middle and high EF, where R2 says nothing."""
    low, high = EDGES
    parts = {
        f"below {low:g} %": truth < low,
        f"{low:g} to {high:g} %": (truth >= low) & (truth < high),
        f"{high:g} % and more": truth >= high,
    }
    reports = {name: ejection_report(seen[chosen], truth[chosen]) for name, chosen in parts.items()}
    return [[name, str(each.n), f"{each.mae:.1f}", f"{each.bias:+.1f}"] for name, each in reports.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--regressor", type=Path, default=SHIPPED, help="folder of the network")
    parser.add_argument("--hearts", type=int, default=100)
    options = parser.parse_args()
    regressor = load_network(EfRegressor, options.regressor)
    found = []
    for index in range(options.hearts):
        case = held_out(FIRST_SEED + index, SECONDS)
        own = measure(case.cine, load_segmenter()).ef_percent
        second = regressed_ef_percent(case.cine, regressor)
        found.append([np.nan if value is None else value for value in (shown_ef(case), second, own)])
        if index % 20 == 19:
            print(index + 1, f"mean error {np.nanmean(np.abs(np.diff(np.array(found)[:, :2]))):.2f}", flush=True)
    truth, seen, segmented = np.array(found)[np.isfinite(found).all(axis=1)].T
    shuffled = np.random.default_rng(0).permutation(truth)
    header = ["EF against the truth", "n", "R2 (95 %)", "MAE, points", "RMSE", "bias", "limits of agreement"]
    rows = [
        row("by the segmenter (area-length)", segmented, truth),
        row("by the regressor", seen, truth),
        row("by the regressor, truth shuffled", seen, shuffled),
        row("regressor against segmenter", seen, segmented),
    ]
    text = table(header, rows) + "\n" + table(["by the regressor, true EF", "n", "MAE, points", "bias"], by_range(seen, truth))
    print(text)
    if options.regressor == SHIPPED:
        report = ejection_report(seen, truth)
        values = {
            "n": report.n,
            "ef_mae_percent": round(report.mae, 2),
            "ef_bias_percent": round(report.bias, 2),
            "ef_r2": round(report.r2, 3),
            "command": "python benchmarks/ef_regressor.py",
        }
        (SHIPPED / "truth_error.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        note = (
            f"The shipped regressor on {options.hearts} held-out simulated clips of {SECONDS:g} s (seeds {FIRST_SEED}..), all "
            "rhythms, both views, with "
            "the segmenter's ejection fraction on the same clips beside it; the truth is the median over the beats of a clip, by "
            "volume. R2 is 1 - SSres/SStot about identity. Command: `python benchmarks/ef_regressor.py`.\n\n"
        )
        write_section(DOCS / "ef_regressor.md", "A second opinion on ejection fraction, on truth clips", note + text)


if __name__ == "__main__":
    main()
