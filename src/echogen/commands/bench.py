"""`echogen bench`: seconds of each part, FLOPs, share of the machine's matmul rate, and speed on a live ECG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echogen.commands.common import check_output, progress_bar, write_json
from echogen.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from echogen.bench import LiveRun, Machine, Run
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
    live: Annotated[float, typer.Option("--live", min=0, metavar="S", help="Seconds of live video, too; 0 for none.")] = 8.0,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="bfloat16, or float32 as on a processor without bfloat16; the model's own.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Time a generator on this machine, part by part and live; the machine must have nothing else to do meanwhile."""
    if dtype not in (None, "bfloat16", "float32"):
        raise InputError(f"The type must be bfloat16 or float32, not {dtype!r}.")
    if json is not None:
        check_output(json, (".json",))
    from pydicom.data import get_testdata_file

    from echogen.bench import IDLE_LOAD, measure, measure_live, measure_machine
    from echogen.ecg import read_ecg
    from echogen.generators.base import pick_device

    place = pick_device(device)
    machine = measure_machine(place)
    ecg = read_ecg(str(get_testdata_file("waveform_ecg.dcm")))
    runs, live_runs = [], []
    for generator, image in _generators(model, paper, place, dtype):
        with progress_bar(f"{generator.name}") as progress:
            run = measure(
                generator, ecg, machine, frames=frames, steps=steps, first_frame=image, repeats=repeats, progress=progress
            )
        runs.append(run)
        if live and generator.live_timing is not None:
            with progress_bar(f"{generator.name}, live") as progress:
                live_runs.append(measure_live(generator, ecg, place, seconds=live, progress=progress))
    rates = ", ".join(f"{rate:.2f} in {name}" for name, rate in machine.matmul_tflops.items())
    typer.echo(
        f"{machine.device} ({machine.processor}), {machine.threads} threads, load before {machine.load_before:.2f}; "
        f"TFLOP/s of a matrix product: {rates}."
    )
    for run in runs:
        _print(run)
    for kept_up in live_runs:
        _print_live(kept_up)
    if not machine.idle:
        typer.echo(
            f"These times do not count: the load average before was {machine.load_before:.2f}, not below {IDLE_LOAD}. "
            "Run it again when the machine has nothing else to do."
        )
    if json is not None:
        write_json(json, _document(machine, runs, live_runs))


def _generators(model: str, paper: bool, device: torch.device, dtype: str | None) -> Iterator[tuple[Generator, Cine | None]]:
    """Load the generators to time, each with its first frame, None without one."""
    import torch

    from echogen.bench import grey_image, published_generator, published_networks
    from echogen.generators import EchoPulse, EchoPulsePublished, Generator

    if paper:
        networks = published_networks()
        for name in ("bfloat16", "float32") if dtype is None else (dtype,):
            yield published_generator(networks, name, device), grey_image(*networks[0].config.image_size)
        return
    generator = Generator.from_pretrained(model, device)
    if dtype is not None:
        if not isinstance(generator, EchoPulse):
            raise InputError(f"The generator {generator.name} computes in its own type only; leave --dtype out.")
        generator.dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    image = None
    if isinstance(generator, EchoPulsePublished) and "reference" in generator.takes:
        image = grey_image(*generator.tokenizer.config.image_size)
    yield generator, image


def _document(machine: Machine, runs: list[Run], live: list[LiveRun]) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "machine": {**asdict(machine), "idle": machine.idle},
        "runs": [run.to_json() for run in runs],
        "live": [run.to_json() for run in live],
    }


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


def _print_live(run: LiveRun) -> None:
    typer.echo("")
    typer.echo(
        f"{run.model}, {run.dtype}, live: {run.frames_per_second:.0f} frames/s sustained, enough for {run.streams} at "
        f"{run.fps:g} frames/s one after the other ({1000 * run.cpu_seconds_per_frame:.0f} CPU ms per frame). From the ECG that "
        f"it needs to the first frame {1000 * run.first_frame_median:.0f} ms, at most {1000 * run.first_frame_worst:.0f} ms of "
        f"{run.starts} starts; to each further {1000 * run.part_s:.0f} ms of video {1000 * run.part_median:.0f} ms, at most "
        f"{1000 * run.part_worst:.0f} ms. It needs {1000 * run.future_s:.0f} ms of ECG beyond, so that a frame is at most "
        f"{1000 * run.behind_worst:.0f} ms behind the ECG. Memory: {run.memory_start_mb:.0f} MB before, "
        f"{run.memory_end_mb:.0f} MB after."
    )
