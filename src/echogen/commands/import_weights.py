"""`echogen import-weights`: import of another project's released weights into a folder that echogen loads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from echogen.commands.common import check_folder, check_input, progress_bar


def import_weights(
    system: Annotated[
        str, typer.Argument(metavar="SYSTEM", help="Whose weights: echopulse, echodiffusion, st-mem or ef-regressor.")
    ],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES...", help="Weights files: .safetensors, .bin, .pt or .pth; a later one wins.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The folder to write; it must be new.")],
) -> None:
    """Import released weights; files that would run a program are refused."""
    check_folder(output.absolute().parent)
    for file in files:
        check_input(file)
    from echogen.checkpoints.importers import import_weights as run
    from echogen.checkpoints.importers import importer_for

    makes = importer_for(system).makes
    with progress_bar("importing") as progress:
        run(system, files, output, progress)
    typer.echo(f"Wrote {output}, {makes}.")
