"""Joining of trained stages, in order, into EchoDiffusion."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from echogen.errors import InputError
from echogen.generators.echodiffusion.cascade import CascadeConfig, Stage
from echogen.generators.echodiffusion.generator import EchoDiffusion, EchoDiffusionConfig
from echogen.networks.config import config_from_dict, load_network
from echogen.networks.video_unet import VideoUnet
from echogen.samplers.edm import Edm

STAGE = "weights/video-unet"


def assemble_cascade(
    runs: Sequence[Path],
    folder: Path,
    *,
    guidance: float = 1.0,
    guided_stages: int | None = None,
    steps: Sequence[int] | None = None,
    lowres_level: float = CascadeConfig.lowres_level,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write a generator's folder from the runs of the task echodiffusion, one a stage.

    guidance, guided_stages, steps, lowres_level: of a `CascadeConfig`. dtype: bfloat16, or int8 for a smaller folder.
    Raises `InputError` when a run left no stage, or stages do not follow one another.
    """
    said = [_said(run) for run in runs]
    # Stages may learn from other noise than one another; it plays no part in sampling.
    stages = tuple(config_from_dict(Stage, each["stage"]) for each in said)
    shared = [each["edm"] for stage, each in zip(stages, said, strict=True) if stage.edm is None]
    edms = {replace(config_from_dict(Edm, each), ln_sigma_mean=0.0, ln_sigma_std=1.0) for each in shared}
    if len(edms) > 1:
        raise InputError("These stages were trained with different constants of the diffusion; train them with the same.")
    spans = {stage.frames / each["fps"] for stage, each in zip(stages, said, strict=True)}
    if len(spans) > 1:
        raise InputError(f"These stages span different times ({', '.join(f'{span:g} s' for span in sorted(spans))}).")
    cascade = CascadeConfig(
        stages,
        edm=edms.pop(),
        lowres_level=lowres_level,
        guidance=guidance,
        guided_stages=guided_stages,
        steps=None if steps is None else tuple(steps),
    )
    config = EchoDiffusionConfig(cascade, fps=said[-1]["fps"])
    networks = [load_network(VideoUnet, run / STAGE) for run in runs]
    EchoDiffusion(config, networks, torch.device("cpu")).save_pretrained(folder, dtype)


def _said(run: Path) -> dict[str, Any]:
    """Description of a stage in its run: stage, fps, edm."""
    try:
        said: dict[str, Any] = json.loads((run / STAGE / "stage.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"There is no stage of EchoDiffusion in {run}; give the folder that `echogen train` wrote.") from error
    return said


def main() -> None:
    """Older form of `echogen assemble RUN ... -o DIR`: python -m echogen.generators.echodiffusion.assemble."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a stage's training run")
    parser.add_argument("--guidance", type=float, default=1.0, help="how strongly the EF pulls; 1 is not at all")
    parser.add_argument("--guided-stages", type=int, help="so many of the first stages are guided; all unless stated")
    parser.add_argument("--steps", type=int, nargs="+", help="of the few-step solver, one number a stage")
    parser.add_argument("--lowres-level", type=float, default=CascadeConfig.lowres_level, help="of the noise on smaller videos")
    parser.add_argument("--int8", action="store_true", help="weights of 8 bits, half as large")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    asked = parser.parse_args()
    try:
        assemble_cascade(
            asked.runs,
            asked.output,
            guidance=asked.guidance,
            guided_stages=asked.guided_stages,
            steps=asked.steps,
            lowres_level=asked.lowres_level,
            dtype=torch.int8 if asked.int8 else torch.bfloat16,
        )
    except InputError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
