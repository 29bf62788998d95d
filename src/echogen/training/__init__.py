"""One trainer for every network, driven by recipes."""

from echogen.training.recipe import Recipe, load_recipe, settings
from echogen.training.task import OptimizerGroup, Task
from echogen.training.trainer import TrainingStopped, train

__all__ = ["OptimizerGroup", "Recipe", "Task", "TrainingStopped", "load_recipe", "settings", "train"]
