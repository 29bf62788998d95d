"""Task `refiner`: a network learns the details that interpolation lacks, in time or in space, for any grey video."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from echogen.datasets.clip_store import FPS
from echogen.errors import InputError
from echogen.generators.wrappers.refined import (
    Refiner,
    RefinerConfig,
    RefinerInput,
    check_network,
    double_size_input,
    frame_predictor,
    halfway_input,
)
from echogen.networks.config import load_network
from echogen.networks.video_unet import VideoUnet, VideoUnetConfig
from echogen.samplers.edm import Edm, edm_loss
from echogen.training.recipe import Recipe
from echogen.training.row_noise import RowNoise
from echogen.training.source import FORMER_NAMES, Needs, SourceSettings, TrainingSource, WindowShape
from echogen.training.task import Task

#: Name of the network's folder.
NETWORK = "video-unet"
#: Frames of a window: in time a frame and its two neighbours, in space one.
_SPANNED = {"2x-time": 3, "2x-space": 1}


@dataclass(frozen=True)
class RefinerData(SourceSettings):
    """Frames of clips.

    frame_step: Frames at 32 per second from one used frame to the next; 1 uses all.
    """

    frame_step: int = 1


@dataclass(frozen=True)
class RefinerOptions:
    """Kind of refinement, sizes, and noise in training.

    kind: Refinement of time (twice the frame rate) or of space (twice the sides).
    size: Side of the fine frames in pixels.
    crop: Side in pixels of the random part that is learned from; null for all.
    edm: Noise levels of the diffusion (Karras et al., 2022).
    lowres_level: Most noise on the interpolated frames that the network sees, 0..1.
    first_look_share: Share of the rows trained as the first step of sampling, which sees no difference yet.
    """

    kind: Literal["2x-time", "2x-space"]
    size: int = 128
    crop: int | None = None
    edm: Edm = field(default_factory=Edm)
    lowres_level: float = 1.0
    first_look_share: float = 0.5


class RefinerTask(Task):
    """Refiner by diffusion: the loss is Eq. 2 of Karras et al., 2022, of the difference of fine frames to interpolated ones."""

    Data = RefinerData
    Options = RefinerOptions
    Network = VideoUnetConfig
    former_names = MappingProxyType(FORMER_NAMES)

    data: RefinerData
    options: RefinerOptions

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        options = self.options
        start = self.starting_weights(NETWORK)
        self.network = load_network(VideoUnet, start) if start else VideoUnet(self.network_config(recipe))
        check_network(self.network)
        self.spanned, self.side = _SPANNED[options.kind], options.crop or options.size
        shape = WindowShape(self.spanned, FPS / self.data.frame_step)
        self.source = TrainingSource(self.data, Needs(frozenset({"frames"})), shape, recipe.seed, size=options.size)
        multiple = 2 * self.network.config.shrinks
        if self.side > options.size or self.side % multiple:
            raise InputError(f"The network needs frames of a multiple of {multiple} pixels, not {self.side}; set options.crop.")

    @classmethod
    def network_defaults(cls, recipe: Recipe) -> Mapping[str, Any]:
        """An input for the interpolated video."""
        return {"lowres": True}

    def networks(self) -> dict[str, nn.Module]:
        """The U-Net."""
        return {NETWORK: self.network}

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Fine frames (B, 1, 1, H, W), and the refiner's view of them in the fields of `RefinerInput`; all in 0..1."""
        side, rows, places = self.side, [], self.positions(step, rank, world)
        for position in places:
            frames = self.source.at(position).frames
            assert frames is not None
            top, left = (int(v) for v in self.row_random(position).integers(0, self.options.size - side + 1, 2))
            rows.append(torch.from_numpy(frames[:, top : top + side, left : left + side]).float()[None] / 255.0)
        fine, seeds = torch.cat(rows), self.row_seeds(places)
        in_time = self.options.kind == "2x-time"
        seen = halfway_input(fine[:, :1], fine[:, 2:]) if in_time else double_size_input(nn.functional.avg_pool2d(fine, 2))
        return {"video": fine[:, 1:2, None] if in_time else fine[:, :, None], **seen._asdict(), "seeds": seeds}

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Loss of Eq. 2; rows trained as the first step of sampling see neither the difference nor noise."""
        options, edm, seen = self.options, self.options.edm, RefinerInput(batch["lowres"], batch["hidden"])
        clean = (batch["video"] - seen.lowres) * 2.0
        draw = RowNoise(batch["seeds"])
        noise, first = draw.normal(*clean.shape[1:]), draw.uniform() < options.first_look_share
        ln_sigma = edm.ln_sigma_mean + edm.ln_sigma_std * draw.normal()
        ln_sigma = torch.where(first, math.log(edm.sigma_max), ln_sigma)
        noise = torch.where(first.view(-1, 1, 1, 1, 1), -clean / edm.sigma_max, noise)
        level = options.lowres_level * draw.uniform()
        predict = frame_predictor(self.network, seen, draw.normal(*clean.shape[1:]), level)
        return {"loss": edm_loss(predict, clean, ln_sigma, noise, edm.sigma_data).mean()}

    @torch.no_grad()
    def sample(self, step: int) -> NDArray[np.uint8]:
        """Two frames, each beside its interpolation and its refinement in one and in four steps."""
        batch = {name: tensor[:2].to(self.device) for name, tensor in self.batch(0, 0, 1).items()}
        seen, refiner = RefinerInput(batch["lowres"], batch["hidden"]), self._refiner(self.network)
        fine = (batch["video"], seen.lowres, refiner.draw(seen), refiner.draw(seen, 4))
        pictures = torch.cat([torch.cat(list(each[:, 0, 0]), dim=0) for each in fine], dim=1) * 255.0
        return pictures.round().to(torch.uint8).cpu().numpy()

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write a refiner's folder in bfloat16."""
        self._refiner(networks[NETWORK]).save_pretrained(folder, torch.bfloat16)

    def _refiner(self, network: nn.Module) -> Refiner:
        return Refiner(RefinerConfig(self.options.kind, self.options.edm), cast(VideoUnet, network), self.device)
