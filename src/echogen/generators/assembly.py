"""Recognition of training runs by the networks that they left, and their joining into a generator's folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from echogen.errors import InputError
from echogen.generators.base import Generator
from echogen.generators.echodiffusion.assemble import assemble_cascade
from echogen.generators.echodiffusion.cascade import CascadeConfig
from echogen.generators.echopulse.add_student import add_student
from echogen.generators.echopulse.assemble import assemble
from echogen.generators.echopulse.grow_codebook import write_grown

#: Networks by which a run is recognised, as its folder `weights` names them.
TOKENIZER, TRANSFORMER, ST_MEM, STAGE, STUDENT = "tokenizer", "transformer", "st_mem", "video-unet", "few-steps"
#: Answer to runs that make no generator together.
COMBINATIONS = (
    "give a tokenizer's and a transformer's run (and ST-MEM's, for the paper's system), the runs of a cascade's stages in order, "
    "or a student's run with the generator as the output"
)


@dataclass(frozen=True)
class CascadeOptions:
    """Sampling of a cascade: fields of `CascadeConfig`, and the precision of the weights.

    guidance: how strongly the EF pulls; 1 is not at all.
    guided_stages: so many of the first stages are guided; None for all.
    steps: of the few-step solver, one number a stage; None for Heun's solver.
    lowres_level: noise that is added to the smaller video before a stage sees it.
    int8: weights of 8 bits instead of bfloat16, half as large.
    """

    guidance: float = 1.0
    guided_stages: int | None = None
    steps: tuple[int, ...] | None = None
    lowres_level: float = CascadeConfig.lowres_level
    int8: bool = False


@dataclass(frozen=True)
class StudentOptions:
    """Steps in which a student guesses a window, and a part of live video."""

    steps: int = 2
    live_steps: int = 1


def kind_of(run: Path) -> str:
    """Name of the network by which a training run's folder is recognised. Raises `InputError` where it left none."""
    kinds = [kind for kind in (TOKENIZER, TRANSFORMER, ST_MEM, STAGE, STUDENT) if (run / "weights" / kind).is_dir()]
    if len(kinds) != 1:
        raise InputError(f"There is no part of a generator in {run}; give the folder that `echogen train` wrote.")
    return kinds[0]


def join_runs(
    runs: Sequence[Path],
    folder: Path,
    *,
    ecg_encoder: Path | None = None,
    text_encoder: str | None = None,
    cascade: CascadeOptions | None = None,
    student: StudentOptions | None = None,
) -> None:
    """Write a generator's folder from the training runs of its parts, in any order but for the stages of a cascade.

    A tokenizer and a transformer make ECHOPulse: the paper's with an encoder of ECG (also as a run among `runs`) or text, else
    the default one. Stages make EchoDiffusion. A student alone is added to the generator that lies in `folder`.
    cascade, student: of these two alone.

    Raises `InputError` for runs that make no generator together, and for options that these runs do not take.
    """
    kinds = [kind_of(run) for run in runs]
    found, count = dict(zip(kinds, runs, strict=True)), Counter(kinds)
    encoders = ecg_encoder is not None or text_encoder is not None
    if set(kinds) == {STAGE}:
        _refuse(encoders, "An encoder", "a cascade")
        _refuse(student is not None, "A number of live steps", "a cascade")
        options = cascade or CascadeOptions()
        assemble_cascade(
            runs,
            folder,
            guidance=options.guidance,
            guided_stages=options.guided_stages,
            steps=options.steps,
            lowres_level=options.lowres_level,
            dtype=torch.int8 if options.int8 else torch.bfloat16,
        )
        return
    _refuse(cascade is not None, "Sampling of a cascade", "these runs")
    if kinds == [STUDENT]:
        _refuse(encoders, "An encoder", "a student")
        chosen = student or StudentOptions()
        add_student(runs[0], folder, steps=chosen.steps, live_steps=chosen.live_steps)
        return
    _refuse(student is not None, "A student's steps", "these runs")
    if count - Counter([TOKENIZER, TRANSFORMER, ST_MEM]) or not {TOKENIZER, TRANSFORMER} <= set(kinds):
        raise InputError(f"Runs of {', '.join(kinds)} make no generator together; {COMBINATIONS}.")
    if ST_MEM in found and ecg_encoder is not None:
        raise InputError(f"{found[ST_MEM]} and {ecg_encoder} are both encoders of an ECG; give one.")
    encoder = found.get(ST_MEM, ecg_encoder)
    assemble(found[TOKENIZER], found[TRANSFORMER], folder, ecg_encoder=encoder, text_encoder=text_encoder)


def _refuse(given: bool, option: str, runs: str) -> None:
    if given:
        raise InputError(f"{option} has no meaning for {runs}; leave it out.")


def grow(generator: str | Path, levels: Sequence[int], folder: Path) -> None:
    """Write the tokenizer and the transformer of an ECHOPulse with more codes, from where training can go on.

    levels: of FSQ, the generator's own first. Raises `InputError` for another system, or levels that do not continue its own.
    """
    write_grown(Generator.from_pretrained(generator, "cpu"), tuple(levels), folder)
