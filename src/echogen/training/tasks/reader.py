"""Task `reader`: a segmenter learns to outline the chambers of varied hearts, in pictures of any kind, as a human reader does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from echogen.datasets.variety_store import VarietyStore
from echogen.networks.config import load_network, save_network
from echogen.networks.segmenter import Segmenter, SegmenterConfig, segmentation_loss
from echogen.training.picture_variation import speckle_bank, vary_maps, vary_pictures
from echogen.training.recipe import Recipe
from echogen.training.task import Task


@dataclass(frozen=True)
class ReaderData:
    """Hearts to learn from, and the mixture of a batch.

    maps: Folder of varied hearts, as `python -m echogen.datasets.variety_store` makes it.
    phantom: Share of a batch that are the phantom's own pictures.
    still: Share of the others that show one moment three times, as a photograph does.
    side: Side of the pictures in pixels; a first half of the training on smaller ones costs less.
    """

    maps: str
    phantom: float = 0.12
    still: float = 0.45
    side: int = 128


class ReaderTask(Task):
    """Segmenter from three neighbouring frames to the structure at each pixel of the middle one."""

    Data = ReaderData
    Network = SegmenterConfig

    data: ReaderData

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.store = VarietyStore(self.data.maps)
        self.bank = speckle_bank(recipe.seed)
        start = self.starting_weights("segmenter")
        self.segmenter = load_network(Segmenter, start) if start else Segmenter(self.network_config(recipe))

    def networks(self) -> dict[str, nn.Module]:
        """The segmenter."""
        return {"segmenter": self.segmenter}

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Random hearts, drawn anew, and some of the phantom's own pictures."""
        rng = self.random(step, rank)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        own = round(self.data.phantom * self.recipe.batch_size)
        maps, moments = self._maps(rng, self.recipe.batch_size - own)
        still = round(self.data.still * len(maps))
        pictures, labels = [], []
        for part, frames in ((slice(0, still), slice(1, 2)), (slice(still, None), slice(0, 3))):
            varied = vary_maps(maps[part, :, frames], moments[part, frames], self.bank, generator, self.data.side)
            pictures.append(varied.pictures)
            labels.append(varied.labels)
        if own:
            phantom = vary_pictures(*self._pictures(rng, own), generator, self.data.side)
            pictures.append(phantom.pictures)
            labels.append(phantom.labels)
        return {"pictures": torch.cat(pictures), "labels": torch.cat(labels)}

    def _maps(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor]:
        maps, moments = [], []
        for _ in range(count):
            shard = int(rng.integers(len(self.store.maps)))
            heart = int(rng.integers(len(self.store.maps[shard])))
            maps.append(self.store.maps[shard][heart])
            moments.append(self.store.moments[shard][heart])
        return torch.from_numpy(np.stack(maps)), torch.from_numpy(np.stack(moments))

    def _pictures(self, rng: np.random.Generator, count: int) -> tuple[Tensor, Tensor, Tensor]:
        pictures, labels = [], []
        for _ in range(count):
            shard = int(rng.integers(len(self.store.pictures)))
            clip = int(rng.integers(len(self.store.pictures[shard])))
            pictures.append(self.store.pictures[shard][clip])
            labels.append(self.store.labels[shard][clip])
        stacked = torch.from_numpy(np.stack(pictures))
        return stacked[:, 0], stacked[:, 1], torch.from_numpy(np.stack(labels))

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Loss, and the Dice overlap of the left ventricle."""
        logits = self.segmenter(batch["pictures"])
        found, true = logits.argmax(1) == 1, batch["labels"] == 1
        overlap = 2.0 * (found & true).sum() / (found.sum() + true.sum()).clamp_min(1)
        return {"loss": segmentation_loss(logits.float(), batch["labels"]), "lv_dice": overlap}

    def sample(self, step: int) -> NDArray[np.uint8]:
        """Frames, true and found structures of a batch."""
        batch = self.batch(2**30, 0, 1)
        found = self.segmenter(batch["pictures"].to(self.device)).argmax(1).byte().cpu().numpy() * 40
        frames = (batch["pictures"][:, 1] * 255).byte().numpy()
        return np.hstack([np.vstack(parts) for parts in zip(frames, batch["labels"].byte().numpy() * 40, found, strict=True)])

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the segmenter in bfloat16."""
        save_network(networks["segmenter"], folder / "segmenter", torch.bfloat16)
