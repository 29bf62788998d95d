"""R(2+1)D, a network that reads an ejection fraction from an echo video without segmenting it.

Source: Tran et al., CVPR 2018; Ouyang et al., EchoNet-Dynamic, Nature 2020.

Its tensors carry the names of the published R(2+1)D-18, so that released weights fit as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Mean ejection fraction of EchoNet-Dynamic in %, the answer of an untrained network.
MEAN_EF_PERCENT = 55.6
#: SD of the last weights of an untrained network: means of a map differ by tenths, but answers by tens of EF points.
FIRST_STEEPNESS = 2.0
#: Channel means of EchoNet-Dynamic's videos on a scale of 0..255, with which its regressor was trained.
ECHONET_MEAN = (32.660564, 32.79394, 33.07615)
#: Channel standard deviations of EchoNet-Dynamic's videos on a scale of 0..255, with which its regressor was trained.
ECHONET_STD = (49.802944, 49.89014, 50.17571)


@dataclass(frozen=True)
class EfRegressorConfig:
    """Shape of an `EfRegressor`, and of the videos that it reads.

    frames: Frames of one answer; a shorter video is black after its end.
    fps: Frame rate of the videos in frames per second.
    size: Side of the frames in pixels.
    channels: Channels of the frames; 3 for grey three times, or 1.
    mean: Mean that is subtracted, on a scale of 0..1, one for all channels or one each.
    std: Standard deviation that is divided by, on a scale of 0..1, one for all channels or one each.
    widths: Channels of each level; every level but the first halves time and sides.
    blocks: Residual blocks of each level.
    stem_width: Channels between the two convolutions of the stem.
    stem_stride: Strides of the stem in time and along the sides.
    """

    frames: int = 64
    fps: float = 32.0
    size: int = 112
    channels: int = 3
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    stem_width: int = 45
    stem_stride: tuple[int, int] = (1, 2)

    @classmethod
    def published(cls) -> EfRegressorConfig:
        """R(2+1)D-18 as EchoDiffusion uses it: 64 frames at 32 fps (2 s), grey values in 0..1 as they are."""
        return cls()

    @classmethod
    def echonet(cls) -> EfRegressorConfig:
        """R(2+1)D-18 as EchoNet-Dynamic uses it: 32 frames, every second one of a video of about 50 fps, normalised."""
        mean, std = (tuple(value / 255.0 for value in values) for values in (ECHONET_MEAN, ECHONET_STD))
        return replace(cls.published(), frames=32, fps=25.0, mean=mean, std=std)

    @classmethod
    def small(cls) -> EfRegressorConfig:
        """Light network of 1.4 M weights for one CPU core: one channel, one block a level, a stem of longer strides."""
        return cls(
            channels=1,
            mean=(0.2,),
            std=(0.2,),
            widths=(16, 40, 96, 160),
            blocks=(1, 1, 1, 1),
            stem_width=12,
            stem_stride=(2, 4),
        )


def middle_width(inputs: int, outputs: int) -> int:
    """Channels between convolutions of 1 x 3 x 3 and 3 x 1 x 1 that together weigh as one 3 x 3 x 3 (Tran 2018, Section 3.5)."""
    return (inputs * outputs * 27) // (inputs * 9 + 3 * outputs)


class SpaceConv(nn.Conv3d):
    """Convolution over places, computed frame by frame: faster, and right in bfloat16 where the one in 3D is not."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int, time_stride: int = 1) -> None:
        around = size // 2
        super().__init__(inputs, outputs, (1, size, size), (time_stride, stride, stride), (0, around, around), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, outputs, T / time_stride, H / stride, W / stride) of a map (B, inputs, T, H, W)."""
        x = x[:, :, :: self.stride[0]]
        frames = x.transpose(1, 2).flatten(0, 1)
        y = functional.conv2d(frames, self.weight[:, :, 0], None, self.stride[1:], self.padding[1:])
        return y.unflatten(0, (len(x), -1)).transpose(1, 2)


class TimeConv(nn.Conv3d):
    """Convolution over three moments, computed on a map of time x places."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, outputs, T / stride, H, W) of a map (B, inputs, T, H, W)."""
        y = functional.conv2d(x.flatten(3), self.weight[..., 0], None, (self.stride[0], 1), (1, 0))
        return y.unflatten(3, x.shape[3:])


