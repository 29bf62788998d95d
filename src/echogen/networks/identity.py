"""Whose heart is it: a small network that gives clips of one heart, seen in one way, nearly the same unit vector.

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

    fps, steps: a part is `steps` frames, 1 / fps s apart. image_size: side of the frames in the canonical geometry. shrink: how
    many pixels make one that the network sees, in each direction. widths: channels at 1/2, 1/4, 1/8, 1/16 of that, multiples of
    `groups`. place_channels: kept of every place of the last map. dims: of the vector.
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
    """Two normalised 3 x 3 convolutions around a residual path: (B, inputs, H, W) -> (B, outputs, H / 2, W / 2)."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(groups, outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(groups, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """The next map."""
        y = F.silu(self.first_norm(self.first(x)))
        return F.silu(self.second_norm(self.second(y)) + self.skip(x))


class Identity(nn.Module):
    """Parts of clips (B, steps, image_size, image_size) in 0..1, in any order of frames -> unit vectors (B, dims).

    Each frame goes through a residual network on its own and keeps where things are; mean and spread over the frames are what the
    vector is made from. The cosine of two vectors is the similarity of the hearts.
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
        """The vector of each part."""
        x = F.avg_pool2d(parts.flatten(0, 1)[:, None], self.config.shrink) * 2.0 - 1.0
        x = self.blocks(F.silu(self.stem_norm(self.stem(x))))
        x = self.places(x).flatten(1).unflatten(0, parts.shape[:2]).float()
        spread = (x.var(1, correction=0) + 1e-4).sqrt()
        return F.normalize(self.vector(torch.cat([x.mean(1), spread], 1)).float(), dim=1)
