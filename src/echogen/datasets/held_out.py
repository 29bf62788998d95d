"""Simulated hearts held out from every training, each with its ECG and its video."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from echogen.datasets.clip_store import ECG_BEFORE_S, ECG_RATE_HZ, FIRST_TRAINING_SEED, FPS, draw_recording
from echogen.ecg.leads import STANDARD_LEADS
from echogen.errors import InputError
from echogen.phantom.looks import PLAIN
from echogen.phantom.simulate import Heart, Rendering, render
from echogen.records import Cine, Ecg


@dataclass(frozen=True)
class HeldOut:
    """Simulated heart held out from every training.

    seed: Seed below `FIRST_TRAINING_SEED`.
    heart: Heart with its rhythm, timing and volumes, on the clock of the ECG.
    ecg: ECG of 12 leads at `ECG_RATE_HZ`, from `ECG_BEFORE_S` before the video on.
    drawn: Frames with the true structure of each pixel.
    cine: Frames of 128 x 128 pixels at `FPS`, from 0 s on.
    """

    seed: int
    heart: Heart
    ecg: Ecg
    drawn: Rendering
    cine: Cine

    @property
    def first_ed_index(self) -> int:
        """Index of the frame nearest to the first end-diastole of the video."""
        return int(np.argmin(np.abs(self.cine.times_s - next(time for time in self.heart.clock.ed_s if time >= 0.0))))

    def first_ed_frame(self) -> tuple[Cine, float]:
        """Return the first end-diastolic frame as a video of one frame, and its time in s."""
        at = self.first_ed_index
        frame = Cine(self.cine.frames[at : at + 1], np.zeros(1), self.cine.mm_per_pixel, self.cine.view)
        return frame, float(self.cine.times_s[at])


def held_out(seed: int, seconds: float, look: str = PLAIN) -> HeldOut:
    """Simulate the held-out heart of a seed.

    seed: Seed from 0 up to below `FIRST_TRAINING_SEED`.
    seconds: Length of the video in s.
    look: One of `phantom.looks.LOOKS`.
    Raises `InputError` for a seed that training may use.
    """
    if seed >= FIRST_TRAINING_SEED:
        raise InputError(f"Held-out hearts have seeds below {FIRST_TRAINING_SEED}, not {seed}.")
    heart, leads = draw_recording(seed, seconds, look)
    times = np.arange(round(seconds * FPS)) / FPS
    drawn = render(heart, times, seed)
    cine = Cine(drawn.frames, times, mm_per_pixel=heart.probe.mm_per_pixel, view=heart.anatomy.view)
    return HeldOut(seed, heart, Ecg(leads, ECG_RATE_HZ, STANDARD_LEADS, -ECG_BEFORE_S), drawn, cine)
