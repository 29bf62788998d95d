"""Task `echodiffusion`: one stage of EchoDiffusion learns to remove noise from videos.

Its conditions are a frame, an ejection fraction and, after the first stage, the smaller video of the stage before. Source:
Reynaud et al., Feature-Conditioned Cascaded Video Diffusion Models for Precise Echocardiogram Synthesis, MICCAI 2023.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from echogen.datasets.clip_store import FPS
from echogen.errors import InputError
from echogen.generators.echodiffusion.cascade import Stage, resized
from echogen.networks.config import load_network, save_network
from echogen.networks.ef_regressor import at_size
from echogen.networks.video_unet import VideoUnet, VideoUnetConfig
from echogen.samplers.edm import Denoiser, Edm, add_noise, edm_loss, log_snr, multistep, random_normal
from echogen.training.recipe import Recipe, settings
from echogen.training.row_noise import RowNoise
from echogen.training.source import FORMER_NAMES, Needs, SourceSettings, TrainingSource, Window, WindowShape
from echogen.training.source.window import shown_ef_percent
from echogen.training.task import Task

#: Name of the network's folder.
NETWORK = "video-unet"
#: Name of the file that describes the stage, beside its network.
STAGE_FILE = "stage.json"
#: Steps of the few-step solver in a filmstrip: enough to see what was learned.
_SAMPLE_STEPS = 12
#: Most noise on the smaller video in a filmstrip, 0..1, as usual in a cascade.
_SAMPLE_LEVEL = 0.2


@dataclass(frozen=True)
class DiffusionData(SourceSettings):
    """Windows of a source of echo video with ejection fractions.

    frame_step: Frames at 32 per second from one frame of a window to the next; 1 uses all.
    at_ed: Begin windows at end-diastole, where a clip has one early enough, and condition every other row on that frame; else
        windows begin anywhere. With it a few thousand steps teach what an EF means, since each moment of the beat has its place.
    """

    frame_step: int = 4
    at_ed: bool = False


@dataclass(frozen=True)
class EarlierStage:
    """Videos of the stage before.

    size: Side of its frames in pixels.
    frames: Number of its frames.
    """

    size: int
    frames: int


@dataclass(frozen=True)
class DiffusionOptions:
    """Videos of the stage, their sampling, and noise and dropout in training.

    size: Side of the frames in pixels.
    frames: Frames of a video.
    steps: Steps in which the stage is sampled later on.
    churn: Noise that is added anew in sampling later on (S_churn of Karras et al., 2022, Algorithm 2).
    before: The stage before; null for the first.
    crop: Side in pixels of the random part that is learned from, the same in all frames; null for all.
    ef_dropout: Dropout probability of the EF.
    still_share: Share of the steps in which every frame stands alone (the paper's attention over time is off).
    edm: Noise levels of the diffusion (Karras et al., 2022).
    lowres_level: Most noise on the smaller video, 0..1.
    difference: Learn the difference to the enlarged smaller video instead of the video.
    first_look_share: Share of the rows of a difference trained at sigma_max, as the first step of sampling.
    """

    size: int = 56
    frames: int = 16
    steps: int = 32
    churn: float = 80.0
    before: EarlierStage | None = None
    crop: int | None = None
    ef_dropout: float = 0.1
    still_share: float = 0.25
    edm: Edm = field(default_factory=Edm)
    lowres_level: float = 1.0
    difference: bool = False
    first_look_share: float = 0.5


class EchoDiffusionTask(Task):
    """Stage by diffusion on windows of clips: the loss is Eq. 2 of Karras et al., 2022.

    The frame that is a condition comes from anywhere in the clip, also from outside the window (paper, Section 3). The noise
    level of the smaller video is given as log-SNR, in training as in sampling.
    """

    Data = DiffusionData
    Options = DiffusionOptions
    Network = VideoUnetConfig
    former_names = MappingProxyType(FORMER_NAMES)

    data: DiffusionData
    options: DiffusionOptions

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        options = self.options
        shape = WindowShape(options.frames, FPS / self.data.frame_step, at_ed=self.data.at_ed)
        self.source = TrainingSource(self.data, Needs(frozenset({"frames", "ef"})), shape, recipe.seed)
        own = options.edm if options.difference else None
        self.stage = Stage(options.size, options.frames, options.steps, options.churn, options.difference, own)
        start = self.starting_weights(NETWORK)
        self.network = load_network(VideoUnet, start) if start else VideoUnet(self.network_config(recipe))
        self._check()

    @classmethod
    def network_defaults(cls, recipe: Recipe) -> Mapping[str, Any]:
        """An input for the smaller video, in all stages but the first."""
        return {"lowres": settings(DiffusionOptions, recipe.options, "options.").before is not None}

    def _check(self) -> None:
        config, options = self.network.config, self.options
        if config.lowres != (options.before is not None):
            raise InputError("A network that takes a smaller video needs options.before, and only such a one.")
        if options.before and (options.before.size > options.size or options.frames % options.before.frames):
            raise InputError(
                f"The stage before makes {options.before.frames} frames of {options.before.size} pixels, which cannot become "
                f"{options.frames} of {options.size}."
            )
        side, multiple = options.crop or options.size, config.shrinks
        if side > options.size or side % multiple:
            raise InputError(f"The network needs frames of a multiple of {multiple} pixels, not {side}; set options.size.")

    def networks(self) -> dict[str, nn.Module]:
        """The U-Net."""
        return {NETWORK: self.network}

    def _example(self, window: Window, rng: np.random.Generator) -> tuple[Tensor, Tensor, float, bool]:
        """Video (T, size, size) and frame (size, size) in 0..1 of a window, the EF in % that it shows, and if that is given."""
        ef = shown_ef_percent(window)
        assert window.frames is not None
        assert window.reference is not None
        assert ef is not None
        frame = window.frames[0] if self.data.at_ed and rng.random() < 0.5 else window.reference
        pictures = torch.from_numpy(np.concatenate([window.frames, frame[None]])).float()[None] / 255.0
        small = at_size(pictures, self.options.size)[0]
        return small[:-1], small[-1], ef, bool(rng.random() >= self.options.ef_dropout)

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Videos (B, C, T, H, W), enlarged smaller videos, frames (B, C, H, W), EF (B,) as fractions, and EF mask (B,)."""
        options, places = self.options, self.positions(step, rank, world)
        examples = [self._example(self.source.at(position), self.row_random(position)) for position in places]
        videos, frames, fractions, keep = zip(*examples, strict=True)
        channels = self.network.config.channels
        video = torch.stack(videos)[:, None].expand(-1, channels, -1, -1, -1)
        batch = {
            "video": video,
            "frame": torch.stack(frames)[:, None].expand(-1, channels, -1, -1),
            "ef": torch.tensor(fractions, dtype=torch.float32) / 100.0,
            "keep": torch.tensor(keep),
            "seeds": self.row_seeds(places),
        }
        if options.before is not None:
            small = resized(video, options.before.frames, options.before.size, "trilinear")
            batch["lowres"] = resized(small, options.frames, options.size, "trilinear")
        if options.crop is not None:
            top, left = (int(v) for v in self.step_random(step).integers(0, options.size - options.crop + 1, 2))
            part = (..., slice(top, top + options.crop), slice(left, left + options.crop))
            batch |= {name: batch[name][part] for name in ("video", "frame", "lowres") if name in batch}
        return {name: tensor.contiguous() for name, tensor in batch.items()}

    def _still(self, step: int) -> bool:
        """True if frames stand alone in a step, alike in all processes."""
        return bool(np.random.default_rng([self.recipe.seed, step]).random() < self.options.still_share)

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Loss of Eq. 2 of Karras et al., 2022."""
        edm, clean = self.options.edm, batch["video"] * 2.0 - 1.0
        noise = RowNoise(batch["seeds"])
        conditions: dict[str, Any] = {"keep": batch["keep"], "still": self._still(step)}
        if "lowres" in batch:
            level = self.options.lowres_level * noise.uniform()
            smaller = batch["lowres"] * 2.0 - 1.0
            conditions |= {"lowres": add_noise(smaller, level, noise.normal(*smaller.shape[1:])), "lowres_level": log_snr(level)}
            clean = clean - smaller if self.options.difference else clean
        ln_sigma = edm.ln_sigma_mean + edm.ln_sigma_std * noise.normal()
        if self.options.difference:
            first = noise.uniform() < self.options.first_look_share
            ln_sigma = torch.where(first, math.log(edm.sigma_max), ln_sigma)

        def predict(video: Tensor, level: Tensor) -> Tensor:
            predicted: Tensor = self.network(video, level, batch["frame"], batch["ef"], **conditions)
            return predicted

        added = noise.normal(*clean.shape[1:])
        return {"loss": edm_loss(predict, clean, ln_sigma, added, edm.sigma_data).mean()}

    @torch.no_grad()
    def sample(self, step: int) -> NDArray[np.uint8]:
        """Two videos of the first batch, each above one that is sampled from its frame and EF."""
        batch = {name: tensor[:2].to(self.device) for name, tensor in self.batch(0, 0, 1).items()}
        options, normal = self.options, random_normal(torch.Generator().manual_seed(self.recipe.seed), self.device)
        conditions: dict[str, Tensor] = {}
        if "lowres" in batch:
            level = torch.full((len(batch["video"]),), min(_SAMPLE_LEVEL, options.lowres_level / 2), device=self.device)
            smaller = batch["lowres"] * 2.0 - 1.0
            conditions = {"lowres": add_noise(smaller, level, normal(smaller.shape)), "lowres_level": log_snr(level)}
        denoiser = Denoiser(lambda x, level: self.network(x, level, batch["frame"], batch["ef"], **conditions), options.edm)
        made = multistep(denoiser, batch["video"].shape, _SAMPLE_STEPS, options.edm, normal)
        made = made + batch["lowres"] * 2.0 - 1.0 if options.difference else made
        made = made.clamp(-1.0, 1.0) * 0.5 + 0.5
        rows = [video[index, 0] for index in range(len(made)) for video in (batch["video"], made)]
        strip = torch.cat([torch.cat(list(row), dim=1) for row in rows]) * 255.0
        return strip.round().to(torch.uint8).cpu().numpy()

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the network in bfloat16, with the description of its stage."""
        save_network(networks[NETWORK], folder / NETWORK, torch.bfloat16)
        description = {"stage": asdict(self.stage), "fps": FPS / self.data.frame_step, "edm": asdict(self.options.edm)}
        (folder / NETWORK / STAGE_FILE).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
