"""`echogen benchmark`: the open benchmark of generators, on simulated hearts that no training saw."""

from __future__ import annotations

import importlib.util
import shlex
from pathlib import Path
from typing import Annotated

import typer

from echogen.commands.common import check_folder, progress_bar
from echogen.errors import InputError


def benchmark(
    tier: Annotated[int, typer.Option("--tier", metavar="N", help="Hearts: 50, 500 or 2048; fewer are a trial.")] = 50,
    generator: Annotated[
        list[str] | None,
        typer.Option(
            "--generator",
            "--generators",
            "--generator-dir",
            metavar="NAME",
            help="A shipped one, or a folder; may be repeated.",
        ),
    ] = None,
    row: Annotated[
        list[str] | None,
        typer.Option("--row", "--given", metavar="CONDITIONS", help="Only such rows, as ef_percent+reference; may be repeated."),
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option("--add", metavar="NAME=FOLDER", help="Videos of others, named by heart; may be repeated.")
    ] = None,
    best_of: Annotated[
        int, typer.Option("--best-of", min=1, metavar="N", help="A further row with a choice by EF, of systems without an ECG.")
    ] = 1,
    baselines: Annotated[bool, typer.Option("--baselines/--no-baselines", help="Rows of a still frame and a mean heart.")] = True,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="DIR", help="Only write all that a generator may be given."),
    ] = None,
    work: Annotated[Path, typer.Option("--work", metavar="DIR", help="Keeps everything made and measured.")] = Path("runs/bench"),
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Gets benchmark.md and images; below --work if unset."),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Processes, each with one thread.")] = 1,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "cpu",
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Pictures beside the tables.")] = True,
) -> None:
    """Judge generators on frozen simulated hearts: timing, ejection, picture and cost, between the truth and simple baselines.

    A run that was stopped goes on where it was. docs/benchmark.md says how videos of other generators get a row.
    """
    if plots and export is None and importlib.util.find_spec("matplotlib") is None:
        raise InputError("The pictures need matplotlib: pip install 'echogen[docs]', or say --no-plots.")
    added = [(name, folder) for name, _, folder in (text.partition("=") for text in add or [])]
    if any(not name or not folder for name, folder in added):
        raise InputError("--add takes NAME=FOLDER, such as --add mine=videos/mine.")
    if output is not None and not output.is_dir():
        check_folder(output.parent)
    from echogen.benchmark.cases import VERSION, cases, list_hash
    from echogen.benchmark.running import Plan, run

    if export is not None:
        from echogen.benchmark.exporting import export as write_cases

        write_cases(cases(tier), export)
        typer.echo(f"Wrote {tier} hearts of {VERSION} ({list_hash(cases(tier))}) to {export}.")
        return
    models = [name for names in generator or ["phantom-128"] for name in names.split(",") if name]
    options = [f"--tier {tier}", *(f"--generator {shlex.quote(name)}" for name in models)]
    options += [f"--row {conditions}" for conditions in row or []] + [f"--add {shlex.quote(text)}" for text in add or []]
    options += [f"--best-of {best_of}"] * (best_of > 1) + ["--no-baselines"] * (not baselines)
    options += [f"--workers {workers}"] * (workers > 1) + [f"--device {device}"] * (device != "cpu")
    plan = Plan(
        tier,
        tuple(models),
        tuple(added),
        tuple(conditions.replace("frames", "reference") for conditions in row or ()),
        best_of,
        baselines,
        device,
        workers,
        command=" ".join(["echogen benchmark", *options]),
    )
    with progress_bar(f"{tier} hearts") as progress:
        text = run(plan, work, output, plots=plots, progress=progress)
    typer.echo(text)
