"""Seconds to make 64 frames, part by part: python benchmarks/speed.py [--paper 1] -> docs/performance.md.

--paper 1: the published ECHOPulse at the paper's size, too, with random weights.
"""

from __future__ import annotations

import time

import numpy as np
import torch

import echogen
from common import DOCS, arguments, recordings
from echogen.bench import Machine, Run, grey_image, measure, measure_machine, published_generator, published_networks
from echogen.benchmark.markdown import table, write_section
from echogen.measurement import load_segmenter, segment

FRAMES = 64


def segmenting_s(repeats: int) -> float:
    """Seconds to segment 64 frames, the best of `repeats`; a longer clip is taken, since short ones are noisy."""
    frames, network, best = np.zeros((2 * FRAMES, 128, 128), np.uint8), load_segmenter(), np.inf
    for _ in range(repeats):
        begin = time.perf_counter()
        segment(frames, network)
        best = min(best, time.perf_counter() - begin)
    return float(best) / 2


def section(run: Run, machine: Machine, further: list[list[str]], command: str) -> str:
    """A run as markdown."""
    rows = [["whole", f"{run.seconds:.2f}", "100 %", f"{run.gflop:.0f}", f"{100 * run.matmul_share:.0f} %"]]
    for part in run.parts:
        reached = "" if part.matmul_share is None else f"{100 * part.matmul_share:.0f} %"
        rows.append([part.part, f"{part.seconds:.2f}", f"{100 * part.share:.0f} %", f"{part.gflop:.0f}", reached])
    rates = ", ".join(f"{rate:.2f} {name}" for name, rate in machine.matmul_tflops.items())
    length = f"{run.frames / run.fps:.3g} s at {run.fps:g} frames/s"
    return (
        f"{run.frames} frames ({length}) of {run.height} x {run.width} with decoding, "
        f"{run.steps} steps, batch 1, {run.model} ({run.parameters / 1e6:.1f} M parameters, "
        f"{run.weights_hash or 'random: none are at hand'}), {machine.device}, "
        f"{machine.threads} threads, {run.dtype}, best of {run.repeats}: {run.seconds:.2f} s wall, {run.cpu_seconds:.2f} CPU s, "
        f"{run.seconds_per_video_second:.2f} s per video second, {run.seconds_per_beat:.2f} s per beat "
        f"({run.heart_rate_bpm:.0f} bpm). At the full matmul rate it would take {run.seconds_at_matmul_rate:.2f} s. "
        f"Load average before: {machine.load_before:.2f}{'' if machine.idle else ' (NOT idle: an upper bound)'}. "
        f"The machine's matmul rate in TFLOP/s: {rates}. Command: `{command}`.\n\n"
        + table(["part", "seconds", "share", "GFLOP", "of the matmul rate"], rows + further)
    )


def main() -> None:
    options = arguments(__doc__ or "", repeats=3, paper=0)
    device = torch.device("cpu")
    machine = measure_machine(device)
    ecg = echogen.read_ecg(recordings()[0].path, seconds=8.0)
    heart = echogen.Generator.from_pretrained(options.model, device)
    run = measure(heart, ecg, machine, frames=FRAMES, repeats=options.repeats)
    further = [["measuring: segmenting 64 frames", f"{segmenting_s(options.repeats):.2f}", "", "", ""]]
    sections = {"Making 64 frames": section(run, machine, further, "python benchmarks/speed.py")}
    if options.paper:
        networks = published_networks()
        for dtype in ("bfloat16", "float32"):
            published = published_generator(networks, dtype, device)
            image = grey_image(*networks[0].config.image_size)
            run = measure(published, ecg, machine, frames=FRAMES, first_frame=image, repeats=options.repeats)
            title = f"ECHOPulse at the paper's size, {dtype}"
            sections[title] = section(run, machine, [], "python benchmarks/speed.py --paper 1")
    for title, text in sections.items():
        print(f"{title}\n\n{text}")
        write_section(DOCS / "performance.md", title, text)


if __name__ == "__main__":
    main()
