"""A small system for the wrappers to go around: it shows clips that it is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echogen.generators import Generator
from echogen.generators.base import Context
from echogen.generators.sampling import Sampling
from echogen.records import Cine, Conditions


class Shelf(Generator):
    """Shows the clip whose number is the seed, in parts of so many frames."""

    name, weights_hash, window_s = "shelf", "0", 2.0
    takes = frozenset({"ecg", "ef_percent"})
    ecg_past_s = 3.0

    def __init__(self, clips: Sequence[Cine], fps: float, parts: Sequence[int]) -> None:
        self.clips, self.native_fps, self.sizes = clips, fps, parts

    @classmethod
    def from_folder(cls, folder: Path, settings: dict[str, Any], device: torch.device) -> Shelf:
        raise AssertionError("it has no folder")

    def save_pretrained(self, folder: str | Path) -> None:
        raise AssertionError("it has no folder")

    def window(self, conditions: Conditions, context: Context, sampling: Sampling) -> tuple[Cine, Context]:
        clip, begin = self.clips[sampling.seed % len(self.clips)], sum(self.sizes[: context.index])
        chosen = slice(begin, begin + self.sizes[context.index])
        part = replace(clip, frames=clip.frames[chosen], times_s=clip.times_s[chosen])
        return part, Context(context.index + 1, float(part.times_s[-1]) + 1.0 / self.native_fps)


@pytest.fixture(scope="session")
def shelf_of() -> Callable[..., Generator]:
    """shelf_of(clips, fps, parts) is a generator that shows these clips; parts: frames of each part."""
    return Shelf


@pytest.fixture(scope="session")
def greys() -> Generator:
    """A generator of clips of 4 frames and 1 s whose grey value is the seed, up to 100."""
    return Shelf([Cine(np.full((4, 16, 16), grey, np.uint8), np.arange(4) / 4) for grey in range(100)], 4.0, (4,))
