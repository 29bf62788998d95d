"""`echogen pair`: shards of echo that has no ECG, each with an ECG in time with the beats of its video."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from echogen.commands.common import EchoRate
from echogen.commands.prepare import (
    Canonical,
    Compress,
    DatasetName,
    DatasetSplit,
    PerShard,
    RayAddress,
    Workers,
    check_places,
    write_shards,
)
from echogen.errors import InputError


def pair(
    echo: Annotated[Path, typer.Argument(metavar="ECHO", help="The folder of an echo data set, or of videos.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="SHARDS", help="The folder that gets the shards.")],
    ecg: Annotated[
        str,
        typer.Option("--ecg", metavar="simulated|ARCHIVE", help="Simulated ECGs, or the folder of an archive of recorded ones."),
    ] = "simulated",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of all that is drawn.")] = 0,
    name: DatasetName = None,
    split: DatasetSplit = None,
    fps: EchoRate = None,
    workers: Workers = None,
    ray: RayAddress = None,
    per_shard: PerShard = 100,
    compress: Compress = False,
    canonical: Canonical = False,
) -> None:
    """Give each echo video an ECG whose beats lie at its own, so that both can be trained on together.

    The beats are those that the data set states, or that the reader finds. A recorded ECG is that of another person of like rate
    and rhythm, its beats moved, its QRS complexes unstretched. Samples are marked as paired by time, never as simultaneous.
    Videos whose beats cannot be known are listed in manifest.jsonl with the reason.
    """
    check_places(echo, output, fps)
    if ecg != "simulated" and not Path(ecg).is_dir():
        raise InputError(f"--ecg must be simulated or the folder of an ECG archive, not {ecg!r}.")
    from echogen.datasets.pairing import EcgArchive, Pairing
    from echogen.datasets.preparation import Additions, source_of

    if ecg != "simulated":
        EcgArchive(Path(ecg).resolve())  # refuses a folder without ECGs before any video is read
    place = ecg if ecg == "simulated" else str(Path(ecg).resolve())
    options = {key: value for key, value in (("split", split), ("fps", fps)) if value is not None}
    source = source_of(
        echo.resolve(), name, Additions(measured=True, pairing=Pairing(place, seed), canonical=canonical), **options
    )
    write_shards(source, output, per_shard, compress, workers, ray)
