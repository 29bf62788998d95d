"""Time and memory of EchoDiffusion at the paper's size: python benchmarks/speed_cascade.py -> docs/performance.md."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import sys
import time
from typing import Any

import torch

from common import DOCS
from echogen.benchmark.markdown import table, write_section
from echogen.generators.echodiffusion.cascade import Cascade, paper_cascade
from echogen.generators.precision import DTYPES
from echogen.networks.video_unet import VideoUnet
from echogen.samplers.edm import random_normal

IDLE_LOAD = 0.3
#: CPU seconds of one look of the published code, float32, two cores, and seconds of a guided 2SCM video, extrapolated.
PUBLISHED_CPU_S = {("1SCM", 0): 50.4, ("2SCM", 0): 10.6, ("2SCM", 1): 145.2}
PUBLISHED_2SCM_S = 9.9 * 3600
LOOKS = (("1SCM", 0), ("2SCM", 0), ("2SCM", 1))


def _one_look(name: str, index: int, dtype: str, repeats: int) -> dict[str, float]:
    """Wall and CPU seconds of a look of one stage, and the process's peak memory in GB."""
    torch.manual_seed(0)
    config, networks = paper_cascade(name)
    stage, shape = config.stages[index], networks[index]
    network = VideoUnet(shape).eval()
    video = torch.randn(1, shape.channels, stage.frames, stage.size, stage.size)
    told: dict[str, Any] = {"lowres": video, "lowres_level": torch.zeros(1)} if shape.lowres else {}
    times = []
    with torch.inference_mode(), torch.autocast("cpu", DTYPES[dtype], enabled=dtype != "float32"):
        for _ in range(repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            network(video, torch.zeros(1), video[:, :, 0].abs(), torch.full((1,), 0.5), **told)
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {"wall": min(wall for wall, _ in times), "cpu": min(cpu for _, cpu in times), "peak": peak}


def _whole_video(steps: int) -> dict[str, float]:
    """Wall and CPU seconds of a 2SCM video in few steps, without guidance."""
    torch.manual_seed(0)
    config, networks = paper_cascade("2SCM")
    cascade = Cascade(config, [VideoUnet(each).eval() for each in networks])
    wall, cpu = time.perf_counter(), time.process_time()
    cascade.sample(
        torch.rand(1, 3, 112, 112), torch.full((1,), 0.5), random_normal(torch.Generator(), cascade.device), steps=steps
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "peak": peak}


def alone(function: Any, *given: Any) -> dict[str, float]:
    """What a function says in a process of its own, whose peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found: dict[str, float] = pool.apply(function, given)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--busy", action="store_true", help="measure even if the machine is not idle, and say so")
    parser.add_argument("--steps", type=int, default=12, help="of the few-step solver, for the video")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    if load > IDLE_LOAD and not options.busy:
        sys.exit(f"The load average is {load:.2f}; a speed counts only below {IDLE_LOAD}. Wait, or measure anyway with --busy.")
    rows = []
    for name, index in LOOKS:
        published = PUBLISHED_CPU_S[name, index]
        for dtype in ("float32", "bfloat16"):
            found = alone(_one_look, name, index, dtype, options.repeats)
            share = found["cpu"] / published
            rows.append(
                [
                    f"{name}, stage {index + 1}",
                    dtype,
                    f"{found['wall']:.1f}",
                    f"{found['cpu']:.1f}",
                    f"{published:.1f}",
                    f"{share:.2f}",
                    f"{found['peak']:.1f}",
                ]
            )
            print(rows[-1], flush=True)
    video = alone(_whole_video, options.steps)
    idle = "" if load <= IDLE_LOAD else " (NOT idle, so only the CPU seconds count)"
    text = (
        "One look of a denoiser at the paper's size (random weights: none are at hand), batch 1, no guidance, cpu, "
        f"{torch.get_num_threads()} threads, best of {options.repeats}; beside it the CPU seconds of the published code in "
        f"float32 on two other cores. Load average before: {load:.2f}{idle}. Command: `python benchmarks/speed_cascade.py`.\n\n"
    )
    header = ["stage", "dtype", "wall s", "CPU s", "published CPU s", "share", "peak memory, GB"]
    text += table(header, rows)
    text += (
        f"\nA whole 2SCM video (64 frames of 112 x 112) in {options.steps} steps of the few-step solver in each stage, no "
        f"guidance, bfloat16: {video['wall']:.0f} s wall, {video['cpu']:.0f} CPU s, {video['peak']:.1f} GB at most; once. "
        f"Guidance doubles the looks: about {2 * video['wall']:.0f} s. The published sampling, guided, was extrapolated to "
        f"{PUBLISHED_2SCM_S:.0f} s: {PUBLISHED_2SCM_S / (2 * video['wall']):.0f} times as long.\n"
    )
    print(text)
    write_section(DOCS / "performance.md", "EchoDiffusion at the paper's size", text)


if __name__ == "__main__":
    main()
