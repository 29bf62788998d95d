"""A generator without networks: an ellipse in a sector that is as large as the ventricle should be at each moment."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from echogen import Cine, Conditions, InputError
from echogen.ecg import find_landmarks
from echogen.generators.base import Context, Generator, Sampling
from echogen.physiology import Filling, beat_clock, beat_volumes, volume_curve

#: Height and width of a frame in pixels, as all of echogen's networks see echo.
SIZE = 128
#: Size of a pixel in mm: 128 pixels show a depth of 154 mm.
MM_PER_PIXEL = 1.2
#: Frames of one window; a video is made window by window.
FRAMES = 32
#: Length over width of the ellipse, as of a ventricle in the four-chamber view.
ELONGATION = 1.9
#: Thickness of the wall in pixels, 10 mm.
WALL_PX = 8.0
#: Row and column of the ellipse's centre in pixels.
CENTRE = (52.0, 66.0)
#: Grey levels (0..255) of blood, wall and what lies around.
BLOOD, WALL, AROUND = 12.0, 150.0, 60.0
#: EF in % where none is asked for.
USUAL_EF_PERCENT = 60.0


@dataclass(frozen=True)
class EllipseConfig:
    """What generator.json holds besides the system.

    fps: frames per second.
    edv_ml: volume at end-diastole in ml.
    """

    fps: float = 32.0
    edv_ml: float = 120.0


class Ellipse(Generator):
    """An ellipse that beats like the ventricle of the ECG; an example of a generator in a package of its own."""

    system = "example-ellipse"
    takes = frozenset({"ecg", "ef_percent"})
    ef_range = (10.0, 80.0)

    def __init__(self, config: EllipseConfig) -> None:
        self.config = config
        self.name, self.weights_hash = self.system, ""
        self.native_fps = config.fps

    @classmethod
    def from_folder(cls, folder: Path, settings: dict[str, Any], device: torch.device) -> Self:
        """Make the generator of a folder; a system with networks would load them here, onto the device."""
        return cls(EllipseConfig(**settings))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write generator.json into a folder."""
        text = json.dumps({"system": self.system, **asdict(self.config)}, indent=2) + "\n"
        (Path(folder) / "generator.json").write_text(text, encoding="utf-8")

    @property
    def window_s(self) -> float:
        """Length of a window in s."""
        return FRAMES / self.native_fps

    def window(self, conditions: Conditions, context: Context, sampling: Sampling) -> tuple[Cine, Context]:
        """Make the next second: R peaks of the ECG, volume at each moment, ellipse of that volume, speckle from the seed."""
        if conditions.ecg is None:
            raise InputError(f"The generator {self.name} follows an ECG; give one.")
        times_s = context.next_s + np.arange(FRAMES) / self.native_fps
        beats = find_landmarks(conditions.ecg)
        ef_percent = conditions.ef_percent or USUAL_EF_PERCENT
        clock = beat_clock(beats.qrs_onset_s, beats.p_onset_s, ef_percent=ef_percent, wide_qrs=beats.wide_qrs)
        esv_ml = self.config.edv_ml * (1.0 - ef_percent / 100.0)
        volumes_ml = volume_curve(times_s, clock, *beat_volumes(clock, self.config.edv_ml, esv_ml, Filling()))
        noise = np.random.default_rng([sampling.seed, context.index])
        frames = np.stack([draw(volume_ml, noise) for volume_ml in volumes_ml])
        next_s = context.next_s + self.window_s
        return Cine(frames, times_s, MM_PER_PIXEL, "A4C"), Context(context.index + 1, next_s)


def draw(volume_ml: float, noise: np.random.Generator) -> np.ndarray:
    """Draw one frame, (128, 128) uint8, whose cavity is a prolate ellipsoid of the given volume in ml."""
    # V = 4/3 pi (L/2) (W/2)^2 with L = ELONGATION W.
    width_px = (6.0e3 * volume_ml / (np.pi * ELONGATION)) ** (1 / 3) / MM_PER_PIXEL
    row, column = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    across, along = (column - CENTRE[1]) / (width_px / 2), (row - CENTRE[0]) / (ELONGATION * width_px / 2)
    beyond_px = (np.hypot(across, along) - 1.0) * width_px / 2
    grey = np.where(beyond_px < 0, BLOOD, np.where(beyond_px < WALL_PX, WALL, AROUND))
    grey = grey * noise.rayleigh(0.8, grey.shape)  # the statistics of fully developed speckle
    depth, angle = np.hypot(row, column - SIZE / 2), np.arctan2(column - SIZE / 2, row + 1e-9)
    sector = (depth < SIZE - 4) & (np.abs(angle) < np.radians(40.0))
    return np.clip(np.where(sector, grey, 0.0), 0, 255).astype(np.uint8)
