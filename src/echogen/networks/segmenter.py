"""Small U-Net that outlines the heart's chambers in an echo frame, and its loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from echogen.records import STRUCTURES


@dataclass(frozen=True)
class SegmenterConfig:
    """Shape of a `Segmenter`.

    widths: Channels at 1/2, 1/4, 1/8 ... of the frame's side, each a multiple of `groups`.
    blocks: Convolutions of each level.
    frames: Neighbouring frames that are given as channels.
    classes: Structures that are told apart.
    groups: Groups of the group normalisation.
    """

    widths: tuple[int, ...] = (16, 32, 64, 80)
    blocks: int = 2
    frames: int = 3
    classes: int = len(STRUCTURES)
    groups: int = 8


class ConvBlock(nn.Module):
    """Several 3 x 3 convolutions, each with group normalisation and SiLU; the first may stride."""

    def __init__(self, inputs: int, outputs: int, count: int, groups: int, stride: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(count):
            first = index == 0
            layers += [
                nn.Conv2d(inputs if first else outputs, outputs, 3, stride=stride if first else 1, padding=1, bias=False),
                nn.GroupNorm(groups, outputs),
                nn.SiLU(),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, outputs, H / stride, W / stride) of a map (B, inputs, H, W)."""
        return self.layers(features)


class Segmenter(nn.Module):
    """U-Net on a frame and its two neighbours; the stem strides by 2, and a last light convolution beside the frame refines."""

    config_class = SegmenterConfig

    def __init__(self, config: SegmenterConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SegmenterConfig()
        widths = config.widths
        sources = (config.frames, *widths[:-1])
        self.down = nn.ModuleList(
            ConvBlock(source, width, config.blocks, config.groups, stride=2)
            for source, width in zip(sources, widths, strict=True)
        )
        self.up = nn.ModuleList(
            ConvBlock(deep + shallow, shallow, config.blocks, config.groups)
            for shallow, deep in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], config.classes, 1)
        self.refine = nn.Conv2d(config.classes + config.frames, config.classes, 3, padding=1)
        for parameter in self.refine.parameters():
            nn.init.zeros_(parameter)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (B, classes, H, W), in the order of `echogen.records.STRUCTURES`, of grey frames (B, frames, H, W) in 0..1.

        H and W are multiples of 2 ** len(widths).
        """
        features = frames * 2.0 - 1.0
        levels: list[Tensor] = []
        for block in self.down:
            features = block(features)
            levels.append(features)
        levels.pop()
        for block in self.up:
            shallow = levels.pop()
            deep = functional.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([deep, shallow], dim=1))
        logits = functional.interpolate(self.head(features), scale_factor=2.0, mode="bilinear", align_corners=False)
        return logits + self.refine(torch.cat([logits, frames], dim=1))


def with_neighbours(frames: Tensor) -> Tensor:
    """Previous frame, frame and next one (T, 3, H, W) of each of consecutive frames (T, H, W); edge frames repeat."""
    return torch.stack([torch.cat([frames[:1], frames[:-1]]), frames, torch.cat([frames[1:], frames[-1:]])], dim=1)


#: Logit of a class that a picture's outlines do not tell apart, after its chance was added to that of background.
_NEVER = -1e4


def segmentation_loss(logits: Tensor, mask: Tensor, smoothing: float = 1.0, told: Tensor | None = None) -> Tensor:
    """Cross-entropy plus soft Dice, a scalar.

    The Dice of a class is taken over the whole batch (1 - (2 sum p q + s) / (sum p + sum q + s); Milletari et al., V-Net,
    2016, without its squares) and averaged over the classes but the background.

    logits: Logits (B, classes, H, W).
    mask: Class ids (B, H, W).
    smoothing: Number s that keeps the Dice of an absent class finite.
    told: (B, classes) True for the classes that the outlines of a picture tell apart; the others count as background there,
        whatever the network calls them. None for all.
    """
    mask = mask.long()
    logits = logits.float()
    if told is not None:
        rest = logits.masked_fill(told[..., None, None], -torch.inf)
        background = torch.logsumexp(torch.cat([logits[:, :1], rest[:, 1:]], dim=1), dim=1, keepdim=True)
        logits = torch.cat([background, logits[:, 1:].masked_fill(~told[:, 1:, None, None], _NEVER)], dim=1)
    truth = functional.one_hot(mask, logits.shape[1]).permute(0, 3, 1, 2).to(logits.dtype)
    chance = logits.softmax(dim=1)
    axes = (0, 2, 3)
    overlap = (2.0 * (chance * truth).sum(axes) + smoothing) / (chance.sum(axes) + truth.sum(axes) + smoothing)
    return functional.cross_entropy(logits, mask) + (1.0 - overlap[1:]).mean()
