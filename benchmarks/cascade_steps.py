"""What few steps cost a cascade: python benchmarks/cascade_steps.py -> docs/echodiffusion.md."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common import DOCS
from echogen.benchmark.markdown import table, write_section
from echogen.calibration.echodiffusion import first_stage, small_video_efs, small_videos
from echogen.datasets.held_out import held_out
from echogen.generators.base import Generator
from echogen.generators.echodiffusion.cascade import Cascade, resized
from echogen.generators.echodiffusion.generator import EchoDiffusion, EchoDiffusionConfig
from echogen.metrics.heart.ejection import ejection_report
from echogen.metrics.pictures.likeness import psnr, ssim
from echogen.networks.ef_regressor import at_size
from echogen.samplers.edm import random_normal

FIRST_SEED = 130_000
ASKED = (25.0, 40.0, 55.0, 70.0)


def ef_row(name: str, looks: str, seen: NDArray[np.float64], asked: NDArray[np.float64], cpu: str) -> list[str]:
    known = np.isfinite(seen)
    report = ejection_report(seen[known], asked[known])
    low, high = report.r2_interval
    return [
        name,
        looks,
        str(report.n),
        f"{report.r2:.2f} ({low:.2f}..{high:.2f})",
        f"{report.mae:.1f}",
        f"{report.bias:+.1f}",
        cpu,
    ]


def ef_rows(model: EchoDiffusion, hearts: int, guidances: list[float]) -> list[list[str]]:
    """How well the ejection fraction asked for is shown, by solver, steps and guidance."""
    cases = [held_out(FIRST_SEED + index, 2.0) for index in range(hearts)]
    cascade, usual = first_stage(model)
    asked, best = np.tile(ASKED, hearts), cascade.config.guidance
    rows = []

    def run(name: str, steps: int | None, guidance: float, config: EchoDiffusionConfig) -> None:
        began = time.process_time()
        videos = small_videos(cascade, config, cases, ASKED, steps, guidance)
        cpu = (time.process_time() - began) / len(asked)
        looks = cascade.network_calls(steps)[0] * (2 if guidance != 1.0 else 1)
        rows.append(ef_row(name, str(looks), small_video_efs(videos, config), asked, f"{cpu:.1f}"))
        print(rows[-1], flush=True)

    plain = replace(model.config, ef_calibration=())
    for guidance in guidances:
        run(f"multistep, {usual} steps, guidance {guidance:g}, not calibrated", usual, guidance, plain)
    for steps in (2, 4, 8, 12, 24):
        run(f"multistep, {steps} steps, guidance {best:g}", steps, best, model.config)
    heun = cascade.config.stages[0].steps
    run(f"Heun with churn, {heun} steps, guidance {best:g}", None, best, model.config)
    return rows


def second_stage(model: EchoDiffusion, hearts: int) -> list[list[str]]:
    """How near the second stage comes to the truth, from the truth's own small video."""
    config = model.config.cascade
    before, stage = config.stages[0], config.stages[1]
    cases = [held_out(FIRST_SEED + 1_000 + index, 2.0) for index in range(hearts)]
    fine = [at_size(torch.from_numpy(case.cine.frames[:64].copy())[None].float() / 255.0, stage.size) for case in cases]
    small = [resized(each[None], before.frames, before.size, "trilinear") for each in fine]

    def judged(name: str, looks: str, make: Callable[[int], Tensor], cpu: str = "") -> list[str]:
        values = []
        for index, truth in enumerate(fine):
            made = (make(index).clamp(0, 1) * 255.0).round().to(torch.uint8).numpy()
            true = (truth[0] * 255.0).round().to(torch.uint8).numpy()
            grain = np.abs(np.diff(made.astype(float), axis=2)).mean() / np.abs(np.diff(true.astype(float), axis=2)).mean()
            values.append([psnr(made, true), ssim(made, true), grain])
        means = np.array(values).mean(0)
        row = [name, looks, str(hearts), f"{means[0]:.1f}", f"{means[1]:.3f}", f"{means[2]:.2f}", cpu]
        print(row, flush=True)
        return row

    rows = [judged("truth", "", lambda index: fine[index][0])]
    rows.append(judged("trilinear", "0", lambda index: resized(small[index], stage.frames, stage.size, "trilinear")[0, 0]))
    whole = Cascade(replace(config, steps=None, guided_stages=None), model.cascade.networks)
    for steps in (1, 2, 4, 8):
        spent = 0.0

        def make(index: int, steps: int = steps) -> Tensor:
            nonlocal spent
            began = time.process_time()
            video = second_alone(whole, small[index], fine[index][:, :1], steps)
            spent += time.process_time() - began
            return video

        row = judged(f"multistep, {steps} steps", str(steps), make)
        rows.append([*row[:-1], f"{spent / hearts:.1f}"])
    return rows


def second_alone(cascade: Cascade, small: Tensor, frame: Tensor, steps: int) -> Tensor:
    """(T, H, W) in 0..1 of the second stage, from the video of the first and a frame."""
    channels = cascade.networks[1].config.channels
    normal = random_normal(torch.Generator().manual_seed(0), torch.device("cpu"))
    before, shown = small.expand(-1, channels, -1, -1, -1), frame.expand(-1, channels, -1, -1)
    return cascade.sample_stage(1, before, shown, None, normal, "multistep", steps)[0].mean(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="echodiffusion-small")
    parser.add_argument("--hearts", type=int, default=20)
    parser.add_argument("--fine-hearts", type=int, default=10, help="of the second stage, which is slower")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0, 3.0])
    options = parser.parse_args()
    model = Generator.from_pretrained(options.model)
    assert isinstance(model, EchoDiffusion)
    name = f"{model.name} ({model.weights_hash})"
    ef = table(
        ["first stage", "looks", "n", "R2 (95 %)", "MAE, points", "bias", "CPU s per video"],
        ef_rows(model, options.hearts, options.guidance),
    )
    fine = table(
        ["second stage", "looks", "n", "PSNR, dB", "SSIM", "grain over that of the truth", "CPU s per video"],
        second_stage(model, options.fine_hearts),
    )
    asked = ", ".join(f"{each:g}" for each in ASKED)
    text = (
        f"{name}. First stage: ejection fractions of {asked} % asked of {options.hearts} held-out hearts (seeds {FIRST_SEED}..), "
        "each shown by its end-diastolic frame; measured by the segmenter on the small video brought to 128 x 128, which on true "
        "clips made as small gives R2 0.98. No selection. Second stage: from the true small video to the fine one; grain is the "
        "mean step between neighbouring pixels. The machine was not idle; looks do not depend on that. "
        "Command: `python benchmarks/cascade_steps.py`.\n\n"
    )
    text += ef + "\n" + fine
    print(text)
    write_section(DOCS / "echodiffusion.md", "Quality against steps", text)


if __name__ == "__main__":
    main()
