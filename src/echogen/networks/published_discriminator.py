"""Frame discriminator of ECHOPulse's code, with its losses; none of the published training runs used it.

Source: the code of ECHOPulse (ICLR 2025), after Villegas et al., Phenaki, 2023.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from echogen.networks.published import PublishedAttention

#: Slope of the leaky rectifiers below 0, as in the published code.
SLOPE = 0.1


@dataclass(frozen=True)
class PublishedDiscriminatorConfig:
    """Architecture of a `PublishedDiscriminator`; the defaults are the published sizes, for images of 128 x 128 pixels.

    channels: Channels of the frames.
    widths: Channels after each block; all but the last halve the sides.
    attention_after: Blocks (from 0) that are followed by self-attention.
    heads: Attention heads.
    head_dim: Width of a head.
    last_places: Pixels of the last map.
    """

    channels: int = 3
    widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512)
    attention_after: tuple[int, ...] = (3,)
    heads: int = 8
    head_dim: int = 64
    last_places: int = 16

    @classmethod
    def published(cls) -> PublishedDiscriminatorConfig:
        """Sizes of ECHOPulse's code."""
        return cls()


class _Block(nn.Module):
    """Two convolutions beside a linear skip; `shrink` halves the sides by folding 2 x 2 pixels into channels."""

    def __init__(self, channels: int, width: int, shrink: bool) -> None:
        super().__init__()
        self.skip = nn.Conv2d(channels, width, 1, stride=2 if shrink else 1)
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.shrink = nn.Conv2d(4 * width, width, 1) if shrink else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W), or half the sides, of a map x (B, channels, H, W)."""
        inner = F.leaky_relu(self.second(F.leaky_relu(self.first(x), SLOPE)), SLOPE)
        if self.shrink is not None:
            inner = self.shrink(F.pixel_unshuffle(inner, 2))
        out: Tensor = (inner + self.skip(x)) / math.sqrt(2)
        return out


class PublishedDiscriminator(nn.Module):
    """Network from frames to logits, high for real ones."""

    config_class: ClassVar = PublishedDiscriminatorConfig

    def __init__(self, config: PublishedDiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        last = len(config.widths) - 1
        before = (config.channels, *config.widths)
        self.blocks = nn.ModuleList(_Block(before[i], width, i < last) for i, width in enumerate(config.widths))
        self.attention = nn.ModuleDict(
            {str(i): PublishedAttention(config.widths[i], config.heads, config.head_dim) for i in config.attention_after}
        )
        self.mix = nn.Conv2d(config.widths[-1], config.widths[-1], 3, padding=1)
        self.head = nn.Linear(config.widths[-1] * config.last_places, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,) of frames (B, channels, H, W)."""
        for index, block in enumerate(self.blocks):
            x = block(x)
            if str(index) in self.attention:
                flat = x.flatten(2).transpose(1, 2)
                with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative, which the penalty needs
                    flat = flat + self.attention[str(index)](flat)
                x = flat.transpose(1, 2).view_as(x)
        logits: Tensor = self.head(F.leaky_relu(self.mix(x), SLOPE).flatten(1))
        return logits.squeeze(-1)


def hinge_discriminator_loss(fake: Tensor, real: Tensor) -> Tensor:
    """Hinge loss mean(max(0, 1 + fake) + max(0, 1 - real)) of logits (B,). Source: Lim and Ye, Geometric GAN, 2017."""
    return (F.relu(1 + fake) + F.relu(1 - real)).mean()


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """Loss -mean(fake) of a generator with logits (B,) (ECHOPulse, Eq. 5)."""
    return -fake.mean()  # Eq. 5


def gradient_penalty(images: Tensor, logits: Tensor, weight: float = 10.0) -> Tensor:
    """Penalty weight x mean over images of (length of the logit's gradient - 1)^2; `images` must require a gradient.

    Source: Gulrajani et al., Improved Training of Wasserstein GANs, 2017, Eq. 3, at the given images.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return weight * (gradient.flatten(1).norm(dim=1) - 1).square().mean()  # Gulrajani et al., Eq. 3
