"""Cavity of a training window: its length and width over time, and the cells that it covers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from echogen.ecg_window.features import CELLS_PER_FRAME
from echogen.ecg_window.outline import Outline
from echogen.ecg_window.spec import EcgWindowSpec
from echogen.training.source.targets import cavity_outline
from echogen.training.source.window import Window

#: Least share of a window's frames with an outline from which the other frames are interpolated.
LEAST_OUTLINED = 0.5


def outline_over_time(window: Window, factor: float) -> Outline | None:
    """Length and width in pixels of a window's cavity as a function of time in s, all of them times a factor.

    None where fewer than `LEAST_OUTLINED` of the frames are outlined.
    """
    sizes = factor * cavity_outline(window)
    known = np.isfinite(sizes).all(axis=1)
    if known.mean() < LEAST_OUTLINED:
        return None
    times_s, (length, width) = window.times_s[known], sizes[known].T
    return lambda asked_s: (np.interp(asked_s, times_s, length), np.interp(asked_s, times_s, width))


def cells_of_tokens(
    cavity: NDArray[np.uint8],
    first: bool,
    grid: int,
    places: NDArray[np.int64],
    frames_per_latent: int = EcgWindowSpec.frames_per_latent,
) -> NDArray[np.uint8]:
    """Cavity's share 0..255 of each cell of each token's patch, in each of its frames: (latents, positions, cells).

    cavity: Cavity's share 0..255 of the cells of a clip's frames (frames, cells, cells).
    first: The first frame is a latent of its own.
    grid: Number of patches along a side.
    places: Row-major places of the patches that are tokens.
    frames_per_latent: Frames of a token's patch.
    """
    if first:
        cavity = np.concatenate([np.repeat(cavity[:1], frames_per_latent, axis=0), cavity[1:]])
    side = round(CELLS_PER_FRAME**0.5)
    coarse = cavity.shape[-1] // (side * grid)
    cells = cavity.reshape(len(cavity), side * grid, coarse, side * grid, coarse).mean((2, 4)).astype(np.uint8)
    cut = cells.reshape(-1, frames_per_latent, grid, side, grid, side).transpose(0, 2, 4, 1, 3, 5)
    return cut.reshape(len(cut), grid * grid, -1)[:, places]
