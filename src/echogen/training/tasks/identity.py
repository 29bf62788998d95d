"""Task `identity`: the re-identification network learns which parts of clips show one heart, in whatever picture quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echogen.datasets.clip_store import FPS, Clip, ClipStore
from echogen.errors import InputError
from echogen.networks.config import load_network, save_network
from echogen.networks.identity import Identity, IdentityConfig
from echogen.training.recipe import Recipe
from echogen.training.task import Task
from echogen.training.tasks.echo_features import Degradation, degrade


@dataclass(frozen=True)
class IdentityData:
    """Clips to learn from.

    clips: Folder of a clip store.
    """

    clips: str


@dataclass(frozen=True)
class IdentityOptions:
    """Options of the loss.

    temperature: Number by which similarities are divided in the loss (NT-Xent).
    """

    temperature: float = 0.08


def draw_look(rng: np.random.Generator) -> Degradation:
    """Random changes of a picture that do not make it another heart: speckle, sharpness, noise, contrast, gain."""
    return Degradation(
        speckle=float(rng.uniform(0.0, 1.2)),
        blur=float(rng.uniform(0.4, 1.8)) if rng.random() < 0.5 else 0.0,
        noise=float(rng.uniform(0.01, 0.06)) if rng.random() < 0.3 else 0.0,
        gamma=float(rng.uniform(0.75, 1.35)),
        gain=float(rng.uniform(0.75, 1.3)),
        order=0,
    )


def pair_loss(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each vector's partner among all (NT-Xent; Chen et al., SimCLR, ICML 2020, Eq. 1).

    one, other: Unit vectors (B, dims); row i of one belongs to row i of the other.
    """
    both = torch.cat([one, other])
    logits = both @ both.T / temperature
    logits = logits.masked_fill(torch.eye(len(both), dtype=torch.bool, device=both.device), -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(both), device=both.device).roll(len(one)))  # Eq. 1


class IdentityTask(Task):
    """Embedding of parts of clips, two of each clip with different looks; partners are to be found among all of the batch."""

    Data = IdentityData
    Options = IdentityOptions
    Network = IdentityConfig

    data: IdentityData
    options: IdentityOptions

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.store = ClipStore(self.data.clips)
        start = self.starting_weights("identity")
        self.network = load_network(Identity, start) if start else Identity(self.network_config(recipe))
        self.config = self.network.config
        self.stride = round(FPS / self.config.fps)
        if abs(self.stride * self.config.fps - FPS) > 1e-6:
            raise InputError(f"The clips have {FPS:g} frames per second; set network.fps to one that divides that.")
        found, needed = self.store[0].frames.shape[0], (self.config.steps - 1) * self.stride + 1
        if found < needed:
            raise InputError(f"The clips have {found} frames, but a part spans {needed}; set fewer steps.")
        if not 1 < recipe.batch_size <= len(self.store):
            raise InputError(
                f"The batch size must lie between 2 and the number of clips ({len(self.store)}): others are compared."
            )

    def networks(self) -> dict[str, nn.Module]:
        """The network."""
        return {"identity": self.network}

    def _part(self, clip: Clip, rng: np.random.Generator) -> Tensor:
        span = (self.config.steps - 1) * self.stride + 1
        start = int(rng.integers(clip.frames.shape[0] - span + 1))
        at = slice(start, start + span, self.stride)
        return degrade(clip.frames[at], clip.structure[at], draw_look(rng), rng)

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Two random parts (B, steps, H, W) of each of some clips, all different."""
        rng = self.random(step, rank)
        chosen = rng.choice(len(self.store), self.recipe.batch_size, replace=False)
        pairs = [(self._part(self.store[int(index)], rng), self._part(self.store[int(index)], rng)) for index in chosen]
        one, other = zip(*pairs, strict=True)
        return {"one": torch.stack(one), "other": torch.stack(other)}

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Loss, share of vectors whose partner is nearest, and mean similarity of partners and of others."""
        one, other = self.network(torch.cat([batch["one"], batch["other"]])).chunk(2)
        with torch.no_grad():
            likeness = one @ other.T
            count = len(one)
            right = (likeness.argmax(1) == torch.arange(count, device=one.device)).float().mean()
            own = likeness.diagonal().mean()
            others = (likeness.sum() - likeness.diagonal().sum()) / (count * (count - 1))
        loss = pair_loss(one, other, self.options.temperature)
        return {"loss": loss, "right": right, "own_similarity": own, "other_similarity": others}

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the network in 8-bit steps."""
        save_network(networks["identity"], folder / "identity", torch.int8)
