"""`echogen prepare`: conversion of any data set, or of a folder of videos, to shards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echogen.commands.common import EchoRate, check_folder, check_fps, progress_bar
from echogen.errors import InputError

if TYPE_CHECKING:
    from echogen.datasets.preparation import Job
    from echogen.datasets.shard_writing import Written


def prepare(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="The folder of a data set, or of videos.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The folder that gets the shards.")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Which data set it is; recognised by its files unless stated.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Only this part, as the data set calls it.")
    ] = None,
    fps: EchoRate = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, metavar="N", help="Processes; one for each processor unless stated.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray", metavar="ADDRESS", help="Work under Ray: local (one on this machine), auto (the cluster here) or HOST:PORT."
        ),
    ] = None,
    per_shard: Annotated[int, typer.Option("--per-shard", min=1, metavar="N", help="Files that go into one shard.")] = 100,
    compress: Annotated[
        bool, typer.Option("--compress", help="Less than half as large, ten times slower to read; both are lossless.")
    ] = False,
) -> None:
    """Turn a data set into shards that stream fast, with everything that is known about each recording.

    A run that was stopped goes on where it was when it is started again. What could not be read is listed in manifest.jsonl
    with the reason; shards.json is there when all is done.
    """
    check_fps(fps)
    if not dataset.is_dir():
        raise InputError(f"There is no folder {dataset}; name the folder of a data set, or of videos.")
    if not output.is_dir():
        check_folder(output.parent)
    if output.resolve().is_relative_to(dataset.resolve()):
        raise InputError(f"The output {output} lies inside the data set; choose a folder elsewhere.")
    from echogen.datasets.preparation import Job, prepare_plan, source_of
    from echogen.datasets.shard_writing import begin, finish

    options = {"split": split, "fps": fps}
    source = source_of(dataset.resolve(), name, **{key: value for key, value in options.items() if value is not None})
    plan = prepare_plan(source, per_shard, compress)
    jobs = [Job(source, output.resolve(), plan, shard) for shard in begin(output, plan)]
    before = plan.shards - len(jobs)
    with progress_bar("preparing") as progress:
        progress(before, plan.shards)
        for done, _ in enumerate(_written(jobs, workers, ray), start=before + 1):
            progress(done, plan.shards)
    typer.echo(described(finish(output, plan), output))


def described(written: Written, output: Path) -> str:
    """Summary of the outcome in one sentence. Raises `InputError` where nothing could be used."""
    from echogen.datasets.shards import MANIFEST

    if not written.samples:
        reason = (written.first_reason or "").rstrip(".")
        raise InputError(f"None of the {written.rejected} sources could be used ({reason}); see {output / MANIFEST} for each.")
    left_out = f"; {written.rejected} rejected, see {MANIFEST}" if written.rejected else ""
    return f"Wrote {written.samples} {'sample' if written.samples == 1 else 'samples'} to {output}{left_out}."


def _written(jobs: list[Job], workers: int | None, ray: str | None) -> Iterator[int]:
    """Write the shards, and yield the number of each when it is finished."""
    from echogen.datasets.preparation import prepare_shard
    from echogen.metrics.evaluation.processes import in_processes

    processes = min(workers or os.cpu_count() or 1, len(jobs))
    if ray is not None:
        from echogen.datasets.cluster import prepare_on_ray

        yield from prepare_on_ray(jobs, ray, workers)
    elif processes > 1:
        yield from in_processes(prepare_shard, [(job,) for job in jobs], processes)
    else:
        yield from map(prepare_shard, jobs)
