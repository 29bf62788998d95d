"""Tokens to frames: the decoder draws them, the frame filters correct them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from echogen.arrays import Floats
from echogen.generators.echopulse.cavity import cell_pictures
from echogen.generators.echopulse.config import EchoPulseConfig
from echogen.generators.echopulse.frame_filters import Drawing, FrameFilter, NewFrames
from echogen.generators.echopulse.state import WindowState
from echogen.generators.pictures import as_frames
from echogen.generators.precision import Precision
from echogen.networks.video_tokenizer import VideoTokenizer
from echogen.records import ByteArray, Cine

#: Displacement in pixels that the decoder's motion channels draw as 1: the farthest that tissue moves in the training clips.
MOTION_SCALE = 16.0


class Renderer(Protocol):
    """A part that turns the tokens of a video into frames, window by window."""

    def prepared(self, config: EchoPulseConfig, reference: Cine | None, seed: int) -> WindowState:
        """Return the state before the first window."""

    def render(self, state: WindowState, new: NewFrames, config: EchoPulseConfig) -> tuple[ByteArray, WindowState]:
        """Return the new frames, which the last new.latents of state.tokens stand for, and the state after them."""


class FrameRenderer:
    """Draws tokens by the tokenizer's decoder and corrects the frames by filters.

    filters: corrections in their order; a list without one of them leaves that correction out.
    """

    def __init__(self, tokenizer: VideoTokenizer, precision: Precision, filters: Sequence[FrameFilter]) -> None:
        self.tokenizer, self.precision, self.filters = tokenizer, precision, tuple(filters)

    def prepared(self, config: EchoPulseConfig, reference: Cine | None, seed: int) -> WindowState:
        """Return the state before the first window, with all that the filters can make before the ECG is there."""
        state = WindowState()
        for each in self.filters:
            state = each.prepared(state, config, reference, seed)
        return state

    @torch.inference_mode()
    def render(self, state: WindowState, new: NewFrames, config: EchoPulseConfig) -> tuple[ByteArray, WindowState]:
        """Return the new frames, which the last new.latents of state.tokens stand for, and the state after them."""
        assert state.tokens is not None
        drawing = self.draw(state.tokens, new.latents, state.from_start)
        state = state if state.start_s is not None else replace(state, start_s=float(new.times_s[0]))
        for each in self.filters:
            drawing, state = each(drawing, new, state, config)
        return as_frames(drawing.picture), state

    @torch.inference_mode()
    def draw(self, tokens: Tensor, count: int, from_start: bool) -> Drawing:
        """Draw the last `count` of some latents (1, latents, positions, groups), the others before them being seen again.

        from_start: True if the latents begin with the first one of the video.
        """
        tokenizer, alone = self.tokenizer, from_start and count == tokens.shape[1]
        with self.precision.autocast():
            features = tokenizer.decode_features(tokenizer.quantizer.decode_ids(tokens))[:, -count:]
            drawn = tokenizer.picture(features, alone)[0].float()
            shares = None if tokenizer.cavity is None else tokenizer.cavity(features[0]).float().sigmoid().cpu()
        cells = None if shares is None else self._cells(shares, alone)
        return Drawing(drawn[:, 0].clamp(0.0, 1.0), drawn[:, 1:3] * MOTION_SCALE, cells)

    def _cells(self, shares: Tensor, alone: bool) -> Floats:
        """Cavity cells of tokens (latents, positions, cells) as pictures (frames, rows, columns)."""
        config = self.tokenizer.config
        shares = shares.unflatten(-1, (config.time_patch, -1))
        frames = list(cell_pictures(shares, config.grid, config.active_patches).double().numpy())
        return np.concatenate([frames[0].mean(0, keepdims=True), *frames[1:]] if alone else frames)
