"""`echogen train`: one training run, from a recipe."""

from __future__ import annotations

import importlib.util
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
    for package in ("accelerate", "tensorboard"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"Training needs {package}, which is not installed; run: pip install 'echogen[train]'.")
    if output.exists() and not output.is_dir():
        raise InputError(f"The output {output} is a file; name a folder.")
    from echogen.training import TrainingStopped, load_recipe
    from echogen.training import train as run

    plan = load_recipe(recipe, settings or [])
    from echogen.training.tasks import make_task

    try:
        run(make_task(plan), plan, output, resume=resume, progress=True)
    except TrainingStopped as stopped:
        typer.echo(str(stopped), err=True)
        raise typer.Exit(1) from stopped
