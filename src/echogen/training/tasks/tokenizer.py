"""Step 1: the video tokenizer learns to draw the structure and the motion of a heart from frames with speckle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from echogen.datasets.clip_store import ClipStore
from echogen.errors import InputError
from echogen.generators.echopulse.frame_renderer import MOTION_SCALE
from echogen.networks.config import config_from_dict, config_to_dict, load_network, save_network
from echogen.networks.published_discriminator import PublishedDiscriminator, hinge_generator_loss
from echogen.networks.quantizers import FSQ, Quantized
from echogen.networks.video_tokenizer import CELL, VideoTokenizer, VideoTokenizerConfig
from echogen.training.adversarial import DiscriminatorOptions, discriminated, discriminator_config, last_layer
from echogen.training.losses import adaptive_weight, some_frames
from echogen.training.outlines import cells_of_tokens
from echogen.training.recipe import Recipe, settings
from echogen.training.task import OptimizerGroup, Task

#: What a trained decoder can be given beside what it has, in the recipe's network; and the weights that see noise.
GROWING = ("cavity_cells", "noise_channels")
NOISY = "smooth.0.weight"


@dataclass(frozen=True)
class ClipData:
    """Where the clips lie and how long a window of them is: clips (folder of a clip store), frames (1 + a multiple of 4)."""

    clips: str
    frames: int = 33


@dataclass(frozen=True)
class TokenizerOptions:
    """Weights of the losses beside the structure's squared error; crop_share: of windows decoded as if mid-stream.

    edge: by how much pixels near the cavity's edge, which decide the EF, count more than others. decoder_only: the encoder and
    its codes stay as they are, so that a transformer trained on these ids goes on fitting. wrong_codes: in half of the windows up
    to this share of the codes is a step off, as codes that a transformer guesses are. cavity: weight of saying where the cavity
    is, where the network can.
    """

    change: float = 1.0
    motion: float = 0.1
    crop_share: float = 0.5
    edge: float = 0.0
    decoder_only: bool = False
    wrong_codes: float = 0.0
    cavity: float = 0.02
    speckle: bool = False
    adversarial: float = 0.0
    looked_at: int = 2
    gradient_penalty: float = 10.0
    discriminator: DiscriminatorOptions = field(
        default_factory=lambda: DiscriminatorOptions(widths=(32, 64, 96, 128, 128), attention_after=())
    )


class TokenizerTask(Task):
    """Frames with speckle in, frames without speckle and the tissue's displacement out, through discrete codes.

    The loss is the squared error of the structure, of its change over 4 frames (walls move, little else does), and of the
    displacement where there is tissue, plus the quantizer's own.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.data = settings(ClipData, recipe.data, "data.")
        self.options = settings(TokenizerOptions, recipe.options, "options.")
        start = self.starting_weights("tokenizer")
        self.tokenizer = (
            load_network(VideoTokenizer, start)
            if start
            else VideoTokenizer(config_from_dict(VideoTokenizerConfig, recipe.network))
        )
        self.tokenizer = _grown(self.tokenizer, {name: recipe.network.get(name, 0) for name in GROWING})
        if self.options.decoder_only:
            self.tokenizer.freeze_encoder()
        self.discriminator: PublishedDiscriminator | None = None
        if self.options.adversarial > 0:
            if not 1 <= self.options.looked_at <= self.data.frames:
                raise InputError("The recipe's options.looked_at must be between 1 and data.frames.")
            self.discriminator = PublishedDiscriminator(discriminator_config(self.options.discriminator, self.tokenizer.config))
        self.store = ClipStore(self.data.clips)

    def networks(self) -> dict[str, nn.Module]:
        """The tokenizer, and its discriminator if there is one."""
        found: dict[str, nn.Module] = {"tokenizer": self.tokenizer}
        return found if self.discriminator is None else found | {"discriminator": self.discriminator}

    def optimized(self) -> tuple[OptimizerGroup, ...]:
        """An optimizer each for the tokenizer and its discriminator."""
        groups = (OptimizerGroup("tokenizer", ("tokenizer",)),)
        if self.discriminator is None:
            return groups
        share = self.options.discriminator.learning_rate_share
        return (*groups, OptimizerGroup("discriminator", ("discriminator",), "discriminator_loss", share))

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Random windows of random clips."""
        rng = self.random(step, rank)
        frames, structure, displacement, cavity = [], [], [], []
        for _ in range(self.recipe.batch_size):
            clip = self.store[int(rng.integers(len(self.store)))]
            start = int(rng.integers(clip.frames.shape[0] - self.data.frames + 1))
            window = slice(start, start + self.data.frames)
            frames.append(clip.frames[window])
            structure.append(clip.structure[window])
            displacement.append(clip.displacement[window])
            cavity.append(clip.cavity[window])
        return {
            "frames": torch.from_numpy(np.stack(frames)),
            "structure": torch.from_numpy(np.stack(structure)),
            "displacement": torch.from_numpy(np.stack(displacement)),
            "cavity": torch.from_numpy(np.stack(cavity)),
        }

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Loss and its parts; mse is that of the structure."""
        if self.options.decoder_only:
            self.tokenizer.quantizer.eval()
        video = batch["frames"].float() / 255.0
        latents = 1 + (self.data.frames - 1) // self.tokenizer.config.time_patch
        crop = None
        if float(torch.rand(())) < self.options.crop_share and latents > 2:
            start = int(torch.randint(1, latents // 2 + 1, ()))
            crop = (start, latents - start)
        quantized, values = self._quantized(video)
        begin, length = crop or (0, latents)
        part = slice(begin, begin + length)
        features = self.tokenizer.decoded(values[:, part])
        drawn = self.tokenizer.picture(features, begin == 0).float()
        shown = slice(0, self.data.frames) if crop is None else self.tokenizer.frames(*crop)
        target = batch["frames" if self.options.speckle else "structure"][:, shown].float() / 255.0
        picture, movement = drawn.split([1, drawn.shape[2] - 1], dim=2)
        error = picture.squeeze(2) - target
        mse = error.square().mean()
        if self.discriminator is not None:
            error = F.interpolate(F.avg_pool2d(error, CELL), scale_factor=CELL, mode="nearest")
        weight = 1.0 + self.options.edge * _near_edge(batch["cavity"][:, shown], error.shape[-1])
        weight = weight / weight.mean()
        picture_loss = (weight * error.square()).mean()
        change = (weight[:, 4:] * (error[:, 4:] - error[:, :-4]).square()).mean()
        moved = batch["displacement"][:, shown].float() / (4.0 * MOTION_SCALE)
        coarse = F.avg_pool2d(movement.flatten(0, 1), 2).view_as(moved)
        tissue = (moved != 0).any(2, keepdim=True).float() + 0.05
        motion = ((coarse - moved).square() * tissue).mean() / tissue.mean()
        loss = picture_loss + self.options.change * change + self.options.motion * motion + quantized.loss
        losses = {}
        if self.tokenizer.cavity is not None:
            cells = _cells(batch["cavity"], self.tokenizer.config)[:, part]
            losses["cavity"] = F.binary_cross_entropy_with_logits(self.tokenizer.cavity(features).float(), cells)
            loss = loss + self.options.cavity * losses["cavity"]
        if self.discriminator is not None:
            judged = self._judged(self.discriminator, picture, target, picture_loss)
            loss = loss + self.options.adversarial * judged["adaptive_weight"] * judged["adversarial"]
            losses |= judged
        used = quantized.ids.unique().numel() / self.tokenizer.quantizer.vocabulary
        return losses | {
            "loss": loss,
            "mse": mse,
            "change": change,
            "motion_px": motion.sqrt() * MOTION_SCALE,
            "codes_used": torch.tensor(used, device=loss.device),
        }

    def _judged(
        self, discriminator: PublishedDiscriminator, drawn: Tensor, target: Tensor, balanced: Tensor
    ) -> dict[str, Tensor]:
        """What it says of drawn frames (B, T, 1, H, W), with its own losses; balanced: the loss that it is weighed by."""
        looked_at = some_frames(drawn, self.options.looked_at)
        row = torch.arange(len(drawn), device=drawn.device)[:, None]
        fake, real = drawn[row, looked_at].flatten(0, 1), target[row, looked_at].flatten(0, 1).unsqueeze(1)
        # Without low precision: the penalty takes a gradient of a gradient.
        with torch.autocast(self.device.type, enabled=False):
            found = discriminated(discriminator, fake.detach(), real, self.options.gradient_penalty)
            adversarial = hinge_generator_loss(discriminator(fake))
            weight = adaptive_weight(balanced, adversarial, last_layer(self.tokenizer))
        return found | {"adversarial": adversarial, "adaptive_weight": weight}

    def _quantized(self, video: Tensor) -> tuple[Quantized, Tensor]:
        """What the quantizer makes of a video, and the values that the decoder gets: some of codes that are a step off."""
        quantized = self.tokenizer.quantize(self.tokenizer.encode(video))
        quantizer = self.tokenizer.quantizer
        if not self.options.wrong_codes or not isinstance(quantizer, FSQ):
            return quantized, quantized.values
        rows = (len(video), *[1] * (quantized.ids.dim() - 1))
        share = self.options.wrong_codes * torch.rand(rows, device=video.device) * (torch.rand(rows, device=video.device) < 0.5)
        wrong = quantizer.decode_ids(quantizer.nearby(quantized.ids, share))
        # The gradient goes to the codes as they were.
        return quantized, quantized.values + (wrong - quantized.values).detach()

    def sample(self, step: int) -> NDArray[np.uint8]:
        """Two clips: frames with speckle, structure, reconstruction."""
        rows = []
        for index in range(min(2, len(self.store))):
            clip = self.store[index]
            video = torch.from_numpy(clip.frames[: self.data.frames].astype(np.float32) / 255.0)[None].to(self.device)
            drawn = self.tokenizer(video).reconstruction[0, :, 0].float().clamp(0, 1).cpu().numpy()
            for row in (clip.frames, clip.structure, (drawn * 255).astype(np.uint8)):
                rows.append(np.hstack([row[i] for i in range(0, self.data.frames, self.tokenizer.config.time_patch)]))
        return np.vstack(rows)

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the tokenizer in bfloat16."""
        save_network(networks["tokenizer"], folder / "tokenizer", torch.bfloat16)


def _grown(tokenizer: VideoTokenizer, wanted: Mapping[str, int]) -> VideoTokenizer:
    """The same tokenizer, whose decoder learns what it did not know: to say where the cavity is, or to draw from noise."""
    more = {name: count for name, count in wanted.items() if count and not getattr(tokenizer.config, name)}
    if not more:
        return tokenizer
    grown = VideoTokenizer(config_from_dict(VideoTokenizerConfig, config_to_dict(tokenizer.config) | more))
    kept = {**grown.state_dict(), **tokenizer.state_dict()}
    if "noise_channels" in more:
        new = grown.state_dict()[NOISY].clone()
        new[:, : -more["noise_channels"]] = kept[NOISY]
        kept[NOISY] = new
    grown.load_state_dict(kept)
    return grown


def _cells(cavity: Tensor, config: VideoTokenizerConfig) -> Tensor:
    """How much of each cell of each token is cavity, 0..1, (B, latents, positions, cells), of windows (B, frames, 32, 32)."""
    places = np.arange(config.grid**2) if config.active_patches is None else np.array(config.active_patches)
    cells = [cells_of_tokens(window.cpu().numpy(), True, config.grid, places) for window in cavity]
    return torch.from_numpy(np.stack(cells)).to(cavity.device).float() / 255.0


def _near_edge(cavity: Tensor, side: int) -> Tensor:
    """1 on the pixels at or beside a cell (B, frames, 32, 32) that the cavity covers in part, else 0: (B, frames, side, side)."""
    partly = ((cavity > 0) & (cavity < 255)).float()
    beside = F.max_pool2d(partly, 3, stride=1, padding=1)
    return F.interpolate(beside, scale_factor=side // cavity.shape[-1], mode="nearest")
