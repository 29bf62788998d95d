"""Task `tokenizer`: the video tokenizer learns to draw a heart's structure and motion, or the frames as they are.

It is the first step of the shipped default, before the task `masked-video`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from echogen.datasets.clip_store import FPS
from echogen.errors import InputError
from echogen.generators.echopulse.frame_renderer import MOTION_SCALE
from echogen.networks.config import load_network, save_network
from echogen.networks.published_discriminator import PublishedDiscriminator, hinge_generator_loss
from echogen.networks.quantizers import FSQ, Quantized
from echogen.networks.video_tokenizer import CELL, VideoTokenizer, VideoTokenizerConfig
from echogen.training.adversarial import DiscriminatorOptions, discriminator_config, discriminator_losses, last_layer
from echogen.training.losses import adaptive_weight, some_frames
from echogen.training.outlines import cells_of_tokens
from echogen.training.perceptual import LABELLED_FRAMES, PerceptualLoss
from echogen.training.recipe import Recipe
from echogen.training.source import FORMER_NAMES, Needs, SourceSettings, TrainingSource, Window, WindowShape
from echogen.training.source.targets import covered_cells
from echogen.training.tokenizer_training import TokenizerTraining

#: Settings of the recipe's network that add an output or an input to a trained decoder.
ADDITIONS = ("cavity_cells", "noise_channels")
#: Name of the weights that noise channels are an input of.
NOISE_WEIGHTS = "smooth.0.weight"
#: Frames over which the loss of change compares, one time patch: walls move within it, little else does.
CHANGE_FRAMES = 4
#: Least mean weight of pixels, which keeps the loss of motion finite where no row has a displacement.
_LITTLE = 1e-6
#: Weight of pixels without tissue in the loss of motion, over that of tissue, so that it stays still there.
STILL_WEIGHT = 0.05


@dataclass(frozen=True)
class ClipData(SourceSettings):
    """Windows of clips.

    frames: Frames of a window, 1 plus a multiple of 4.
    """

    frames: int = 33


@dataclass(frozen=True)
class TokenizerOptions:
    """Weights of the losses beside the structure's squared error, and variations of the windows.

    change: Weight of the squared error of the structure's change over 4 frames.
    motion: Weight of the squared error of the tissue's displacement.
    crop_share: Share of the windows that are decoded as if in mid-stream.
    edge: Additional weight of pixels near the cavity's edge, which decide the EF; others have weight 1.
    decoder_only: Train the decoder alone: codes stay as they are, so that a transformer trained on these ids goes on fitting.
    wrong_codes: Largest share of codes that are a step off, as codes that a transformer guesses are; in half of the windows.
    cavity: Weight of saying which cells are cavity, where the network can.
    speckle: Draw frames as they are, with their speckle, instead of the structure, which recordings lack.
    adversarial: Weight of the adversarial loss, besides its adaptive weight; 0 for no discriminator.
    looked_at: Random frames of each clip that the discriminator sees.
    gradient_penalty: Weight of the discriminator's gradient penalty on real frames.
    perceptual: Weight of the perceptual loss of those frames; 0 for none.
    perceptual_weights: File of VGG16 or LPIPS, or folder of a feature network trained before; null to train one in this run.
    features_steps: Steps in which that network learns from labelled frames of the phantom; the perceptual loss begins after them.
    discriminator: Sizes and learning rate of the discriminator.
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
    perceptual: float = 0.0
    perceptual_weights: str | None = None
    features_steps: int = 300
    discriminator: DiscriminatorOptions = field(
        default_factory=lambda: DiscriminatorOptions(widths=(32, 64, 96, 128, 128), attention_after=())
    )


