"""One training run from a recipe: behind `echogen.train` and its verb."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from echogen.errors import InputError
from echogen.training.recipe import load_recipe
from echogen.training.tasks import make_task

#: Packages of the extra `train` without which nothing can be trained.
_NEEDED = ("accelerate", "tensorboard")


def train(
    recipe: str | Path,
    output: str | Path,
    settings: Sequence[str] = (),
    *,
    resume: bool = False,
    progress: bool = False,
) -> Path:
    """Train what a recipe describes, and return the folder of the trained weights.

    recipe: the name of a shipped recipe (`echogen list recipes` names all), or a YAML file.
    output: folder for weights, checkpoints, curves and samples.
    settings: changes of the recipe, each "key=value" or "part.key=value" with a value in YAML.
    resume: continue from the newest checkpoint in the folder, exactly as if the run had not been interrupted.
    progress: show a bar on a terminal.
    Raises `InputError` for an unknown recipe, task or setting, data that is not there, a folder that holds another run, and
    where the extra `train` is not installed; `TrainingStopped` when a loss or gradient is not finite.

    >>> import echogen
    >>> weights = echogen.train("st-mem-phantom-small", "run", ["steps=1", "batch_size=2", "sample_every=0"])
    >>> sorted(path.name for path in weights.rglob("*.safetensors"))
    ['model.safetensors']
    """
    check_installed()
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise InputError(f"The output {output} is a file; name a folder.")
    plan = load_recipe(recipe, settings)
    task = make_task(plan)
    from echogen.training.trainer import train as run

    run(task, plan, output, resume=resume, progress=progress)
    return output / "weights"


def check_installed() -> None:
    """Raise `InputError` where a package is missing without which nothing can be trained."""
    for package in _NEEDED:
        if importlib.util.find_spec(package) is None:
            raise InputError(f"Training needs {package}, which is not installed; run: pip install 'echogen[train]'.")
