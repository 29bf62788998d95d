"""The systems that make echo video."""

from echogen.generators.base import Generator, Sampling
from echogen.generators.echopulse import EchoPulse, EchoPulseConfig

__all__ = ["EchoPulse", "EchoPulseConfig", "Generator", "Sampling"]
