"""A small network that sees how much of each part of a frame is ventricular cavity: a loss for training, never a measure."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

WIDTHS = (16, 32, 32, 32)


class CavityReader(nn.Module):
    """Grey frames (..., H, W) in [0, 1] -> logits (..., H / 4, W / 4) that a cell of 4 x 4 pixels is left-ventricular cavity."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third, fourth = WIDTHS
        self.layers = nn.Sequential(
            nn.Conv2d(1, first, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(second, third, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(third, fourth, 3, padding=3, dilation=3),
            nn.SiLU(),
            nn.Conv2d(fourth, fourth, 3, padding=6, dilation=6),
            nn.SiLU(),
            nn.Conv2d(fourth, 1, 1),
        )

    def forward(self, frames: Tensor) -> Tensor:
        """Logits of frames."""
        flat = frames.reshape(-1, 1, *frames.shape[-2:]) * 4 - 1
        cells: Tensor = self.layers(flat.to(memory_format=torch.channels_last))
        return cells.reshape(*frames.shape[:-2], *cells.shape[-2:])

    def unmoved(self, frames: Tensor) -> Tensor:
        """The same, but gradients reach only the frames, not the reader."""
        weights = {name: value.detach() for name, value in self.named_parameters()}
        logits: Tensor = functional_call(self, weights, (frames,))
        return logits


def cavity_loss(logits: Tensor, covered: Tensor) -> tuple[Tensor, Tensor]:
    """How wrong the cells are (binary cross-entropy) and how wrong each frame's area (its squared logarithm of the ratio).

    logits, covered (..., h, w), covered in 0..1. An error of the area's logarithm is one of the ejection fraction.
    """
    logits = logits.float()
    cells = F.binary_cross_entropy_with_logits(logits, covered)
    seen, true = logits.sigmoid().sum((-2, -1)), covered.sum((-2, -1))
    return cells, ((seen + 1.0) / (true + 1.0)).log().square().mean()
