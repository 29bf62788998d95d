"""Random numbers of a batch that do not depend on how rows are divided among processes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class RowNoise:
    """Random numbers of a batch, those of each row from a generator of its own.

    seeds: Seeds (B,) of the rows, as of `Task.row_seeds`.
    """

    def __init__(self, seeds: Tensor) -> None:
        self.device = seeds.device
        self.generators = [torch.Generator(self.device).manual_seed(seed) for seed in seeds.tolist()]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers (B, *shape)."""
        return self._drawn(torch.randn, shape)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers (B, *shape) between 0 and 1."""
        return self._drawn(torch.rand, shape)

    def _drawn(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        return torch.stack([draw(shape, generator=generator, device=self.device) for generator in self.generators])
