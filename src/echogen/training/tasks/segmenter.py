"""Task `segmenter`: a network learns to outline the chambers in simulated frames, with any amount of speckle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from echogen.datasets.clip_store import LABEL_EVERY, ClipStore
from echogen.networks.config import load_network, save_network
from echogen.networks.segmenter import Segmenter, SegmenterConfig, segmentation_loss
from echogen.training.recipe import Recipe
from echogen.training.task import Task
from echogen.training.tasks.tokenizer import ClipData


class SegmenterTask(Task):
    """Segmenter from three neighbouring frames to the structure at each pixel of the middle one.

    Frames are varied in speckle (none to more than drawn), gain, contrast, sharpness and position.
    """

    Data = ClipData
    Network = SegmenterConfig

    data: ClipData

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.store = ClipStore(self.data.clips)
        start = self.starting_weights("segmenter")
        self.segmenter = load_network(Segmenter, start) if start else Segmenter(self.network_config(recipe))

    def networks(self) -> dict[str, nn.Module]:
        """The segmenter."""
        return {"segmenter": self.segmenter}

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Varied frames (B, 3, H, W) in 0..1 of random clips, and the labels (B, H, W) of the middle ones."""
        rng = self.random(step, rank)
        pictures, labels = [], []
        for _ in range(self.recipe.batch_size):
            clip = self.store[int(rng.integers(len(self.store)))]
            at = int(rng.integers(1, clip.labels.shape[0])) * LABEL_EVERY
            at = min(at, clip.frames.shape[0] - 2) // LABEL_EVERY * LABEL_EVERY
            window = slice(at - 1, at + 2)
            plain = clip.structure[window].astype(np.float32) / 255.0
            speckle = float(rng.choice([0.0, rng.uniform(0, 1), 1.0, 1.3], p=[0.15, 0.35, 0.35, 0.15]))
            picture = plain + speckle * (clip.frames[window].astype(np.float32) / 255.0 - plain)
            picture = np.clip(picture, 0.0, 1.0) ** rng.uniform(0.75, 1.35) * rng.uniform(0.8, 1.2)
            label = clip.labels[at // LABEL_EVERY]
            if rng.random() < 0.5:
                shift = tuple(int(v) for v in rng.integers(-6, 7, 2))
                picture = np.roll(picture, shift, (1, 2))
                label = np.roll(label, shift, (0, 1))
            pictures.append(np.clip(picture, 0.0, 1.0))
            labels.append(label)
        stacked = torch.from_numpy(np.stack(pictures).astype(np.float32))
        if rng.random() < 0.3:
            stacked = F.avg_pool2d(F.pad(stacked, (1, 1, 1, 1), mode="replicate"), 3, 1)
        return {"pictures": stacked, "labels": torch.from_numpy(np.stack(labels)).long()}

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Loss, and the Dice overlap of the left ventricle."""
        logits = self.segmenter(batch["pictures"])
        found, true = logits.argmax(1) == 1, batch["labels"] == 1
        overlap = 2.0 * (found & true).sum() / (found.sum() + true.sum()).clamp_min(1)
        return {"loss": segmentation_loss(logits.float(), batch["labels"]), "lv_dice": overlap}

    def sample(self, step: int) -> NDArray[np.uint8]:
        """Frames of up to eight clips, each above its true and its found structures."""
        columns = []
        for index in range(min(8, len(self.store))):
            clip = self.store[index]
            picture = torch.from_numpy(clip.frames[LABEL_EVERY - 1 : LABEL_EVERY + 2].astype(np.float32) / 255.0)[None]
            found = self.segmenter(picture.to(self.device)).argmax(1)[0].byte().cpu().numpy()
            columns.append(np.vstack([clip.frames[LABEL_EVERY], clip.labels[1] * 40, found * 40]))
        return np.hstack(columns)

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the segmenter in bfloat16."""
        save_network(networks["segmenter"], folder / "segmenter", torch.bfloat16)
