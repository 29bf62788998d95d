"""The systems that make echo video."""

from echogen.generators.base import Generator
from echogen.generators.echodiffusion.generator import EchoDiffusion, EchoDiffusionConfig
from echogen.generators.echopulse.config import EchoPulseConfig
from echogen.generators.echopulse.generator import EchoPulse
from echogen.generators.echopulse.paper import EchoPulsePaper, EchoPulsePaperConfig
from echogen.generators.echopulse.published import EchoPulsePublished, EchoPulsePublishedConfig
from echogen.generators.loading import GENERATORS
from echogen.generators.sampling import Sampling

__all__ = [
    "GENERATORS",
    "EchoDiffusion",
    "EchoDiffusionConfig",
    "EchoPulse",
    "EchoPulseConfig",
    "EchoPulsePaper",
    "EchoPulsePaperConfig",
    "EchoPulsePublished",
    "EchoPulsePublishedConfig",
    "Generator",
    "Sampling",
]
