"""Clips that look like echo without being simulated, and a generator whose frames say what they are."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echogen.cine import write
from echogen.generators.base import Context, Generator
from echogen.generators.sampling import LiveTiming, Sampling
from echogen.records import Cine, Conditions


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


class Telltale(Generator):
    """Frames of a beating fan whose lower edge tells their number, seed and ejection fraction as black and white squares."""

    system = "telltale"
    name, weights_hash = "telltale", "0"
    native_fps = 32.0
    takes = frozenset({"ecg", "ef_percent", "view", "reference"})
    ef_range = (15.0, 80.0)
    BITS = 16

    def __init__(self) -> None:
        self.fan = beating_fan(1, 32.0, 1.0).frames

    @classmethod
    def from_folder(cls, folder: Path, settings: dict[str, Any], device: torch.device) -> Telltale:
        return cls()

    def save_pretrained(self, folder: str | Path) -> None:
        raise AssertionError("it is not saved")

    @property
    def window_s(self) -> float:
        return 1.0

    @property
    def live_timing(self) -> LiveTiming:
        return LiveTiming(1 / 32, 8 / 32, 0.25, 2.0)

    def window(self, conditions: Conditions, context: Context, sampling: Sampling) -> tuple[Cine, Context]:
        count = 32 if not sampling.live else 8 if context.index else 1
        times = context.next_s + np.arange(count) / 32.0
        numbers = np.rint(times * 32).astype(int)
        frames = self.fan[numbers % 32].copy()
        rows = (numbers, np.full(count, sampling.seed), np.full(count, int(conditions.ef_percent or 0)))
        for row, values in enumerate(rows):
            for bit in range(self.BITS):
                lit = (values >> bit & 1).astype(np.uint8) * 255
                frames[:, 104 + 8 * row : 112 + 8 * row, 8 * bit : 8 * bit + 8] = lit[:, None, None]
        return Cine(frames, times, view=conditions.view), Context(context.index + 1, float(times[-1] + 1 / 32))

    @classmethod
    def told(cls, frame: np.ndarray) -> tuple[int, int, int]:
        """Number, seed and ejection fraction that a frame of any size tells."""
        scale = frame.shape[0] / 128
        centres = ((8 * np.arange(cls.BITS) + 4) * scale).astype(int)
        rows = [frame[int((108 + 8 * row) * scale), centres] > 127 for row in range(3)]
        return tuple(int((row << np.arange(cls.BITS)).sum()) for row in rows)  # type: ignore[return-value]


@pytest.fixture(scope="session")
def telltale() -> Telltale:
    return Telltale()


@pytest.fixture(scope="session")
def serving() -> Callable[..., Any]:
    """serving(app, **uvicorn settings) is a context in which the app runs at an address, which it gives."""
    uvicorn = pytest.importorskip("uvicorn", reason="the extra serve is not installed")
    from echogen.app.page import listen

    @contextmanager
    def run(app: Any, **settings: Any) -> Iterator[str]:
        with listen("127.0.0.1", 0) as waiting:
            server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, **settings))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [waiting]})
            thread.start()
            try:
                yield f"http://127.0.0.1:{waiting.getsockname()[1]}/"
            finally:
                server.should_exit = True
                thread.join()

    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("there is no chromium on this machine")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield started
        started.close()
