"""Re-identification of hearts: a small network gives clips of one heart in one view nearly the same unit vector.

It looks at a few frames without regard to their order, so anatomy, view and look count, and neither rate nor rhythm does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class IdentityConfig:
    """Shape of `Identity`.

    fps: Frames per second of the part of a clip that is read.
    steps: Frames of that part.
    image_size: Side of the frames in pixels, in the canonical geometry.
    shrink: Pixels along each side that are averaged to one before the first layer.
    widths: Channels at 1/2, 1/4, 1/8 and 1/16 of the averaged frames, multiples of `groups`.
    place_channels: Channels that are kept of every place of the last map.
    dims: Length of the vector.
    groups: Groups of the group normalisation.
    """

    fps: float = 4.0
    steps: int = 4
    image_size: int = 128
    shrink: int = 2
    widths: tuple[int, ...] = (24, 48, 96, 192)
    place_channels: int = 32
    dims: int = 96
    groups: int = 8


class ResidualBlock(nn.Module):
    """Residual block of two normalised 3 x 3 convolutions."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(groups, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(groups, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, outputs, H / 2, W / 2) of a map (B, inputs, H, W)."""
        y = F.silu(self.first_norm(self.first(x)))
        return F.silu(self.second_norm(self.second(y)) + self.skip(x))


class Identity(nn.Module):
    """Network from parts of clips to unit vectors; the cosine of two vectors is the similarity of the hearts.

    Each frame goes through a residual network on its own, which keeps where things are; the vector is made of mean and spread
    over the frames, so their order does not matter.
    """

    config_class: ClassVar = IdentityConfig

    def __init__(self, config: IdentityConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or IdentityConfig()
        first, *others = config.widths
        self.stem = nn.Conv2d(1, first, 5, stride=2, padding=2, bias=False)
        self.stem_norm = nn.GroupNorm(config.groups, first)
        inputs = first
        blocks = []
        for width in others:
            blocks.append(ResidualBlock(inputs, width, config.groups))
            inputs = width
        self.blocks = nn.Sequential(*blocks)
        side = -(-config.image_size // (config.shrink * 2 ** len(config.widths)))
        self.places = nn.Conv2d(inputs, config.place_channels, 1)
        self.vector = nn.Linear(2 * config.place_channels * side**2, config.dims)

    def forward(self, parts: Tensor) -> Tensor:
        """Unit vectors (B, dims) of parts of clips (B, steps, image_size, image_size) in 0..1."""
        x = F.avg_pool2d(parts.flatten(0, 1)[:, None], self.config.shrink) * 2.0 - 1.0
        x = self.blocks(F.silu(self.stem_norm(self.stem(x))))
        x = self.places(x).flatten(1).unflatten(0, parts.shape[:2]).float()
        spread = (x.var(1, correction=0) + 1e-4).sqrt()
        return F.normalize(self.vector(torch.cat([x.mean(1), spread], 1)).float(), dim=1)
