"""Task `identity`: the re-identification network learns which parts of clips show one patient, in whatever picture quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echogen.datasets.patients import hash_of
from echogen.errors import InputError
from echogen.networks.config import load_network, save_network
from echogen.networks.identity import Identity, IdentityConfig
from echogen.training.recipe import Recipe
from echogen.training.source import FORMER_NAMES, Needs, SourceSettings, TrainingSource, WindowShape
from echogen.training.task import Task
from echogen.training.tasks.echo_features import Degradation, degrade, pictures_of

#: Number of windows among which two patients must be found before training begins.
_LOOKED_AT = 16


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


def pair_loss(one: Tensor, other: Tensor, temperature: float, patients: Tensor | None = None) -> Tensor:
    """Cross-entropy of finding each vector's partner among all (NT-Xent; Chen et al., SimCLR, ICML 2020, Eq. 1).

    one, other: Unit vectors (B, dims); row i of one belongs to row i of the other.
    patients: Numbers (B,) of the patients; others of the same patient are no wrong answers, so they are left out.
    """
    both = torch.cat([one, other])
    logits = both @ both.T / temperature
    partner = torch.arange(len(both), device=both.device).roll(len(one))
    if patients is None:
        left_out = torch.eye(len(both), dtype=torch.bool, device=both.device)
    else:
        left_out = patients.repeat(2)[:, None] == patients.repeat(2)[None]
        left_out[torch.arange(len(both), device=both.device), partner] = False
    return F.cross_entropy(logits.masked_fill(left_out, -torch.inf), partner)  # Eq. 1


class IdentityTask(Task):
    """Embedding of parts of clips, two of each clip with different looks; partners are to be found among all of the batch."""

    Data = SourceSettings
    Options = IdentityOptions
    Network = IdentityConfig
    former_names = MappingProxyType(FORMER_NAMES)

    data: SourceSettings
    options: IdentityOptions

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        start = self.starting_weights("identity")
        self.network = load_network(Identity, start) if start else Identity(self.network_config(recipe))
        self.config = self.network.config
        shape = WindowShape(self.config.steps, self.config.fps)
        needs = Needs(frozenset({"frames"}), frozenset({"structure"}))
        self.source = TrainingSource(self.data, needs, shape, recipe.seed)
        if recipe.batch_size < 2 or len({self.source.at(at).patient for at in range(_LOOKED_AT)}) < 2:
            raise InputError("Patients are compared: give a source of several patients, and a batch_size of 2 or more.")

    def networks(self) -> dict[str, nn.Module]:
        """The network."""
        return {"identity": self.network}

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Two random parts (B, steps, H, W) of each of some clips, and a number (B,) of each patient."""
        pairs, patients = [], []
        for position in self.positions(step, rank, world):
            rng, windows = self.row_random(position), self.source.several(position, 2)
            pairs.append([degrade(*pictures_of(window), draw_look(rng), rng) for window in windows])
            patients.append(hash_of(windows[0].patient) >> 1)
        one, other = zip(*pairs, strict=True)
        return {"one": torch.stack(one), "other": torch.stack(other), "patients": torch.tensor(patients)}

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Loss, share of vectors whose partner is nearest, and mean similarity of partners and of others."""
        one, other = self.network(torch.cat([batch["one"], batch["other"]])).chunk(2)
        patients = batch["patients"]
        with torch.no_grad():
            likeness, same = one @ other.T, patients[:, None] == patients[None]
            right = same.gather(1, likeness.argmax(1, keepdim=True)).float().mean()
            own = likeness.diagonal().mean()
            others = (likeness * ~same).sum() / (~same).sum().clamp_min(1)
        loss = pair_loss(one, other, self.options.temperature, patients)
        return {"loss": loss, "right": right, "own_similarity": own, "other_similarity": others}

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the network in 8-bit steps."""
        save_network(networks["identity"], folder / "identity", torch.int8)
