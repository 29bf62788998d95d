"""Task `ef-regressor`: a network learns the ejection fraction that a window of a clip shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from echogen.arrays import Floats
from echogen.networks.config import config_to_dict, load_network, save_network
from echogen.networks.ef_regressor import EfRegressor, EfRegressorConfig, at_size
from echogen.training.recipe import Recipe
from echogen.training.source import FORMER_NAMES, Needs, SourceSettings, TrainingSource, WindowShape
from echogen.training.source.targets import cavity_outline
from echogen.training.source.window import shown_ef_percent
from echogen.training.task import Task
from echogen.training.tasks.echo_features import pictures_of


@dataclass(frozen=True)
class RegressorOptions:
    """Variation of the clips, and a second answer that helps to learn the first.

    pad: Pixels of black around the frames, out of which frames of the same size are cut (12 as for EchoNet-Dynamic).
    short_share: Share of the windows that end early, after half their length at least, and are black from there on.
    outline_weight: Weight of the loss of the cavity's length and width, beside that of the EF.
    outline_steps: First steps, in which the cavity's length and width are all that is learned.
    outline_frames: Frames of the windows in those steps; there are as many more windows as they are shorter.
    normalisation_batches: Batches over which the statistics of batch normalisation are taken for the saved weights.
    """

    pad: int = 12
    short_share: float = 0.15
    outline_weight: float = 100.0
    outline_steps: int = 600
    outline_frames: int = 16
    normalisation_batches: int = 50


#: Number of windows in which outlines are looked for before training begins.
_LOOKED_AT = 8
#: Mean and spread of the cavity's length and width in pixels of the canonical picture.
_USUAL_PX, _SPREAD_PX = np.array([50.0, 20.0]), np.array([8.0, 5.0])
#: Moments at which the cavity's length and width are asked, for each step in time of the network's last map.
MOMENTS = 4


def varied(speckled: NDArray[np.uint8], plain: NDArray[np.uint8], size: int, pad: int, rng: np.random.Generator) -> Tensor:
    """Vary a clip: frames (frames, size, size) in 0..1 with random speckle, gamma, gain and shift, alike in all frames."""
    base = torch.from_numpy(plain.astype(np.float32)) / 255.0
    speckle = float(rng.choice([0.0, rng.uniform(0, 1), 1.0, 1.3], p=[0.1, 0.25, 0.5, 0.15]))
    mixed = torch.lerp(base, torch.from_numpy(speckled.astype(np.float32)) / 255.0, speckle).clamp_(0.0, 1.0)
    small = at_size(mixed[None], size)[0]
    picture = small.pow(rng.uniform(0.75, 1.35)).mul_(rng.uniform(0.8, 1.2)).clamp_(0.0, 1.0)
    top, left = (int(v) for v in rng.integers(0, 2 * pad + 1, 2))
    return functional.pad(picture, (pad, pad, pad, pad))[:, top : top + size, left : left + size]


def scaled_outline(outline: Floats) -> NDArray[np.float32]:
    """Length and width (n, 2) of the cavity in pixels, scaled to about -1..1."""
    return ((outline - _USUAL_PX) / _SPREAD_PX).astype(np.float32)


@torch.no_grad()
def recompute_batch_norm(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the means and variances of a network's batch normalisations to those over many batches, in full precision.

    Those kept in training belong to the weights before averaging and to the last few small batches, and shift the answers.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    usual = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # the mean of all batches
    network.train()
    for videos in batches:
        network(videos.to(next(network.parameters()).device))
    network.eval()
    for layer, momentum in zip(layers, usual, strict=True):
        layer.momentum = momentum


class EfRegressorTask(Task):
    """Regressor from a window of a clip to its EF in %; the loss is the mean squared error (EchoNet-Dynamic, Nature 2020).

    In training, a light head also says how long and wide the cavity is all along the window, where the source has outlines:
    dozens of truths a window instead of one. Training begins with that alone, on short windows, since many hearts teach more
    than many frames of one. The head is not saved.
    """

    Data = SourceSettings
    Options = RegressorOptions
    Network = EfRegressorConfig
    former_names = MappingProxyType(FORMER_NAMES | {"options.settling_batches": "options.normalisation_batches"})

    data: SourceSettings
    options: RegressorOptions

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        start = self.starting_weights("ef-regressor")
        self.network = load_network(EfRegressor, start) if start else EfRegressor(self.network_config(recipe))
        self.config = self.network.config
        self.outline = nn.Linear(self.config.widths[-1], 2 * MOMENTS)
        needs = Needs(frozenset({"frames", "ef"}), frozenset({"structure", "masks"}))
        self.source = TrainingSource(self.data, needs, WindowShape(self.config.frames, self.config.fps), recipe.seed)
        outlined = any(np.isfinite(cavity_outline(self.source.at(at))).any() for at in range(_LOOKED_AT))
        self.outline_steps = self.options.outline_steps if outlined else 0

    @classmethod
    def network_defaults(cls, recipe: Recipe) -> Mapping[str, Any]:
        """The small regressor."""
        return config_to_dict(EfRegressorConfig.small())

    def networks(self) -> dict[str, nn.Module]:
        """The regressor, and the head that is used in training only."""
        return {"ef-regressor": self.network, "outline": self.outline}

    def _example(self, frames: int, position: int) -> tuple[Tensor, float, Tensor]:
        rng, window = self.row_random(position), self.source.at(position)
        start = int(rng.integers(self.config.frames - frames + 1))
        short = frames == self.config.frames and rng.random() < self.options.short_share
        length = int(rng.integers(frames // 2, frames)) if short else frames
        shown = window.part(start, start + length)
        video = varied(*pictures_of(shown), self.config.size, self.options.pad, rng)
        truth = shown_ef_percent(shown)
        assert truth is not None
        outline = torch.full((frames, 2), torch.nan)
        outline[:length] = torch.from_numpy(scaled_outline(cavity_outline(shown)))
        return functional.pad(video, (0, 0, 0, 0, 0, frames - length)), truth, outline

    def _only_outline(self, step: int) -> bool:
        return step < self.outline_steps

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Varied windows (B, frames, H, W), their EF in %, and the cavity's length and width in every frame; nan if unknown."""
        frames = self.options.outline_frames if self._only_outline(step) else self.config.frames
        places = self.positions(step, rank, world, self.recipe.batch_size * self.config.frames // frames)
        videos, truths, outlines = zip(*(self._example(frames, position) for position in places), strict=True)
        return {
            "videos": torch.stack(videos),
            "ef_percent": torch.tensor(truths, dtype=torch.float32),
            "outlines": torch.stack(outlines),
        }

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Loss; its parts, in squared EF points and squared scaled lengths; and the mean absolute error in EF points."""
        last_map = self.network.last_map(batch["videos"])
        answers = self.network.answer(last_map)
        ef_loss = functional.mse_loss(answers, batch["ef_percent"])
        drawn = self.outline(last_map.mean((3, 4)).transpose(1, 2)).float().view(len(answers), -1, 2)
        moments = ((torch.arange(drawn.shape[1]) + 0.5) * batch["outlines"].shape[1] / drawn.shape[1]).long()
        true = batch["outlines"][:, moments]
        known = torch.isfinite(true)
        outline_loss = functional.mse_loss(drawn[known], true[known], reduction="sum") / known.sum().clamp_min(1)
        return {
            "loss": self.options.outline_weight * outline_loss + (0.0 if self._only_outline(step) else 1.0) * ef_loss,
            "ef_loss": ef_loss,
            "outline_loss": outline_loss,
            "mae": functional.l1_loss(answers, batch["ef_percent"]),
        }

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the network in steps of 8 bits, its batch normalisations over whole windows."""
        first = max(self.recipe.steps, self.outline_steps)
        videos = (self.batch(first + i, 0, 1)["videos"] for i in range(self.options.normalisation_batches))
        recompute_batch_norm(networks["ef-regressor"], videos)
        save_network(networks["ef-regressor"], folder / "ef-regressor", torch.int8)
