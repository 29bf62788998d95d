"""Training tasks by name, one a file."""

from __future__ import annotations

from echogen.errors import InputError
from echogen.training.recipe import Recipe
from echogen.training.task import Task
from echogen.training.tasks.echo_features import EchoFeaturesTask
from echogen.training.tasks.echodiffusion import EchoDiffusionTask
from echogen.training.tasks.echopulse_tokenizer import EchoPulseTokenizerTask
from echogen.training.tasks.echopulse_transformer import EchoPulseTransformerTask
from echogen.training.tasks.ef_regressor import EfRegressorTask
from echogen.training.tasks.few_steps import FewStepsTask
from echogen.training.tasks.identity import IdentityTask
from echogen.training.tasks.masked_video import MaskedVideoTask
from echogen.training.tasks.refiner import RefinerTask
from echogen.training.tasks.segmenter import SegmenterTask
from echogen.training.tasks.st_mem import StMemTask
from echogen.training.tasks.tokenizer import TokenizerTask

TASKS: dict[str, type[Task]] = {
    "tokenizer": TokenizerTask,
    "echopulse-tokenizer": EchoPulseTokenizerTask,
    "echopulse-transformer": EchoPulseTransformerTask,
    "echodiffusion": EchoDiffusionTask,
    "refiner": RefinerTask,
    "segmenter": SegmenterTask,
    "echo-features": EchoFeaturesTask,
    "identity": IdentityTask,
    "ef-regressor": EfRegressorTask,
    "masked-video": MaskedVideoTask,
    "few-steps": FewStepsTask,
    "st-mem": StMemTask,
}


def task_class(name: str) -> type[Task]:
    """Class of the task with a name. Raises `InputError` for an unknown one."""
    if name not in TASKS:
        raise InputError(f"There is no training task {name!r}; use one of {', '.join(TASKS)}.")
    return TASKS[name]


def make_task(recipe: Recipe) -> Task:
    """Make the task that a recipe names. Raises `InputError` for an unknown one."""
    return task_class(recipe.task)(recipe)


__all__ = ["make_task", "task_class"]