class TokenizerTask(TokenizerTraining):
    """Tokenizer from frames with speckle to frames without it (or with it) and the tissue's displacement, through discrete codes.

    The displacement and the cavity's cells are learned where the source has them (the phantom; outlines give cells).
    The loss is the squared error of the structure, of its change over 4 frames (walls move, little else does), and of the
    displacement where there is tissue, plus the quantizer's own.
    """

    Data = ClipData
    Options = TokenizerOptions
    Network = VideoTokenizerConfig
    former_names = MappingProxyType(FORMER_NAMES)

    data: ClipData
    options: TokenizerOptions

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        start = self.starting_weights("tokenizer")
        self.tokenizer = load_network(VideoTokenizer, start) if start else VideoTokenizer(self.network_config(recipe))
        self.tokenizer = with_additions(self.tokenizer, {name: recipe.network.get(name, 0) for name in ADDITIONS})
        if self.options.decoder_only:
            self.tokenizer.freeze_encoder()
        if self.options.perceptual > 0:
            weights, steps, side = self.options.perceptual_weights, self.options.features_steps, self.tokenizer.config.image_size
            self.perceptual = PerceptualLoss(weights, steps, start, side, recipe.seed)
        if self.options.adversarial > 0:
            if not 1 <= self.options.looked_at <= self.data.frames:
                raise InputError("The recipe's options.looked_at must be between 1 and data.frames.")
            self.discriminator = PublishedDiscriminator(discriminator_config(self.options.discriminator, self.tokenizer.config))
        pictures = {"frames"} if self.options.speckle else {"frames", "structure", "displacement"}
        needs = Needs(frozenset(pictures), frozenset({"masks", "structure", "displacement"}))
        self.source = TrainingSource(self.data, needs, WindowShape(self.data.frames, FPS), recipe.seed)

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Windows: frames, those to be drawn, displacement and cavity, and in which rows (B,) the last two are known."""
        rows = [self._row(self.source.at(position)) for position in self.positions(step, rank, world)]
        batch = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
        if self.perceptual is not None and self.perceptual.lessons is not None and step < self.perceptual.first_step:
            batch |= self.perceptual.lessons.batch(self.positions(step, rank, world, LABELLED_FRAMES))
        return batch

    def _row(self, window: Window) -> dict[str, NDArray[Any]]:
        assert window.frames is not None
        displacement, cavity = window.maps.get("displacement"), covered_cells(window)
        frames = len(window.frames)
        return {
            "frames": window.frames,
            "target": window.frames if self.options.speckle else np.asarray(window.maps["structure"]),
            "displacement": np.zeros((frames, 2, 64, 64), np.int8) if displacement is None else np.asarray(displacement),
            "moves": np.array(displacement is not None),
            "cavity": np.zeros((frames, 32, 32), np.uint8) if cavity is None else cavity,
            "outlined": np.array(cavity is not None),
        }

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Loss and its parts; mse is the squared error of the structure."""
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
        features = self.tokenizer.decode_features(values[:, part])
        drawn = self.tokenizer.picture(features, begin == 0).float()
        decoded_frames = slice(0, self.data.frames) if crop is None else self.tokenizer.frames(*crop)
        target = batch["target"][:, decoded_frames].float() / 255.0
        picture, movement = drawn.split([1, drawn.shape[2] - 1], dim=2)
        error = picture.squeeze(2) - target
        mse = error.square().mean()
        if self.discriminator is not None:
            error = F.interpolate(F.avg_pool2d(error, CELL), scale_factor=CELL, mode="nearest")
        weight = 1.0 + self.options.edge * _near_edge(batch["cavity"][:, decoded_frames], error.shape[-1])
        weight = weight / weight.mean()
        picture_loss = (weight * error.square()).mean()
        later, earlier = error[:, CHANGE_FRAMES:], error[:, :-CHANGE_FRAMES]
        change = (weight[:, CHANGE_FRAMES:] * (later - earlier).square()).mean()
        moved = batch["displacement"][:, decoded_frames].float() / (4.0 * MOTION_SCALE)
        motion = torch.zeros((), device=video.device)
        if movement.shape[2]:
            coarse = F.avg_pool2d(movement.flatten(0, 1), 2).view_as(moved)
            tissue = ((moved != 0).any(2, keepdim=True).float() + STILL_WEIGHT) * _rows(batch["moves"], moved)
            motion = ((coarse - moved).square() * tissue).mean() / tissue.mean().clamp_min(_LITTLE)
        loss = picture_loss + self.options.change * change + self.options.motion * motion + quantized.loss
        losses = {}
        if self.tokenizer.cavity is not None:
            cells = _cells(batch["cavity"], self.tokenizer.config)[:, part]
            each = F.binary_cross_entropy_with_logits(self.tokenizer.cavity(features).float(), cells, reduction="none")
            known = _rows(batch["outlined"], each).expand_as(each)
            losses["cavity"] = (each * known).sum() / known.sum().clamp_min(1.0)
            loss = loss + self.options.cavity * losses["cavity"]
        if self.perceptual is not None:
            if "labelled" in batch:
                pictures = batch["labelled"][:, None].float() / 255.0
                losses["features_loss"] = self.perceptual.lesson(pictures, batch["labels"])
            if step >= self.perceptual.first_step:
                losses["perceptual"] = self.perceptual.distance(*_some_of(picture, target, self.options.looked_at))
                loss = loss + self.options.perceptual * losses["perceptual"]
        if self.discriminator is not None:
            adversarial = self._adversarial_losses(self.discriminator, picture, target, picture_loss)
            loss = loss + self.options.adversarial * adversarial["adaptive_weight"] * adversarial["adversarial"]
            losses |= adversarial
        used = quantized.ids.unique().numel() / self.tokenizer.quantizer.vocabulary
        return losses | {
            "loss": loss,
            "mse": mse,
            "change": change,
            "motion_px": motion.sqrt() * MOTION_SCALE,
            "codes_used": torch.tensor(used, device=loss.device),
        }

    def _adversarial_losses(
        self, discriminator: PublishedDiscriminator, drawn: Tensor, target: Tensor, balanced: Tensor
    ) -> dict[str, Tensor]:
        """Losses of the tokenizer and of the discriminator, of some of the drawn frames (B, T, 1, H, W) and the real ones.

        balanced: The loss that the adaptive weight makes the adversarial one as strong as.
        """
        fake, real = _some_of(drawn, target, self.options.looked_at)
        # Without low precision: the penalty takes a gradient of a gradient.
        with torch.autocast(self.device.type, enabled=False):
            found = discriminator_losses(discriminator, fake.detach(), real, self.options.gradient_penalty)
            adversarial = hinge_generator_loss(discriminator(fake))
            weight = adaptive_weight(balanced, adversarial, last_layer(self.tokenizer))
        return found | {"adversarial": adversarial, "adaptive_weight": weight}

    def _quantized(self, video: Tensor) -> tuple[Quantized, Tensor]:
        """Output of the quantizer for a video, and the values that the decoder gets: some of codes that are a step off."""
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
        """Two windows: frames, frames to be drawn, reconstruction."""
        rows = []
        for position in range(2):
            window = self._row(self.source.at(position))
            video = torch.from_numpy(window["frames"].astype(np.float32) / 255.0)[None].to(self.device)
            drawn = self.tokenizer(video).reconstruction[0, :, 0].float().clamp(0, 1).cpu().numpy()
            for row in (window["frames"], window["target"], (drawn * 255).astype(np.uint8)):
                rows.append(np.hstack([row[i] for i in range(0, self.data.frames, self.tokenizer.config.time_patch)]))
        return np.vstack(rows)

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the tokenizer in bfloat16."""
        save_network(networks["tokenizer"], folder / "tokenizer", torch.bfloat16)


def with_additions(tokenizer: VideoTokenizer, wanted: Mapping[str, int]) -> VideoTokenizer:
    """Add cells that say where the cavity is, or noise channels, to a trained decoder; what it has already stays as it is."""
    more: dict[str, Any] = {name: count for name, count in wanted.items() if count and not getattr(tokenizer.config, name)}
    if not more:
        return tokenizer
    larger = VideoTokenizer(replace(tokenizer.config, **more))
    weights = {**larger.state_dict(), **tokenizer.state_dict()}
    if "noise_channels" in more:
        new = larger.state_dict()[NOISE_WEIGHTS].clone()
        new[:, : -more["noise_channels"]] = weights[NOISE_WEIGHTS]
        weights[NOISE_WEIGHTS] = new
    larger.load_state_dict(weights)
    return larger


def _cells(cavity: Tensor, config: VideoTokenizerConfig) -> Tensor:
    """Cavity's share 0..1 of each cell of each token (B, latents, positions, cells), of windows (B, frames, 32, 32)."""
    places = np.arange(config.grid**2) if config.active_patches is None else np.array(config.active_patches)
    cells = [cells_of_tokens(window.cpu().numpy(), True, config.grid, places) for window in cavity]
    return torch.from_numpy(np.stack(cells)).to(cavity.device).float() / 255.0


def _some_of(drawn: Tensor, target: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Random frames (n, 1, H, W) of drawn (B, T, 1, H, W) and real video (B, T, H, W), the same of both."""
    looked_at = some_frames(drawn, count)
    row = torch.arange(len(drawn), device=drawn.device)[:, None]
    return drawn[row, looked_at].flatten(0, 1), target[row, looked_at].flatten(0, 1).unsqueeze(1)


def _rows(known: Tensor, values: Tensor) -> Tensor:
    """Weights 0 or 1 of rows (B,) of which something is known, in the shape of the values (B, ...) but for sizes of 1."""
    return known.float().view(-1, *[1] * (values.dim() - 1))


def _near_edge(cavity: Tensor, side: int) -> Tensor:
    """Mask (B, frames, side, side): 1 at or beside a cell of (B, frames, 32, 32) that the cavity covers in part, else 0."""
    partly = ((cavity > 0) & (cavity < 255)).float()
    beside = F.max_pool2d(partly, 3, stride=1, padding=1)
    return F.interpolate(beside, scale_factor=side // cavity.shape[-1], mode="nearest")
