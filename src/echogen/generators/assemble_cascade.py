"""Join trained stages, the first one first, into EchoDiffusion: python -m echogen.generators.assemble_cascade RUN ... -o DIR."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from echogen.errors import InputError
from echogen.generators.cascade import CascadeConfig, Stage
from echogen.generators.echodiffusion import EchoDiffusion, EchoDiffusionConfig
from echogen.networks.config import config_from_dict, load_network
from echogen.networks.video_unet import VideoUnet
from echogen.samplers.edm import Edm

STAGE = "weights/video-unet"


def assemble_cascade(runs: Sequence[Path], folder: Path, guidance: float = 1.0) -> None:
    """Write a generator's folder from the runs of the task echodiffusion, one a stage, in bfloat16.

    guidance: of the EF. Raises `InputError` when a run left no stage, or stages do not follow one another.
    """
    said = [_said(run) for run in runs]
    edms = {config_from_dict(Edm, each["edm"]) for each in said}
    if len(edms) > 1:
        raise InputError("These stages were trained with different constants of the diffusion; train them with the same.")
    stages = tuple(config_from_dict(Stage, each["stage"]) for each in said)
    spans = {stage.frames / each["fps"] for stage, each in zip(stages, said, strict=True)}
    if len(spans) > 1:
        raise InputError(f"These stages span different times ({', '.join(f'{span:g} s' for span in sorted(spans))}).")
    config = EchoDiffusionConfig(CascadeConfig(stages, edm=edms.pop(), guidance=guidance), fps=said[-1]["fps"])
    networks = [load_network(VideoUnet, run / STAGE) for run in runs]
    EchoDiffusion(config, networks, torch.device("cpu")).save_pretrained(folder, torch.bfloat16)


def _said(run: Path) -> dict[str, Any]:
    """What a run said of its stage: stage, fps, edm."""
    try:
        said: dict[str, Any] = json.loads((run / STAGE / "stage.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"There is no stage of EchoDiffusion in {run}; give the folder that `echogen train` wrote.") from error
    return said


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a stage's training run")
    parser.add_argument("--guidance", type=float, default=1.0, help="how strongly the EF pulls; 1 is not at all")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder to write")
    asked = parser.parse_args()
    try:
        assemble_cascade(asked.runs, asked.output, asked.guidance)
    except InputError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
