"""One trainer for every network, driven by recipes."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from echogen.training.recipe import Recipe, load_recipe, settings
from echogen.training.task import OptimizerGroup, Task

if TYPE_CHECKING:
    from echogen.training.trainer import TrainingStopped, train

__all__ = ["OptimizerGroup", "Recipe", "Task", "TrainingStopped", "load_recipe", "settings", "train"]


def __getattr__(name: str) -> Any:
    """Import the trainer when it is first asked for: tasks and recipes can be listed where accelerate is not installed."""
    if name in ("TrainingStopped", "train"):
        return getattr(import_module("echogen.training.trainer"), name)
    raise AttributeError(f"module 'echogen.training' has no attribute {name!r}")