def _factored(inputs: int, middle: int, outputs: int, stride: int) -> nn.Sequential:
    """Convolution over places, then one over time."""
    return nn.Sequential(
        SpaceConv(inputs, middle, 3, stride), nn.BatchNorm3d(middle), nn.ReLU(inplace=True), TimeConv(middle, outputs, stride)
    )


class ResidualBlock(nn.Module):
    """Residual block of two factored convolutions."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        middle = middle_width(inputs, outputs)
        self.conv1 = nn.Sequential(_factored(inputs, middle, outputs, stride), nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))
        self.conv2 = nn.Sequential(_factored(outputs, middle, outputs, 1), nn.BatchNorm3d(outputs))
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(SpaceConv(inputs, outputs, 1, stride, stride), nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, outputs, T / stride, H / stride, W / stride) of a map (B, inputs, T, H, W)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return functional.relu(self.conv2(self.conv1(x)) + shortcut)


class EfRegressor(nn.Module):
    """Network from videos to their ejection fractions."""

    config_class: ClassVar = EfRegressorConfig
    mean: Tensor
    std: Tensor

    def __init__(self, config: EfRegressorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or EfRegressorConfig()
        in_time, along_sides = config.stem_stride
        first = config.widths[0]
        self.stem = nn.Sequential(
            SpaceConv(config.channels, config.stem_width, 7, along_sides),
            nn.BatchNorm3d(config.stem_width),
            nn.ReLU(inplace=True),
            TimeConv(config.stem_width, first, in_time),
            nn.BatchNorm3d(first),
            nn.ReLU(inplace=True),
        )
        inputs = first
        for level, (width, count) in enumerate(zip(config.widths, config.blocks, strict=True), start=1):
            blocks = []
            for index in range(count):
                blocks.append(ResidualBlock(inputs, width, 2 if level > 1 and index == 0 else 1))
                inputs = width
            self.add_module(f"layer{level}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, 1)
        nn.init.constant_(self.fc.bias, MEAN_EF_PERCENT)
        nn.init.normal_(self.fc.weight, std=FIRST_STEEPNESS)
        for name, values in (("mean", config.mean), ("std", config.std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1, 1), persistent=False)
        for weight in self.parameters():
            if weight.ndim == 5:  # this layout takes a quarter less time on a CPU
                weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)

    def forward(self, video: Tensor) -> Tensor:
        """EF (B,) in % of grey videos (B, frames, size, size) or (B, channels, frames, size, size) in 0..1."""
        return self.answer(self.last_map(video))

    def last_map(self, video: Tensor) -> Tensor:
        """Map (B, widths[-1], T', H', W') of the last level; see `forward`."""
        if video.ndim == 4:
            video = video[:, None].expand(-1, self.config.channels, -1, -1, -1)
        x = ((video - self.mean) / self.std).contiguous(memory_format=torch.channels_last_3d)
        x = self.stem(x)
        for level in range(1, len(self.config.widths) + 1):
            x = self.get_submodule(f"layer{level}")(x)
        return x

    def answer(self, last_map: Tensor) -> Tensor:
        """EF (B,) in % from the mean of the last map; in full precision, since in bfloat16 it would come in steps of 0.25."""
        with torch.autocast(last_map.device.type, enabled=False):
            ef_percent: Tensor = self.fc(last_map.float().mean((2, 3, 4)))
        return ef_percent[:, 0]


def at_size(video: Tensor, size: int) -> Tensor:
    """Resize videos (B, frames, H, W) to (B, frames, size, size), smoothed where that is smaller."""
    if video.shape[-2:] == (size, size):
        return video
    return functional.interpolate(video, (size, size), mode="bilinear", align_corners=False, antialias=True)
