"""Sizes of an ECG window and of the time grid of its video, stored with every model that was trained on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from echogen.arrays import Floats
from echogen.errors import InputError


@dataclass(frozen=True)
class EcgWindowSpec:
    """Sizes of the ECG that goes with one window of video, and of the latents that the window is made of.

    The defaults are those of every model trained so far; a model of other sizes stores its own in generator.json.

    before_s: ECG before the window's first frame, in s; holds at least one beat at 40 beats per minute.
    after_s: ECG after the window's last latent, in s; shows whether the next beat comes early.
    rate_hz: sampling rate of the ECG that a network reads, in Hz; keeps a QRS complex (up to 40 Hz) whole.
    patch_samples: ECG samples that become one token; 16 at 128 Hz last as long as one latent.
    frames_per_latent: frames that one latent stands for; the first latent of a video stands for one.
    seconds_per_latent: duration of a latent, in s; 4 frames at 32 fps.
    Raises `InputError` for sizes that are not positive.
    """

    before_s: float = 1.5
    after_s: float = 0.5
    rate_hz: float = 128.0
    patch_samples: int = 16
    frames_per_latent: int = 4
    seconds_per_latent: float = 0.125

    def __post_init__(self) -> None:
        if min(self.before_s, self.after_s) < 0:
            raise InputError("An ECG window cannot begin after its video or end before it; give lengths of 0 s or more.")
        if min(self.rate_hz, self.patch_samples, self.frames_per_latent, self.seconds_per_latent) <= 0:
            raise InputError("The rate, the patch and the latents of an ECG window must be above 0.")

    def samples(self, latents: int) -> int:
        """ECG samples that go with a window of latents, in whole patches."""
        seconds = self.before_s + latents * self.seconds_per_latent + self.after_s
        return int(np.ceil(seconds * self.rate_hz / self.patch_samples)) * self.patch_samples

    def frames(self, latents: int, is_first: bool) -> int:
        """Frames that consecutive latents stand for; is_first: latent 0 is the single frame that begins a video."""
        return self.frames_per_latent * latents - (self.frames_per_latent - 1) * is_first

    def latents(self, frames: int) -> int:
        """Latents that hold so many frames, the last one perhaps in part."""
        return -(-frames // self.frames_per_latent)


def latent_times(frame_times_s: Floats, is_first: bool, frames_per_latent: int) -> Floats:
    """(latents,) mean time of each latent's frames in s; is_first: the first frame is a latent of its own."""
    if is_first:
        later = frame_times_s[1:].reshape(-1, frames_per_latent).mean(1)
        return np.concatenate([frame_times_s[:1], later])
    return np.asarray(frame_times_s.reshape(-1, frames_per_latent).mean(1))
