"""Base of the wrappers: a generator around another one, in any order."""

from __future__ import annotations

from typing import Any

from echogen.generators.base import Generator
from echogen.generators.sampling import LiveTiming
from echogen.generators.video_generator import VideoGenerator
from echogen.records import Conditions


class Wrapper(VideoGenerator):
    """Generator around another generator or wrapper; every attribute that it lacks is the wrapped one's.

    generator: the wrapped generator or wrapper.
    """

    def __init__(self, generator: VideoGenerator) -> None:
        self.generator = generator

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the wrapped generator."""
        if name == "generator":  # not there yet, as when unpickled
            raise AttributeError(name)
        return getattr(self.generator, name)

    def check(self, conditions: Conditions) -> None:
        """Raise `InputError` for conditions that the wrapped generator does not take."""
        self.generator.check(conditions)

    @property
    def core(self) -> Generator:
        """The system inside all wrappers."""
        return self.generator.core

    @property
    def window_s(self) -> float:
        """Longest time that one window covers, in s."""
        return self.generator.window_s

    @property
    def live_timing(self) -> LiveTiming | None:
        """Timing along an ECG that is being recorded; None: such an ECG cannot be followed."""
        return self.generator.live_timing
