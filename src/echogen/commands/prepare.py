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
    from echogen.datasets.preparation import Job, Source
    from echogen.datasets.shard_writing import Written


DatasetName = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Which data set it is; recognised by its files unless stated.")
]
DatasetSplit = Annotated[str | None, typer.Option("--split", metavar="NAME", help="Only this part, as the data set calls it.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, metavar="N", help="Processes; one for each processor unless stated.")
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray", metavar="ADDRESS", help="Work under Ray: local (one on this machine), auto (the cluster here) or HOST:PORT."
    ),
]
PerShard = Annotated[int, typer.Option("--per-shard", min=1, metavar="N", help="Files that go into one shard.")]
Canonical = Annotated[
    bool,
    typer.Option(
        "--canonical", help="Store the sector alone, 128 x 128, as training sees it: far smaller and faster to train on."
    ),
]
Compress = Annotated[
    bool, typer.Option("--compress", help="Less than half as large, ten times slower to read; both are lossless.")
]


def prepare(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="The folder of a data set, or of videos.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The folder that gets the shards.")],
    name: DatasetName = None,
    split: DatasetSplit = None,
    fps: EchoRate = None,
    workers: Workers = None,
    ray: RayAddress = None,
    per_shard: PerShard = 100,
    compress: Compress = False,
    canonical: Canonical = False,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="measured", help="Measure masks, beats and EF where the data set states none."),
    ] = None,
    ecg: Annotated[
        str | None, typer.Option("--ecg", metavar="drawn", help="Take the ECG that is drawn into the pictures.")
    ] = None,
) -> None:
    """Turn a data set into shards that stream fast, with everything that is known about each recording.

    A run that was stopped goes on where it was when it is started again. What could not be read is listed in manifest.jsonl
    with the reason; shards.json is there when all is done.
    """
    for option, given, known in (("--labels", labels, "measured"), ("--ecg", ecg, "drawn")):
        if given not in (None, known):
            raise InputError(f"{option} can only be {known}, not {given!r}.")
    check_places(dataset, output, fps)
    from echogen.datasets.preparation import Additions, source_of

    options = {key: value for key, value in (("split", split), ("fps", fps)) if value is not None}
    additions = Additions(measured=labels is not None, drawn_ecg=ecg is not None, canonical=canonical)
    write_shards(source_of(dataset.resolve(), name, additions, **options), output, per_shard, compress, workers, ray)


def check_places(dataset: Path, output: Path, fps: float | None) -> None:
    """Raise `InputError` for a data set that is not there, an output that cannot be written, or a frame rate out of range."""
    check_fps(fps)
    if not dataset.is_dir():
        raise InputError(f"There is no folder {dataset}; name the folder of a data set, or of videos.")
    if not output.is_dir():
        check_folder(output.parent)
    if output.resolve().is_relative_to(dataset.resolve()):
        raise InputError(f"The output {output} lies inside the data set; choose a folder elsewhere.")


def write_shards(source: Source, output: Path, per_shard: int, compress: bool, workers: int | None, ray: str | None) -> None:
    """Write all shards of a source that are not there yet, and say what came of it."""
    from echogen.datasets.preparation import Job, prepare_plan
    from echogen.datasets.shard_writing import begin, finish

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
