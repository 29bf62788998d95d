"""The state that one window of an ECHOPulse video leaves to the next one, and the latents that the next one has."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from echogen.generators.echopulse.config import LivePace
from echogen.phantom.speckle import SpeckleLayer


@dataclass(frozen=True)
class WindowState:
    """The part of a video that its next window goes on from; without arguments, the state before the first window.

    tokens: (1, latents, positions, groups) ids of the last latents of the video so far; None before the first window.
    from_start: True if these latents begin with the video's first one.
    first_latent: (1, 1, positions, groups) ids of the video's first frame; None before the first window.
    cavity: length and width of the cavity at end-diastole, in pixels; None where the network is not told.
    lead_name: ECG lead in use; None without an ECG.
    cavity_scale: factors from expected to drawn length and width of the cavity; None until a window draws a cavity.
    speckle: the video's scatterers and machine; None until they are drawn or read from the reference.
    start_s: time of the video's first frame, in s; None before the first window.
    """

    tokens: Tensor | None = None
    from_start: bool = True
    first_latent: Tensor | None = None
    cavity: tuple[float, float] | None = None
    lead_name: str | None = None
    cavity_scale: tuple[float, float] | None = None
    speckle: SpeckleLayer | None = None
    start_s: float | None = None

    def kept_tokens(self, prefix: int, reminded: bool) -> tuple[Tensor, bool]:
        """Return the latents that the next window begins with, and True if the first of them is a single frame.

        prefix: latents kept from the end of the video so far. reminded: the video's first latent is put before them.
        """
        assert self.tokens is not None
        assert self.first_latent is not None
        kept, is_first = self.tokens[:, -prefix:], self.from_start and prefix >= self.tokens.shape[1]
        if reminded and not is_first:
            return torch.cat([self.first_latent, kept], dim=1), True
        return kept, is_first

    def with_tokens(self, added: Tensor) -> WindowState:
        """Return the state with new latents (1, latents, positions, groups) at the end of the video so far."""
        tokens = added if self.tokens is None else torch.cat([self.tokens, added], dim=1)
        first = tokens[:, :1] if self.first_latent is None else self.first_latent
        return replace(self, tokens=tokens, first_latent=first)

    def shortened(self, latents: int) -> WindowState:
        """Return the state with the last latents only, so that memory does not grow with the video."""
        assert self.tokens is not None
        return replace(self, tokens=self.tokens[:, -latents:], from_start=self.from_start and self.tokens.shape[1] <= latents)


def window_sizes(longest: int, drawn: int, pace: LivePace | None) -> tuple[int, int]:
    """Latents that a window adds to its video, and latents that it has in all, the hidden ones behind included.

    longest: latents of the longest window. drawn: latents at its beginning that were drawn before.
    """
    if pace is None:
        return longest - drawn, longest
    if not drawn:
        return 1, min(pace.first.latents, longest)
    added = min(pace.latents, longest - drawn)
    return added, min(drawn + added + pace.ahead, longest)
