"""Features behind the project's own distances between sets of echo videos: a small network that describes a clip.

It scores, so it is in no loss and selects nothing: not in the training of a generator, not among samples, not in a choice of
settings. It learns on the phantom only, from the truth about its hearts and from deliberate degradations, so its features
follow view, size, motion, rhythm, speckle, sharpness and the order of frames. Distances on it have a name of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Answers about a clip, and how many numbers each has; -1 is one for each step.
ANSWERS: dict[str, int] = {
    "view": 1,
    "rhythm": 5,
    "order": 4,
    "ef": 1,
    "heart_rate": 1,
    "edv": 1,
    "esv": 1,
    "mm_per_pixel": 1,
    "length": -1,
    "width": -1,
    "speckle": 1,
    "blur": 1,
    "noise": 1,
    "gamma": 1,
    "gain": 1,
}


@dataclass(frozen=True)
class EchoFeaturesConfig:
    """Shape of `EchoFeatures`.

    fps: Frame rate of the videos in frames per second.
    steps: Pairs of neighbouring frames that are taken from a video.
    stride: Frames from one pair to the next.
    image_size: Side of the frames in pixels, to which others are resized; a multiple of 16.
    widths: Channels at 1/4, 1/8, 1/16 and 1/32 of that side, multiples of `groups`.
    dims: Number of features.
    groups: Groups of the group normalisation.
    """

    fps: float = 32.0
    steps: int = 16
    stride: int = 4
    image_size: int = 112
    widths: tuple[int, ...] = (24, 48, 96, 192)
    dims: int = 256
    groups: int = 8

    @property
    def frames(self) -> int:
        """Number of consecutive frames that the pairs span: 62, or 1.94 s, by default."""
        return (self.steps - 1) * self.stride + 2


class SpaceTimeBlock(nn.Module):
    """Residual block: 3 x 3 convolution over places, then one over 3 steps of time, each normalised."""

    def __init__(self, inputs: int, outputs: int, groups: int, stride: int = 1, time_stride: int = 1) -> None:
        super().__init__()
        self.time_stride = time_stride
        self.space = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.space_norm = nn.GroupNorm(groups, outputs)
        self.time = nn.Conv2d(outputs, outputs, (3, 1), stride=(time_stride, 1), padding=(1, 0), bias=False)
        self.time_norm = nn.GroupNorm(groups, outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1, stride=stride) if (inputs, stride) != (outputs, 1) else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T / time_stride, outputs, H / stride, W / stride) of a map (B, T, inputs, H, W)."""
        batch, steps = x.shape[:2]
        flat = x.flatten(0, 1)
        y = F.silu(self.space_norm(self.space(flat)))
        sides = y.shape[-2:]
        in_time = y.unflatten(0, (batch, steps)).flatten(3).transpose(1, 2)  # (B, C, T, H W)
        in_time = self.time_norm(self.time(in_time))
        y = in_time.transpose(1, 2).unflatten(3, sides)
        skip = self.skip(flat).unflatten(0, (batch, steps))[:, :: self.time_stride]
        return F.silu(y + skip)


class EchoFeatures(nn.Module):
    """Residual network from pairs of frames to features.

    It sees each frame and its change (2 + 1 dimensions); a filter of the last map's whole size per channel keeps where things
    are, and the steps stay in order up to the features. `answers` says what the features mean.
    """

    config_class: ClassVar = EchoFeaturesConfig

    def __init__(self, config: EchoFeaturesConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or EchoFeaturesConfig()
        first, *others = config.widths
        self.stem = nn.Conv2d(2, first, 7, stride=4, padding=3, bias=False)
        self.stem_norm = nn.GroupNorm(config.groups, first)
        blocks: list[nn.Module] = []
        inputs = first
        for index, width in enumerate(others):
            halve_time = 2 if index == 1 else 1
            blocks += [
                SpaceTimeBlock(inputs, width, config.groups, 2, halve_time),
                SpaceTimeBlock(width, width, config.groups),
            ]
            inputs = width
        self.blocks = nn.Sequential(*blocks)
        side = config.image_size // 4
        for _ in others:
            side = -(-side // 2)
        self.places = nn.Conv2d(inputs, inputs, side, groups=inputs)
        steps = -(-config.steps // 2) if len(others) > 1 else config.steps
        self.features = nn.Linear(inputs * steps, config.dims)
        self.sizes = [config.steps if size < 0 else size for size in ANSWERS.values()]
        self.head = nn.Linear(config.dims, sum(self.sizes))

    def forward(self, pairs: Tensor) -> Tensor:
        """Features (B, dims), each of length sqrt(dims), of pairs of frames (B, steps, 2, image_size, image_size) in 0..1."""
        batch, steps = pairs.shape[:2]
        inputs = torch.stack([pairs[:, :, 0] * 2.0 - 1.0, (pairs[:, :, 1] - pairs[:, :, 0]) * 4.0], 2)
        x = F.silu(self.stem_norm(self.stem(inputs.flatten(0, 1)))).unflatten(0, (batch, steps))
        x = self.blocks(x)
        x = F.silu(self.places(x.flatten(0, 1)).flatten(1)).unflatten(0, (batch, -1))
        return F.layer_norm(self.features(x.flatten(1)).float(), (self.config.dims,))

    def answers(self, features: Tensor) -> dict[str, Tensor]:
        """Answers (B, numbers) about clips with features (B, dims), by the names of `ANSWERS`, as training scaled them."""
        parts = self.head(F.silu(features)).float().split(self.sizes, 1)
        return dict(zip(ANSWERS, parts, strict=True))


def frame_pairs(video: Tensor, config: EchoFeaturesConfig) -> Tensor:
    """Pairs of frames (B, steps, 2, image_size, image_size) of a video (B, frames, H, W) in 0..1 at config.fps.

    The video has at least `config.frames` frames.
    """
    at = torch.arange(config.steps) * config.stride
    chosen = video[:, torch.stack([at, at + 1], 1).flatten()]
    if chosen.shape[-2:] != (config.image_size, config.image_size):
        side = (config.image_size, config.image_size)
        chosen = F.interpolate(chosen, side, mode="bilinear", align_corners=False, antialias=True)
    return chosen.unflatten(1, (config.steps, 2))
