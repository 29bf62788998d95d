"""`echogen train`: one training run described by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from echogen.errors import InputError


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="The name of a shipped recipe, or a YAML file.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Folder for weights, checkpoints, curves and samples.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the newest checkpoint in DIR.")] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="List every setting with value, type, default and meaning; train nothing.")
    ] = False,
) -> None:
    """Train what a recipe describes; an interrupted run continues with --resume."""
    if show:
        from echogen.training import load_recipe
        from echogen.training.listing import recipe_settings, settings_text

        typer.echo(settings_text(recipe_settings(load_recipe(recipe, settings or []))))
        return
    if output is None:
        raise InputError("A training run needs a folder for its results; give one with -o DIR.")
    from echogen.training.run import check_installed
    from echogen.training.run import train as run

    check_installed()
    from echogen.training import TrainingStopped

    try:
        run(recipe, output, settings or [], resume=resume, progress=True)
    except TrainingStopped as stopped:
        typer.echo(str(stopped), err=True)
        raise typer.Exit(1) from stopped
