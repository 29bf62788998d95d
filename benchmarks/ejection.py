"""EF asked against EF measured, on held-out hearts: python benchmarks/ejection.py -> docs/ejection.md."""

from __future__ import annotations

import numpy as np

import echogen
from common import DOCS, arguments
from echogen.benchmark.markdown import table, write_section
from echogen.datasets.clip_store import FPS
from echogen.datasets.held_out import HeldOut, held_out
from echogen.measurement.plain_values import measured_ef_percent
from echogen.metrics.heart.ejection import ejection_report
from echogen.phantom.simulate import render, with_ef
from echogen.records import Cine

ASKED = (25.0, 40.0, 55.0, 70.0)
SECONDS = 2.0
FIRST_SEED = 20_000


def truth_cine(case: HeldOut, ef_percent: float) -> Cine:
    """The same subject and ECG with another EF."""
    heart = with_ef(case.heart, ef_percent)
    times = np.arange(round((SECONDS + 0.5) * FPS)) / FPS
    return Cine(render(heart, times, case.seed).frames, times, heart.probe.mm_per_pixel, heart.anatomy.view)


def main() -> None:
    options = arguments(__doc__ or "", hearts=20, seed=0, guidance=-1.0, steps=0)
    heart = echogen.Generator.from_pretrained(options.model)
    how = {"guidance": None if options.guidance < 0 else options.guidance, "steps": options.steps or None}
    cases = [held_out(FIRST_SEED + i, 4.0) for i in range(options.hearts)]
    got: dict[str, list[float]] = {"truth": [], "no first frame": [], "first frame": []}
    asked = []
    for case in cases:
        image, start = case.first_ed_frame()
        for ef in ASKED:
            asked.append(ef)
            shared = {"seconds": SECONDS, "ef_percent": ef, "view": case.cine.view, "seed": options.seed + case.seed, **how}
            got["truth"].append(measured_ef_percent(truth_cine(case, ef)))
            got["no first frame"].append(measured_ef_percent(heart(case.ecg, start_s=start, **shared)))
            got["first frame"].append(measured_ef_percent(heart(case.ecg, start_s=start, reference=image, **shared)))
        print(
            case.seed,
            case.heart.rhythm.name,
            case.cine.view,
            {k: [f"{v:.0f}" for v in vs[-4:]] for k, vs in got.items()},
            flush=True,
        )
    rows = []
    for name, values in got.items():
        kept = np.isfinite(values)
        report = ejection_report(np.array(values)[kept], np.array(asked)[kept], seed=0)
        low, high = report.r2_interval
        rows.append(
            [name, str(report.n), f"{report.r2:.2f} ({low:.2f}..{high:.2f})", f"{report.mae:.1f}", f"{report.bias:+.1f}"]
            + [f"{np.nanmean([v for v, a in zip(values, asked, strict=True) if a == ef]):.0f}" for ef in ASKED]
        )
        shuffled = np.random.default_rng(0).permutation(np.array(asked)[kept])
        if name != "truth":
            control = ejection_report(np.array(values)[kept], shuffled, seed=0)
            rows.append(
                [f"{name}, EF shuffled", str(control.n), f"{control.r2:.2f}", f"{control.mae:.1f}", f"{control.bias:+.1f}"]
                + [""] * 4
            )
    text = table(["clips", "n", "R2 (95 %)", "MAE, points", "bias", *(f"asked {ef:.0f}: mean" for ef in ASKED)], rows)
    print(text)
    note = (
        f"Generator {heart.name} ({heart.weights_hash}); {options.hearts} held-out hearts (seeds "
        f"{FIRST_SEED}..), their own ECG and "
        f"view, {SECONDS:g} s, each asked for EF 25, 40, 55 and 70; EF measured by the shipped segmenter, "
        "single-plane area-length. "
        "Truth: the simulated heart itself with that EF, so its row is the error of measuring. R2 is 1 - "
        "SSres/SStot about identity. "
        "Command: `python benchmarks/ejection.py`.\n\n"
    )
    write_section(DOCS / "ejection.md", "EF asked and measured", note + text)


if __name__ == "__main__":
    main()
