"""Task `echopulse-tokenizer`: ECHOPulse's video tokenizer learns to reconstruct frames.

It is the first step of the paper (ICLR 2025, section 3.1): squared error, a perceptual and an adversarial loss.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from echogen.datasets.clip_store import FPS
from echogen.datasets.paired_folder import change_contrast, resize
from echogen.datasets.preparation import VIDEOS
from echogen.errors import InputError
from echogen.networks.config import config_to_dict, load_network, save_network
from echogen.networks.published_discriminator import PublishedDiscriminator, hinge_generator_loss
from echogen.networks.video_tokenizer import VideoTokenizer, VideoTokenizerConfig
from echogen.training.adversarial import DiscriminatorOptions, discriminator_config, discriminator_losses, last_layer
from echogen.training.losses import CodebookUse, adaptive_weight, collapse, some_frames
from echogen.training.perceptual import LABELLED_FRAMES, PerceptualLoss
from echogen.training.recipe import Recipe
from echogen.training.source import Needs, SourceEntry, SourceSettings, TrainingSource, WindowShape
from echogen.training.tokenizer_training import TokenizerTraining
from echogen.training.trainer import TrainingStopped

logger = logging.getLogger("echogen.training")


@dataclass(frozen=True)
class VideoData(SourceSettings):
    """Windows of a source of echo video.

    clips: Source whose outlined frames teach the feature network, `phantom` unless it is given; alone, former name of `source`.
    videos: Former name of `source` for a folder of videos, with `picture` whole.
    frames: Frames of a window, 1 plus a multiple of the tokenizer's time patch.
    frame_step: Frames at 32 per second from one frame of a window to the next.
    contrast: Lowest and highest factor by which the contrast is changed at random.
    """

    clips: str | None = None
    videos: str | None = None
    frames: int = 11
    frame_step: int = 1
    contrast: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class EchoPulseTokenizerOptions:
    """Weights of the losses (1 in the paper), the steps at which they begin, and limits at which a run is stopped.

    reconstruction: Weight of the squared error.
    perceptual: Weight of the perceptual loss.
    adversarial: Weight of the adversarial loss, besides its adaptive weight; 0 for no discriminator.
    perceptual_weights: File of VGG16 or LPIPS, or folder of a feature network trained before; null to train one on the phantom's
        labels in the first steps.
    features_steps: Steps in which that network learns; the perceptual loss begins after them.
    looked_at: Random frames of each clip that the perceptual loss and the discriminator see.
    discriminator_from: Step from which the discriminator learns.
    adversarial_from: Step from which the adversarial loss counts.
    gradient_penalty: Weight of the gradient penalty on real frames.
    discriminator: Sizes and learning rate of the discriminator.
    codes_window: Steps over which the use of the codebook is counted.
    collapse_from: Step from which a collapsed codebook stops the run.
    fewest_codes: Least perplexity of the codes in a window of steps; below it the run stops.
    least_spread: Least spread of the drawn grey values over that of the real ones; below it the run stops.
    """

    reconstruction: float = 1.0
    perceptual: float = 1.0
    adversarial: float = 1.0
    perceptual_weights: str | None = None
    features_steps: int = 500
    looked_at: int = 1
    discriminator_from: int = 2000
    adversarial_from: int = 3000
    gradient_penalty: float = 10.0
    discriminator: DiscriminatorOptions = field(default_factory=DiscriminatorOptions)
    codes_window: int = 50
    collapse_from: int = 1000
    fewest_codes: float = 4.0
    least_spread: float = 0.05


def tokenizer_config(network: Mapping[str, Any]) -> VideoTokenizerConfig:
    """Config of the paper's tokenizer with a recipe's changes to it; it draws as many channels as it sees.

    Raises `InputError` for an unknown field or sizes that do not fit.
    """
    config: VideoTokenizerConfig = EchoPulseTokenizerTask.network_config(Recipe("echopulse-tokenizer", 1, network=network))
    return config


class EchoPulseTokenizerTask(TokenizerTraining):
    """Tokenizer by Eqs. 1 to 6 of the paper: squared error, perceptual loss, commitment, adversarial loss of adaptive weight.

    The recipe's network holds changes to `VideoTokenizerConfig.paper()`. Tokenizer, discriminator and feature network are saved,
    so that `init_from` continues with all of them. The name of the perceptual loss in every log says whose features it
    compares: perceptual_vgg16, perceptual_lpips_vgg16 or perceptual_phantom_features.
    """

    Data = VideoData
    Options = EchoPulseTokenizerOptions
    Network = VideoTokenizerConfig

    data: VideoData
    options: EchoPulseTokenizerOptions

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        config = self.network_config(recipe)
        self._check(config)
        options = self.options
        start = self.starting_weights("tokenizer")
        self.tokenizer = VideoTokenizer(config) if start is None else load_network(VideoTokenizer, start)
        if self.tokenizer.config != config:
            raise InputError(f"The tokenizer in {start} has other settings than the recipe's network; give them the same.")
        self.use = CodebookUse(config.quantizer.vocabulary, config.quantizer.groups)
        if options.adversarial > 0:
            wanted = discriminator_config(options.discriminator, config)
            earlier = start.parent / "discriminator" if start else None
            self.discriminator = PublishedDiscriminator(wanted)
            if earlier is not None and earlier.is_dir():
                self.discriminator = load_network(PublishedDiscriminator, earlier)
                if config_to_dict(self.discriminator.config) != config_to_dict(wanted):
                    raise InputError(
                        f"The discriminator in {earlier} has other settings than the recipe's options.discriminator."
                    )
        if options.perceptual > 0:
            weights, steps = options.perceptual_weights, options.features_steps
            self.perceptual = PerceptualLoss(weights, steps, start, config.image_size, recipe.seed, self.data.clips)
        self.source = self._open_data()

    @classmethod
    def network_defaults(cls, recipe: Recipe) -> Mapping[str, Any]:
        """The paper's tokenizer (Table 4)."""
        return config_to_dict(VideoTokenizerConfig.paper())

    @classmethod
    def network_config(cls, recipe: Recipe) -> VideoTokenizerConfig:
        """Config that the recipe asks for, drawing as many channels as it sees."""
        config: VideoTokenizerConfig = super().network_config(recipe)
        return replace(config, channels_out=config.channels_in)

    def _check(self, config: VideoTokenizerConfig) -> None:
        """Raise `InputError` for settings that cannot work, before anything is built or read."""
        data, options = self.data, self.options
        if data.frames < 1 or (data.frames - 1) % config.time_patch:
            raise InputError(
                f"The recipe's data.frames must be 1 plus a multiple of the time patch {config.time_patch}, not {data.frames}."
            )
        if data.frame_step < 1 or not 0 < data.contrast[0] <= data.contrast[1]:
            raise InputError("The recipe's data.frame_step must be at least 1, and data.contrast two rising factors above 0.")
        if config.channels_in not in (1, 3):
            raise InputError(f"The recipe's network.channels_in must be 1 (grey) or 3 (colour), not {config.channels_in}.")
        if not 1 <= options.looked_at <= data.frames or options.codes_window < 1:
            raise InputError("The recipe's options.looked_at must be between 1 and data.frames, and codes_window at least 1.")
        if options.adversarial_from < options.discriminator_from:
            raise InputError("The recipe's options.adversarial_from must not come before discriminator_from.")
        if options.fewest_codes >= config.quantizer.vocabulary:
            raise InputError(
                f"The recipe's options.fewest_codes must be below the {config.quantizer.vocabulary} codes that there are."
            )

    def _open_data(self) -> TrainingSource:
        """Windows of the source, or of a folder of videos by its former name."""
        data = self.data
        former = "videos" if data.videos is not None else "clips"
        if data.source is None and getattr(data, former) is not None:
            logger.warning("data.%s is the former name of data.source, which takes shards, data sets and mixtures, too.", former)
            if data.videos is not None:
                data = replace(data, source=SourceEntry(data.videos, dataset=VIDEOS), picture="whole")
            else:
                data = replace(data, source=data.clips)
        shape = WindowShape(data.frames, FPS / data.frame_step)
        return TrainingSource(data, Needs(frozenset({"frames"})), shape, self.recipe.seed)

    def networks(self) -> dict[str, nn.Module]:
        """Tokenizer, discriminator, feature network where it is trained here, and the counts of the codebook's use."""
        return super().networks() | {"codebook_use": self.use}

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Windows (B, T, H, W) uint8; while the feature network learns, labelled phantom frames too."""
        rows = [self._frames(position) for position in self.positions(step, rank, world)]
        batch = {"frames": torch.from_numpy(np.stack(rows))}
        if self.perceptual is not None and self.perceptual.lessons is not None and step < self.perceptual.first_step:
            batch |= self.perceptual.lessons.batch(self.positions(step, rank, world, LABELLED_FRAMES))
        return batch

    def _frames(self, position: int) -> NDArray[np.uint8]:
        """Frames (T, H, W) of one row of a batch, their contrast changed at random."""
        frames = self.source.at(position).frames
        assert frames is not None
        return change_contrast(resize(frames, self.tokenizer.config.image_size), self.data.contrast, self.row_random(position))

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """The loss and its parts; discriminator_loss and features_loss in the steps in which those networks learn."""
        options = self.options
        target = self._pixels(batch["frames"])
        output = self.tokenizer(self._tokenizer_input(target))
        drawn = output.reconstruction.float()
        mse = F.mse_loss(drawn, target)  # Eq. 2
        loss = options.reconstruction * mse + output.quantizer_loss  # Eqs. 1 and 4
        parts = {"mse": mse, "mae": (drawn - target).abs().mean(), "quantizer_loss": output.quantizer_loss}
        looked_at = some_frames(drawn, options.looked_at)
        row = torch.arange(len(drawn), device=drawn.device)[:, None]
        fake, real = drawn[row, looked_at].flatten(0, 1), target[row, looked_at].flatten(0, 1)
        balanced = options.reconstruction * mse  # the loss that the adversarial one is weighed by
        if self.perceptual is not None and step >= self.perceptual.first_step:
            perceptual = self.perceptual.distance(fake, real)  # Eq. 3
            balanced = options.perceptual * perceptual
            loss = loss + balanced
            parts[f"perceptual_{self.perceptual.features.name}"] = perceptual
        if self.perceptual is not None and "labelled" in batch:
            parts["features_loss"] = self.perceptual.lesson(self._pixels(batch["labelled"][:, None])[:, 0], batch["labels"])
        if self.discriminator is not None and step >= options.discriminator_from:
            # Without low precision: the penalty takes a gradient of a gradient.
            with torch.autocast(self.device.type, enabled=False):
                parts |= discriminator_losses(self.discriminator, fake.detach(), real, options.gradient_penalty)
                if step >= options.adversarial_from:
                    adversarial = hinge_generator_loss(self.discriminator(fake))  # Eq. 5
                    weight = adaptive_weight(balanced, adversarial, last_layer(self.tokenizer))  # Eq. 6
                    loss = loss + options.adversarial * weight * adversarial  # Eq. 1
                    parts |= {"adversarial": adversarial, "adaptive_weight": weight}
        self.use.add(output.ids, drawn, target)
        if (step + 1) % options.codes_window == 0:
            parts |= self._codebook_use(step)
        return {"loss": loss, **parts}

    def _pixels(self, frames: Tensor) -> Tensor:
        """Pictures (B, T, C, H, W) in 0..1, alike in every channel, of uint8 frames (B, T, H, W)."""
        return (frames.float() / 255.0).unsqueeze(2).expand(-1, -1, self.tokenizer.config.channels_in, -1, -1)

    def _tokenizer_input(self, video: Tensor) -> Tensor:
        """Video (B, T, C, H, W) in the order of the tokenizer: (B, C, T, H, W), or (B, T, H, W) where it sees grey."""
        return video.transpose(1, 2) if video.shape[2] > 1 else video[:, :, 0]

    def _codebook_use(self, step: int) -> dict[str, Tensor]:
        """Use of the codebook in the window that ends with this step; raises `TrainingStopped` when it has collapsed."""
        report = self.use.report()
        if step + 1 > self.options.collapse_from:
            fault = collapse(report, self.options.fewest_codes, self.options.least_spread)
            if fault:
                raise TrainingStopped(f"Training stopped at step {step + 1} because {fault}.")
        found = report._asdict()
        return {name: value for name, value in found.items() if bool(value.isfinite())}

    def sample(self, step: int) -> NDArray[np.uint8]:
        """Two clips, each above its reconstruction."""
        rows = []
        for position in range(2):
            video = self._pixels(torch.tensor(self._frames(position), device=self.device)[None])
            drawn = self.tokenizer(self._tokenizer_input(video)).reconstruction
            for pictures in (video[0], drawn[0].float().clamp(0, 1)):
                rows.append(np.hstack(list((pictures.mean(1) * 255).round().byte().cpu().numpy())))
        return np.vstack(rows)

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the networks, in float32 so that ids stay what they were; the codebook's counts stay in the checkpoints."""
        for name, network in networks.items():
            if name != "codebook_use":
                save_network(network, folder / name)
