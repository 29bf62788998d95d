"""Feature networks of the perceptual loss: VGG16 (plain or as LPIPS) from a file, or a small one trained on the phantom.

Sources: Johnson et al., Perceptual Losses, 2016; Zhang et al., LPIPS, 2018; ECHOPulse (ICLR 2025), Eq. 3.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from echogen.errors import InputError
from echogen.networks.config import load_network
from echogen.networks.segmenter import ConvBlock
from echogen.records import STRUCTURES

#: Convolutions of VGG16 by their number in its list of layers: (number, inputs, outputs), a stage a line.
VGG_STAGES: tuple[tuple[tuple[int, int, int], ...], ...] = (
    ((0, 3, 64), (2, 64, 64)),
    ((5, 64, 128), (7, 128, 128)),
    ((10, 128, 256), (12, 256, 256), (14, 256, 256)),
    ((17, 256, 512), (19, 512, 512), (21, 512, 512)),
    ((24, 512, 512), (26, 512, 512), (28, 512, 512)),
)
#: Mean of ImageNet's colours, for pixels in 0..1, with which VGG16 was trained.
MEAN = (0.485, 0.456, 0.406)
#: Standard deviation of ImageNet's colours, for pixels in 0..1, with which VGG16 was trained.
DEVIATION = (0.229, 0.224, 0.225)
#: Number and kind of a layer's weights in the names of torchvision and LPIPS.
_LAYER = re.compile(r"(?:^|\.)(?:features|slice[1-5])\.(\d+)\.(weight|bias)$")
#: Number of the stage of LPIPS's channel weights in their names.
_CHANNEL_WEIGHTS = re.compile(r"(?:^|\.)lins?\.?([0-4])(?:\.model\.1)?\.weight$")


@dataclass(frozen=True)
class PhantomFeaturesConfig:
    """Shape of `PhantomFeatures`.

    widths: Channels at 1, 1/2, 1/4 ... of the picture's side, each a multiple of `groups`.
    blocks: Convolutions of each level.
    groups: Groups of the group normalisation.
    classes: Structures that are told apart.
    """

    widths: tuple[int, ...] = (16, 32, 48, 64)
    blocks: int = 2
    groups: int = 8
    classes: int = len(STRUCTURES)


class PhantomFeatures(nn.Module):
    """Small convolutional network that learns to name the phantom's structures, and whose features are compared.

    Colours count as their mean. It is never the segmenter that measures.
    """

    config_class: ClassVar = PhantomFeaturesConfig
    name: ClassVar = "phantom_features"
    channel_weights: ClassVar[tuple[Tensor, ...]] = ()

    def __init__(self, config: PhantomFeaturesConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PhantomFeaturesConfig()
        sources = (1, *config.widths[:-1])
        self.stages = nn.ModuleList(
            ConvBlock(source, width, config.blocks, config.groups, stride=2 if index else 1)
            for index, (source, width) in enumerate(zip(sources, config.widths, strict=True))
        )
        self.heads = nn.ModuleList(nn.Conv2d(width, config.classes, 1) for width in config.widths)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Features (B, width, side, side) of each stage, of pictures (B, C, H, W) in 0..1."""
        x = pictures.mean(1, keepdim=True) * 2 - 1
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def loss(self, pictures: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of naming the structures: pictures (B, C, H, W) in 0..1, labels (B, H, W) ids of `STRUCTURES`."""
        sides = labels.shape[-2:]
        logits = [
            F.interpolate(head(features).float(), sides, mode="bilinear", align_corners=False)
            for head, features in zip(self.heads, self(pictures), strict=True)
        ]
        return F.cross_entropy(torch.stack(logits).sum(0), labels.long())


class VggFeatures(nn.Module):
    """VGG16 with fixed weights, plain or with the channel weights of LPIPS."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        layers = {(int(m[1]), m[2]): value for name, value in tensors.items() if (m := _LAYER.search(name))}
        linear = {int(m[1]): value for name, value in tensors.items() if (m := _CHANNEL_WEIGHTS.search(name))}
        self.stages = nn.ModuleList()
        for stage in VGG_STAGES:
            convolutions = nn.ModuleList()
            for number, inputs, outputs in stage:
                convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
                given = {part: layers.get((number, part)) for part in ("weight", "bias")}
                if any(value is None or value.shape != getattr(convolution, part).shape for part, value in given.items()):
                    raise InputError(
                        f"The weights named for the perceptual loss lack VGG16's layer {number}; give a whole VGG16."
                    )
                convolution.load_state_dict({part: value for part, value in given.items() if value is not None})
                convolutions.append(convolution)
            self.stages.append(convolutions)
        self.lpips = bool(linear)
        self.name = "lpips_vgg16" if self.lpips else "vgg16"
        for index, stage in enumerate(VGG_STAGES):
            if self.lpips and (index not in linear or linear[index].numel() != stage[-1][2]):
                raise InputError(f"The LPIPS weights lack the channel weights of stage {index}; give the whole file.")
            values = linear[index].float().reshape(1, -1, 1, 1) if self.lpips else torch.ones(1)
            self.register_buffer(f"weights_{index}", values)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    @property
    def channel_weights(self) -> tuple[Tensor, ...]:
        """Factors (1, channels, 1, 1) of LPIPS for the squared differences of each stage's channels; empty for plain VGG16."""
        return tuple(self.get_buffer(f"weights_{index}") for index in range(len(VGG_STAGES))) if self.lpips else ()

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Last rectified map of each of the five stages, of pictures (B, 1 or 3, H, W) in 0..1."""
        x = (pictures.expand(-1, 3, -1, -1) - self.get_buffer("mean")) / self.get_buffer("deviation")
        maps = []
        for index, stage in enumerate(self.stages):
            x = F.max_pool2d(x, 2) if index else x
            for convolution in stage:  # type: ignore[attr-defined]
                x = F.relu(convolution(x))
            maps.append(x)
        return maps


FeatureNetwork = PhantomFeatures | VggFeatures


def perceptual_distance(network: FeatureNetwork, drawn: Tensor, target: Tensor) -> Tensor:
    """Distance of two batches of pictures (B, C, H, W) in 0..1 in a network's features; a scalar, 0 for equal ones.

    At each place the features are scaled to length 1, and their squared distance is averaged over places and pictures. The
    stages are summed with LPIPS's weights of their channels where the network has them (Zhang et al., Eq. 1), else averaged.
    """
    apart = [
        (F.normalize(one.float(), dim=1, eps=1e-6) - F.normalize(other.float(), dim=1, eps=1e-6)).square()
        for one, other in zip(network(drawn), network(target), strict=True)
    ]
    if network.channel_weights:
        weighted = zip(apart, network.channel_weights, strict=True)
        return torch.stack([(squares * weight).sum(1).mean() for squares, weight in weighted]).sum()  # Zhang et al., Eq. 1
    return torch.stack([squares.sum(1).mean() for squares in apart]).mean()


def load_features(path: str | Path) -> FeatureNetwork:
    """Load the feature network of a folder (`PhantomFeatures`, as training leaves it) or of a weights file of VGG16 or LPIPS.

    A file (.safetensors, or a torch file of tensors only) may name its layers as torchvision (features.0.weight) or LPIPS
    (slice1.0.weight, lin0.model.1.weight) do, after any prefix. The weights are fixed. Raises `InputError` for a file that
    is missing, damaged or without a whole VGG16.
    """
    path = Path(path)
    if path.is_dir():
        return load_network(PhantomFeatures, path).requires_grad_(False)
    try:
        if path.suffix == ".safetensors":
            tensors: object = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"The weights {path} named for the perceptual loss cannot be read.") from error
    except (SafetensorError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} is not a whole weights file of tensors only; the perceptual loss needs VGG16's.") from error
    if not isinstance(tensors, Mapping):
        raise InputError(f"{path} holds no tensors by name; the perceptual loss needs VGG16's.")
    return VggFeatures({name: value for name, value in tensors.items() if isinstance(value, Tensor)})
