"""Clips that look like echo without being simulated: a fan of speckle with a cavity that beats."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from echogen.cine import write
from echogen.records import Cine


def beating_fan(seed: int, fps: float, seconds: float, size: int = 128) -> Cine:
    """(frames, size, size) in the canonical geometry; the cavity's rate and the speckle follow from the seed."""
    random = np.random.default_rng(seed)
    rows, columns = (np.indices((size, size)) + 0.5) * 128 / size
    down, across = rows - 6, columns - 64
    inside = (np.hypot(down, across) < 112) & (np.abs(np.arctan2(across, down)) < 0.7)
    speckle = random.rayleigh(55, (size, size))
    times = np.arange(round(seconds * fps)) / fps
    radius = 20 + 5 * np.cos(2 * np.pi * (1.0 + 0.1 * (seed % 5)) * times)[:, None, None]
    cavity = np.hypot(down - 55, 1.6 * across) < radius
    frames = np.clip(np.where(cavity, 0.15, 1.0) * speckle + 20, 0, 255) * inside
    return Cine(frames.astype(np.uint8), times)


@pytest.fixture(scope="session")
def fan() -> Callable[..., Cine]:
    return beating_fan


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Five clips of either kind: "patient-…" at 40 frames per second with 112 rows, "model-…" at 25 with 128."""
    made = []
    for kind, fps, size in (("patient", 40.0, 112), ("model", 25.0, 128)):
        folder = tmp_path_factory.mktemp(kind)
        for index in range(5):
            write(beating_fan(10 * len(made) + index, fps, 1.6, size), folder / f"{kind}-{index}.npz")
        made.append(folder)
    return made[0], made[1]
