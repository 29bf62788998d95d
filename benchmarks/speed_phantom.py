"""Frames per second of the phantom: python benchmarks/speed_phantom.py -> docs/performance.md."""

from __future__ import annotations

import argparse
import os
import sys
import time

import numpy as np
import torch

from common import DOCS
from echogen.benchmark.markdown import table, write_section
from echogen.datasets.clip_store import FPS, draw_recording
from echogen.phantom.simulate import render

FRAMES, REPEATS, IDLE_LOAD = 128, 3, 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--busy", action="store_true", help="measure even if the machine is not idle, and say so")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    if load > IDLE_LOAD and not options.busy:
        sys.exit(f"The load average is {load:.2f}; a speed counts only below {IDLE_LOAD}. Wait, or measure anyway with --busy.")
    times = np.arange(FRAMES) / FPS
    rows = []
    for seed in (0, 1):
        heart, _ = draw_recording(seed, FRAMES / FPS)
        render(heart, times[:32], seed, device=options.device)
        runs = []
        for _ in range(REPEATS):
            wall, cpu = time.perf_counter(), time.process_time()
            render(heart, times, seed, device=options.device)
            runs.append((time.perf_counter() - wall, time.process_time() - cpu))
        wall, cpu = min(runs)
        rows.append([f"{heart.anatomy.view}, seed {seed}", f"{FRAMES / wall:.0f}", f"{wall:.3f}", f"{cpu:.3f}"])
    note = (
        f"`render`: {FRAMES} frames of 128 x 128 with and without speckle, labels, displacement; {options.device}, float32, "
        f"{torch.get_num_threads()} threads, best of {REPEATS}. Load average before: {load:.2f}"
        f"{'' if load <= IDLE_LOAD else ' (NOT idle: a lower bound)'}. Command: `python benchmarks/speed_phantom.py`.\n\n"
    )
    text = note + table(["heart", "frames/s", "wall s", "CPU s"], rows)
    print(text)
    write_section(DOCS / "performance.md", "Drawing phantom frames", text)


if __name__ == "__main__":
    main()
