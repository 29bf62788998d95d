"""`echogen render`: store of simulated clips for training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from echogen.commands.common import check_folder, check_fps, progress_bar


def render(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Folder that gets the clips, in shards.")],
    clips: Annotated[int, typer.Option("-n", "--clips", min=1, metavar="N", help="At least so many; shards are whole.")] = 2400,
    frames: Annotated[int, typer.Option("--frames", min=1, metavar="N", help="Frames of each clip.")] = 97,
    fps: Annotated[float, typer.Option("--fps", metavar="HZ", help="Frames per second.")] = 32.0,
    finer: Annotated[int, typer.Option("--finer", min=1, max=4, metavar="N", help="So many times 128 pixels a side.")] = 1,
    look: Annotated[
        Literal["plain", "varied", "balanced", "soft", "grainy", "bright", "crisp", "dark"],
        typer.Option("--look", help="The plain phantom, a machine's pictures, or any machine's."),
    ] = "plain",
    first_seed: Annotated[
        int, typer.Option("--first-seed", min=0, help="Of the first clip; hearts below 1,000,000 are held out by the benchmarks.")
    ] = 1_000_000,
    per_shard: Annotated[int, typer.Option("--per-shard", min=1, metavar="N", help="Clips in one shard.")] = 50,
    processes: Annotated[int, typer.Option("--processes", min=1, metavar="N", help="That render side by side.")] = 2,
) -> None:
    """Render simulated hearts, with the truth of every frame, for `echogen train`.

    Shards that are there already are kept, so a run that was stopped goes on where it was. A clip of 3 s takes 4 MB.
    """
    check_fps(fps)
    check_folder(next((folder for folder in (output, *output.absolute().parents) if folder.exists()), output))
    from echogen.datasets.clip_store import render_clips

    with progress_bar("rendering") as progress:
        render_clips(
            output,
            clips,
            frames=frames,
            first_seed=first_seed,
            processes=processes,
            progress=progress,
            fps=fps,
            finer=finer,
            look=look,
            clips_per_shard=per_shard,
        )
    rendered = -(-clips // per_shard) * per_shard
    typer.echo(f"Rendered {rendered} {'clip' if rendered == 1 else 'clips'} to {output}.")
