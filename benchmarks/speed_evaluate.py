"""Time of `echogen evaluate` with echogen's own networks: python benchmarks/speed_evaluate.py -> docs/performance.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from common import DOCS
from echogen.benchmark.markdown import table, write_section
from echogen.cine import write
from echogen.datasets.held_out import held_out
from echogen.errors import InputError
from echogen.metrics.evaluation.run import METRICS, evaluate
from echogen.phantom.simulate import true_beats

FIRST_SEED, FRAMES, IDLE_LOAD, CLIPS = 60_000, 64, 0.3, 500


def make_clips(folder: Path, clips: int, hearts: int) -> None:
    """`clips` real and generated clips: so many hearts, and copies of them that differ by a little noise."""
    random = np.random.default_rng(0)
    drawn = [held_out(FIRST_SEED + seed, FRAMES / 32.0) for seed in range(min(hearts, clips))]
    for side in ("real", "generated"):
        (folder / side).mkdir()
        for number in range(clips):
            case = drawn[number % len(drawn)]
            noise = random.integers(-3, 4, case.cine.frames.shape)
            frames = np.clip(case.cine.frames + noise, 0, 255).astype(np.uint8)
            write(replace(case.cine, frames=frames), folder / side / f"clip-{number:05d}.npz")
            r_s = [beat.r_s for beat in true_beats(case.heart, 0.0, FRAMES / 32.0)]
            facts = {"settings": {"ef_percent": case.heart.anatomy.ef_percent}, "r_s": r_s}
            (folder / side / f"clip-{number:05d}.json").write_text(json.dumps(facts))


def own_metrics() -> list[str]:
    """Those that need no file of others."""
    found = []
    for name, metric in METRICS.items():
        try:
            metric.make()
        except InputError:
            continue
        found.append(name)
    return found


def cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--busy", action="store_true", help="measure even if the machine is not idle, and say so")
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--hearts", type=int, default=20, help="how many of the clips are hearts of their own")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    if load > IDLE_LOAD and not options.busy:
        sys.exit(f"The load average is {load:.2f}; a speed counts only below {IDLE_LOAD}. Wait, or measure anyway with --busy.")
    names = own_metrics()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_clips(folder, options.clips, options.hearts)
        before, cpu = time.perf_counter(), cpu_seconds()
        evaluate(folder / "real", folder / "generated", names, processes=options.processes)
        wall, cpu = time.perf_counter() - before, cpu_seconds() - cpu
    idle = load <= IDLE_LOAD
    by_wall, by_cpu = (seconds / options.clips * CLIPS / 60 for seconds in (wall, cpu / options.processes))
    row = [str(options.clips), f"{wall:.0f}" if idle else "-", f"{cpu:.0f}", f"{by_wall:.1f}" if idle else "-", f"{by_cpu:.1f}"]
    note = (
        f"`echogen evaluate`: pairs of clips of {FRAMES} frames of 128 x 128, cpu, float32, {options.processes} processes, once, "
        f"the start of the processes included. Metrics: {', '.join(names)}. Load average before: {load:.2f}"
        f"{'' if idle else ' (NOT idle, so only the CPU seconds count)'}. "
        f"Command: `python benchmarks/speed_evaluate.py --clips {options.clips}`.\n\n"
    )
    text = note + table(
        ["pairs", "wall s", "CPU s", f"minutes for {CLIPS}", f"the same, from CPU s over {options.processes} processes"], [row]
    )
    print(text)
    write_section(DOCS / "performance.md", "Evaluating", text)


if __name__ == "__main__":
    main()
