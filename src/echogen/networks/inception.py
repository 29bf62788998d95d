"""Inception v3 as the Fréchet inception distance sees it, under the key names of the published `pt_inception-2015-12-05`.

Sources: Szegedy et al., Rethinking the Inception architecture, 2016 (figures 5 to 7, 10); the weights are TensorFlow's of
2015, whose average pooling leaves the border out and whose last block pools by the maximum.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Side in pixels to which pictures are resized, as the weights were trained.
SIDE = 299
#: Number of features.
DIMS = 2048
#: Classes of the published classifier.
CLASSES = 1008


class Layer(NamedTuple):
    """One convolution of a block.

    name: Key of its weights.
    outputs: Channels of its output.
    kernel: Height and width of its kernel.
    stride: Stride along both sides.
    """

    name: str
    outputs: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalisation and ReLU."""

    def __init__(self, inputs: int, layer: Layer, padding: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, layer.outputs, layer.kernel, layer.stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(layer.outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, outputs, H', W') of a map (B, inputs, H, W)."""
        return F.relu(self.bn(self.conv(x)))


#: Branch of a block: convolutions one after the other; two in a tuple, at its end, both take the output before them.
Branch = tuple[Layer | tuple[Layer, Layer], ...]
#: Height and width of a kernel along a row.
_ROW = (1, 7)
#: Height and width of a kernel along a column.
_COLUMN = (7, 1)


def _same_size(pooled: int) -> tuple[Branch, ...]:
    """Branches of the blocks 5b to 5d (figure 5), with so many channels after pooling."""
    return (
        (Layer("branch1x1", 64),),
        (Layer("branch5x5_1", 48), Layer("branch5x5_2", 64, (5, 5))),
        (Layer("branch3x3dbl_1", 64), Layer("branch3x3dbl_2", 96, (3, 3)), Layer("branch3x3dbl_3", 96, (3, 3))),
        (Layer("branch_pool", pooled),),
    )


def _sevens(width: int) -> tuple[Branch, ...]:
    """Branches of the blocks 6b to 6e (figure 6), with kernels of 7 and so many channels between them."""
    long = (_COLUMN, _ROW, _COLUMN)
    return (
        (Layer("branch1x1", 192),),
        (Layer("branch7x7_1", width), Layer("branch7x7_2", width, _ROW), Layer("branch7x7_3", 192, _COLUMN)),
        (
            Layer("branch7x7dbl_1", width),
            *(Layer(f"branch7x7dbl_{number}", width, kernel) for number, kernel in enumerate(long, start=2)),
            Layer("branch7x7dbl_5", 192, _ROW),
        ),
        (Layer("branch_pool", 192),),
    )


#: Branches of the blocks 7b and 7c (figure 7).
_FORKED: tuple[Branch, ...] = (
    (Layer("branch1x1", 320),),
    (Layer("branch3x3_1", 384), (Layer("branch3x3_2a", 384, (1, 3)), Layer("branch3x3_2b", 384, (3, 1)))),
    (
        Layer("branch3x3dbl_1", 448),
        Layer("branch3x3dbl_2", 384, (3, 3)),
        (Layer("branch3x3dbl_3a", 384, (1, 3)), Layer("branch3x3dbl_3b", 384, (3, 1))),
    ),
    (Layer("branch_pool", 192),),
)
#: Branches of the block 6a, which halves the sides.
_HALVED_6: tuple[Branch, ...] = (
    (Layer("branch3x3", 384, (3, 3), 2),),
    (Layer("branch3x3dbl_1", 64), Layer("branch3x3dbl_2", 96, (3, 3)), Layer("branch3x3dbl_3", 96, (3, 3), 2)),
)
#: Branches of the block 7a, which halves the sides.
_HALVED_7: tuple[Branch, ...] = (
    (Layer("branch3x3_1", 192), Layer("branch3x3_2", 320, (3, 3), 2)),
    (
        Layer("branch7x7x3_1", 192),
        Layer("branch7x7x3_2", 192, _ROW),
        Layer("branch7x7x3_3", 192, _COLUMN),
        Layer("branch7x7x3_4", 192, (3, 3), 2),
    ),
)
#: Blocks as (key, channels in, branches, pooling); "halve" is a maximum with stride 2 that goes on unchanged.
BLOCKS: tuple[tuple[str, int, tuple[Branch, ...], str], ...] = (
    ("Mixed_5b", 192, _same_size(32), "mean"),
    ("Mixed_5c", 256, _same_size(64), "mean"),
    ("Mixed_5d", 288, _same_size(64), "mean"),
    ("Mixed_6a", 288, _HALVED_6, "halve"),
    ("Mixed_6b", 768, _sevens(128), "mean"),
    ("Mixed_6c", 768, _sevens(160), "mean"),
    ("Mixed_6d", 768, _sevens(160), "mean"),
    ("Mixed_6e", 768, _sevens(192), "mean"),
    ("Mixed_7a", 768, _HALVED_7, "halve"),
    ("Mixed_7b", 1280, _FORKED, "mean"),
    ("Mixed_7c", 2048, _FORKED, "maximum"),
)
#: First layers as (layer, True if its border is padded); 3 x 3 maximum pooling with stride 2 follows the third and the fifth.
STEM = (
    (Layer("Conv2d_1a_3x3", 32, (3, 3), 2), False),
    (Layer("Conv2d_2a_3x3", 32, (3, 3)), False),
    (Layer("Conv2d_2b_3x3", 64, (3, 3)), True),
    (Layer("Conv2d_3b_1x1", 80), False),
    (Layer("Conv2d_4a_3x3", 192, (3, 3)), False),
)


class Block(nn.Module):
    """Branches side by side, and the pooled map, joined along the channels."""

    def __init__(self, inputs: int, branches: tuple[Branch, ...], pooling: str) -> None:
        super().__init__()
        self.branches, self.pooling = branches, pooling
        for branch in branches:
            channels = inputs
            for step in branch:
                for layer in (step,) if isinstance(step, Layer) else step:
                    padding = (layer.kernel[0] // 2, layer.kernel[1] // 2) if layer.stride == 1 else (0, 0)
                    self.add_module(layer.name, ConvNorm(channels, layer, padding))
                channels = step.outputs if isinstance(step, Layer) else channels

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pooling == "halve":
            return F.max_pool2d(x, 3, stride=2)
        if self.pooling == "maximum":
            return F.max_pool2d(x, 3, stride=1, padding=1)
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, outputs, H', W') of a map (B, inputs, H, W)."""
        pooled = self._pooled(x)
        joined = []
        for branch in self.branches:
            first = branch[0]
            y = pooled if isinstance(first, Layer) and first.name == "branch_pool" else x
            for step in branch:
                if isinstance(step, Layer):
                    y = self.get_submodule(step.name)(y)
                else:
                    y = torch.cat([self.get_submodule(layer.name)(y) for layer in step], 1)
            joined.append(y)
        return torch.cat([*joined, pooled] if self.pooling == "halve" else joined, 1)


class InceptionV3(nn.Module):
    """Inception v3 from pictures to the features of its last map, averaged over places.

    They are resized to 299 x 299 (bilinear, without antialiasing) and scaled to -1..1. `fc` is held only because the published
    file holds it.
    """

    def __init__(self) -> None:
        super().__init__()
        channels = 3
        for layer, padded in STEM:
            self.add_module(layer.name, ConvNorm(channels, layer, (1, 1) if padded else (0, 0)))
            channels = layer.outputs
        for name, inputs, branches, pooling in BLOCKS:
            self.add_module(name, Block(inputs, branches, pooling))
        self.fc = nn.Linear(DIMS, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        """Features (B, 2048) of pictures (B, 3, H, W) in 0..1, of any size."""
        x = F.interpolate(pictures, (SIDE, SIDE), mode="bilinear", align_corners=False) * 2.0 - 1.0
        for index, (layer, _) in enumerate(STEM):
            x = self.get_submodule(layer.name)(x)
            if index in (2, 4):
                x = F.max_pool2d(x, 3, stride=2)
        for name, *_ in BLOCKS:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))
