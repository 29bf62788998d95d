"""`echogen assemble`: a generator's folder made from training runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from echogen.commands.common import check_folder
from echogen.errors import InputError


def assemble(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of training runs; with --levels the generator that gets more codes."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The generator's folder.")],
    ecg_encoder: Annotated[
        Path | None, typer.Option("--ecg-encoder", metavar="DIR", help="ST-MEM's training run, or the folder of an ST-MEM.")
    ] = None,
    text_encoder: Annotated[
        str | None,
        typer.Option("--text-encoder", metavar="NAME", help="Folder of a T5 encoder, or its name on the Hugging Face hub."),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            "--steps", metavar="N,N", help="Of a student in a window (2), or of a cascade's few-step solver, one number a stage."
        ),
    ] = None,
    live_steps: Annotated[
        int | None, typer.Option("--live-steps", min=1, help="Of a student in a part of live video (1).")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option("--guidance", help="Of a cascade: how strongly the EF pulls; 1 is not at all.")
    ] = None,
    guided_stages: Annotated[
        int | None, typer.Option("--guided-stages", min=0, help="Of a cascade: how many are guided.")
    ] = None,
    lowres_level: Annotated[
        float | None, typer.Option("--lowres-level", help="Of a cascade: noise on the smaller video that a stage sees.")
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Of a cascade: weights of 8 bits, half as large.")] = False,
    levels: Annotated[
        str | None, typer.Option("--levels", metavar="N,N,...", help="Write an ECHOPulse's networks with more codes instead.")
    ] = None,
) -> None:
    """Join trained networks into a generator.

    The runs are recognised by what they hold: a tokenizer and a transformer make ECHOPulse, stages in order EchoDiffusion, and a
    student is added to the generator in DIR.
    """
    check_folder(output.parent)
    if output.exists() and not output.is_dir():
        raise InputError(f"The output {output} is a file; name a folder.")
    numbers = _numbers("--steps", steps)
    from echogen.generators import assembly

    if levels is not None:
        if len(runs) != 1:
            raise InputError("--levels takes one generator, which gets more codes.")
        assembly.grow(runs[0], _numbers("--levels", levels) or (), output)
        typer.echo(
            f"Wrote a tokenizer and a transformer with more codes to {output}; train them on with --set init_from={output}."
        )
        return
    cascade = student = None
    if live_steps is not None or (numbers and [assembly.kind_of(run) for run in runs] == [assembly.STUDENT]):
        if numbers and len(numbers) != 1:
            raise InputError("A student takes one number of --steps.")
        usual = assembly.StudentOptions()
        student = assembly.StudentOptions((numbers or (usual.steps,))[0], live_steps or usual.live_steps)
    elif numbers or int8 or any(given is not None for given in (guidance, guided_stages, lowres_level)):
        plain = assembly.CascadeOptions()
        cascade = assembly.CascadeOptions(
            guidance=plain.guidance if guidance is None else guidance,
            guided_stages=guided_stages,
            steps=numbers,
            lowres_level=plain.lowres_level if lowres_level is None else lowres_level,
            int8=int8,
        )
    assembly.join_runs(runs, output, ecg_encoder=ecg_encoder, text_encoder=text_encoder, cascade=cascade, student=student)
    typer.echo(f"Wrote the generator {output}; the last step is echogen calibrate {output}.")


def _numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise InputError(f"{option} takes positive whole numbers with commas between them, not {text!r}.")
    return numbers
