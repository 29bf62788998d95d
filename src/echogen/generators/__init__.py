"""The systems that make echo video."""

from echogen.generators.base import Generator, Sampling
from echogen.generators.echopulse import EchoPulse, EchoPulseConfig
from echogen.generators.echopulse_published import EchoPulsePublished, EchoPulsePublishedConfig

__all__ = ["EchoPulse", "EchoPulseConfig", "EchoPulsePublished", "EchoPulsePublishedConfig", "Generator", "Sampling"]
