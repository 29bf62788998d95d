"""Halton order of tokens: those guessed in one step are spread evenly over a window and depend little on each other.

Source: Besnier et al., Halton Scheduler for Masked Generative Image Transformer, ICLR 2025, here with time as a third axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from echogen.errors import InputError

#: Bases of the Halton sequence along time, height and width; they have no common factor, so that the axes are independent.
BASES = (5, 3, 2)


def radical_inverse(index: NDArray[np.int64], base: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) whose digits in a base are those of whole numbers, mirrored at the point. Source: Halton, 1960."""
    result, share, left = np.zeros(len(index)), 1.0, index.copy()
    while left.any():
        share /= base
        left, digit = np.divmod(left, base)
        result += share * digit
    return result


def order(latents: int, height: int, width: int, active: Sequence[int] | None = None) -> Tensor:
    """Rank (latents x positions,) of every token, row-major as (time, place); `maskgit.sample` keeps the lowest first.

    A token's turn comes when the Halton sequence first falls into its cell.

    active: Row-major places of a latent frame that have a token, as a tokenizer's active_patches; None for all.
    Raises `InputError` when a size is below 1.
    """
    sizes = (latents, height, width)
    if min(sizes) < 1:
        raise InputError(f"The grid of tokens must be at least 1 x 1 x 1, not {latents} x {height} x {width}.")
    cells = latents * height * width
    first, drawn = np.full(cells, -1), 0
    while (first < 0).any():
        points = np.arange(drawn, drawn + 8 * cells)
        along = [(radical_inverse(points, base) * size).astype(np.int64) for base, size in zip(BASES, sizes, strict=True)]
        hit, at = np.unique(np.ravel_multi_index(along, sizes), return_index=True)
        new = first[hit] < 0
        first[hit[new]] = points[at[new]]
        drawn += len(points)
    turns = first.reshape(latents, -1)
    if active is not None:
        turns = turns[:, list(active)]
    return torch.from_numpy(turns.reshape(-1).argsort().argsort())
