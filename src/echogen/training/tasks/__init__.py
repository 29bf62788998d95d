"""Training tasks by name, one a file."""

from __future__ import annotations

from echogen.registry import Registry
from echogen.training.recipe import Recipe
from echogen.training.task import Task

#: The tasks by the name that a recipe gives; a package adds its own by an entry point of `echogen.tasks`.
TASKS: Registry[type[Task]] = Registry(
    "training task",
    "echogen.tasks",
    "echogen.training.task:Task",
    {
        "tokenizer": "echogen.training.tasks.tokenizer:TokenizerTask",
        "echopulse-tokenizer": "echogen.training.tasks.echopulse_tokenizer:EchoPulseTokenizerTask",
        "echopulse-transformer": "echogen.training.tasks.echopulse_transformer:EchoPulseTransformerTask",
        "echodiffusion": "echogen.training.tasks.echodiffusion:EchoDiffusionTask",
        "refiner": "echogen.training.tasks.refiner:RefinerTask",
        "segmenter": "echogen.training.tasks.segmenter:SegmenterTask",
        "reader": "echogen.training.tasks.reader:ReaderTask",
        "echo-features": "echogen.training.tasks.echo_features:EchoFeaturesTask",
        "identity": "echogen.training.tasks.identity:IdentityTask",
        "ef-regressor": "echogen.training.tasks.ef_regressor:EfRegressorTask",
        "masked-video": "echogen.training.tasks.masked_video:MaskedVideoTask",
        "few-steps": "echogen.training.tasks.few_steps:FewStepsTask",
        "st-mem": "echogen.training.tasks.st_mem:StMemTask",
    },
)


def task_class(name: str) -> type[Task]:
    """Class of the task with a name. Raises `InputError` for an unknown one, with the nearest known."""
    return TASKS.find(name)


def make_task(recipe: Recipe) -> Task:
    """Make the task that a recipe names. Raises `InputError` for an unknown one, with the nearest known."""
    return task_class(recipe.task)(recipe)


__all__ = ["TASKS", "make_task", "task_class"]
