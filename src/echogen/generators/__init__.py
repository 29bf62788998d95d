"""The systems that make echo video."""

from echogen.generators.base import Generator, Sampling
from echogen.generators.echodiffusion import EchoDiffusion, EchoDiffusionConfig
from echogen.generators.echopulse import EchoPulse
from echogen.generators.echopulse_config import EchoPulseConfig
from echogen.generators.echopulse_paper import EchoPulsePaper, EchoPulsePaperConfig
from echogen.generators.echopulse_published import EchoPulsePublished, EchoPulsePublishedConfig

__all__ = [
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
