"""`echogen bench`: seconds per part, FLOPs, and the share of the machine's matmul rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echogen.commands.common import check_output, progress_bar, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from echogen.bench import Machine, Run
    from echogen.generators import Generator
    from echogen.records import Cine


def bench(
    model: Annotated[str, typer.Option("--model", metavar="NAME|DIR", help="A shipped model, or a folder.")] = "phantom-128",
    paper: Annotated[
        bool, typer.Option("--paper", help="ECHOPulse at the paper's size instead, in both types; random weights.")
    ] = False,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures here too.")] = None,
    frames: Annotated[int, typer.Option("--frames", min=1, help="Frames of the video.")] = 64,
    steps: Annotated[int | None, typer.Option("--steps", min=1, help="Decoding steps; the model's own unless stated.")] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="The fastest of this many counts.")] = 3,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Time a generator on this machine, part by part; it must have nothing else to do meanwhile."""
    if json is not None:
        check_output(json, (".json",))
    from pydicom.data import get_testdata_file

    from echogen.bench import IDLE_LOAD, measure, measure_machine
    from echogen.ecg import read_ecg
    from echogen.generators.base import pick_device

    place = pick_device(device)
    machine = measure_machine(place)
    ecg = read_ecg(str(get_testdata_file("waveform_ecg.dcm")))
    runs = []
    for generator, image in _generators(model, paper, place):
        with progress_bar(f"{generator.name}") as progress:
            run = measure(
                generator, ecg, machine, frames=frames, steps=steps, first_frame=image, repeats=repeats, progress=progress
            )
        runs.append(run)
    rates = ", ".join(f"{rate:.2f} in {name}" for name, rate in machine.matmul_tflops.items())
    typer.echo(
        f"{machine.device} ({machine.processor}), {machine.threads} threads, load before {machine.load_before:.2f}; "
        f"TFLOP/s of a matrix product: {rates}."
    )
    for run in runs:
        _print(run)
    if not machine.idle:
        typer.echo(
            f"These times do not count: the load average before was {machine.load_before:.2f}, not below {IDLE_LOAD}. "
            "Run it again when the machine has nothing else to do."
        )
    if json is not None:
        write_json(json, _document(machine, runs))


def _generators(model: str, paper: bool, device: torch.device) -> Iterator[tuple[Generator, Cine | None]]:
    """The generators to time, with the image that each begins with."""
    from echogen.bench import grey_image, published_generator, published_networks
    from echogen.generators import EchoPulsePublished, Generator

    if paper:
        networks = published_networks()
        for dtype in ("bfloat16", "float32"):
            yield published_generator(networks, dtype, device), grey_image(*networks[0].config.image_size)
        return
    generator = Generator.from_pretrained(model, device)
    image = None
    if isinstance(generator, EchoPulsePublished) and "frames" in generator.takes:
        image = grey_image(*generator.tokenizer.config.image_size)
    yield generator, image


def _document(machine: Machine, runs: list[Run]) -> dict[str, object]:
    from dataclasses import asdict

    return {"machine": {**asdict(machine), "idle": machine.idle}, "runs": [run.to_json() for run in runs]}


def _print(run: Run) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("part", "seconds", "share", "GFLOP", "of the matmul rate", box=None)
    for part in run.parts:
        reached = "-" if part.matmul_share is None else f"{part.matmul_share:.0%}"
        table.add_row(part.part, f"{part.seconds:.2f}", f"{part.share:.0%}", f"{part.gflop:.0f}", reached)
    table.add_row("whole", f"{run.seconds:.2f}", "100%", f"{run.gflop:.0f}", f"{run.matmul_share:.0%}")
    weights = f"{run.parameters / 1e6:.1f} million weights"
    weights += " at random, since none are at hand" if run.weights_hash is None else f" ({run.weights_hash})"
    typer.echo("")
    typer.echo(
        f"{run.model}, {run.dtype}: {run.frames} frames of {run.height} x {run.width} with decoding, {run.steps} steps, "
        f"{'an image and ' if run.first_frame else ''}an ECG of {run.heart_rate_bpm:.0f} bpm, {weights}."
    )
    Console().print(table)
    typer.echo(
        f"{run.seconds:.2f} s (fastest of {run.repeats}), {run.cpu_seconds:.2f} CPU s; {run.seconds_per_video_second:.2f} s per "
        f"second of video at {run.fps:g} frames/s, {run.seconds_per_beat:.2f} s per beat. "
        f"At the full matmul rate it would take {run.seconds_at_matmul_rate:.2f} s."
    )
