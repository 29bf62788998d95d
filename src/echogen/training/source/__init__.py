"""The one way in which training tasks get their data: windows of samples from any source (`data.source` of a recipe)."""

from echogen.training.source.mixture import TrainingSource
from echogen.training.source.parts import Needs
from echogen.training.source.settings import FORMER_NAMES, SourceEntry, SourceSettings
from echogen.training.source.window import Window, WindowShape

__all__ = ["FORMER_NAMES", "Needs", "SourceEntry", "SourceSettings", "TrainingSource", "Window", "WindowShape"]
