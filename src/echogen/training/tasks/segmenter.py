"""Task `segmenter`: a network learns to outline the chambers in echo with outlines, with any amount of speckle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from echogen.networks.config import load_network, save_network
from echogen.networks.segmenter import Segmenter, SegmenterConfig, segmentation_loss
from echogen.training.recipe import Recipe
from echogen.training.source import FORMER_NAMES, Needs, SourceSettings, TrainingSource, Window, WindowShape
from echogen.training.source.targets import loss_labels
from echogen.training.task import Task

#: Frames that the network sees at once; it outlines the middle one.
FRAMES = 3
#: Most pixels of 128 by which a picture is moved along each side.
LARGEST_SHIFT = 6


class SegmenterTask(Task):
    """Segmenter from three neighbouring frames to the structure at each pixel of the middle one.

    Frames are varied in gain, contrast, sharpness and position, and in speckle (none to more than drawn) where the source knows
    its pictures without it. Structures that a data set does not outline are not learned from it.
    """

    Data = SourceSettings
    Network = SegmenterConfig
    former_names = MappingProxyType(FORMER_NAMES)

    data: SourceSettings

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        needs = Needs(frozenset({"frames", "masks"}), frozenset({"structure"}))
        self.source = TrainingSource(self.data, needs, WindowShape(FRAMES, at_outlined=True), recipe.seed)
        start = self.starting_weights("segmenter")
        self.segmenter = load_network(Segmenter, start) if start else Segmenter(self.network_config(recipe))

    def networks(self) -> dict[str, nn.Module]:
        """The segmenter."""
        return {"segmenter": self.segmenter}

    def batch(self, step: int, rank: int, world: int) -> dict[str, Tensor]:
        """Varied frames (B, 3, H, W) in 0..1, labels (B, H, W) of the middle ones, and the structures told apart (B, 6)."""
        rows = [varied(self.source.at(at), self.row_random(at)) for at in self.positions(step, rank, world)]
        pictures, labels, told = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
        return {"pictures": pictures, "labels": labels.long(), "told": told}

    def losses(self, batch: Any, step: int) -> dict[str, Tensor]:
        """Loss, and the Dice overlap of the left ventricle."""
        logits = self.segmenter(batch["pictures"])
        found, true = logits.argmax(1) == 1, batch["labels"] == 1
        overlap = 2.0 * (found & true).sum() / (found.sum() + true.sum()).clamp_min(1)
        return {"loss": segmentation_loss(logits.float(), batch["labels"], told=batch["told"]), "lv_dice": overlap}

    def sample(self, step: int) -> NDArray[np.uint8]:
        """Eight frames, each above its true and its found structures."""
        columns = []
        for position in range(8):
            window = self.source.at(position)
            assert window.frames is not None
            picture = torch.from_numpy(window.frames.astype(np.float32) / 255.0)[None]
            found = self.segmenter(picture.to(self.device)).argmax(1)[0].byte().cpu().numpy()
            columns.append(np.vstack([window.frames[1], loss_labels(window, 1)[0] * 40, found * 40]))
        return np.hstack(columns)

    def save(self, folder: Path, networks: Mapping[str, nn.Module]) -> None:
        """Write the segmenter in bfloat16."""
        save_network(networks["segmenter"], folder / "segmenter", torch.bfloat16)


def varied(window: Window, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]:
    """Frames (3, H, W) in 0..1 of a window, changed at random, labels (H, W) of the middle one, structures told apart (6,)."""
    assert window.frames is not None
    speckled = window.frames.astype(np.float32) / 255.0
    plain = window.maps["structure"].astype(np.float32) / 255.0 if "structure" in window.maps else speckled
    speckle = float(rng.choice([0.0, rng.uniform(0, 1), 1.0, 1.3], p=[0.15, 0.35, 0.35, 0.15]))
    picture = (plain + speckle * (speckled - plain)).astype(np.float32)
    picture = np.clip(picture, 0.0, 1.0) ** np.float32(rng.uniform(0.75, 1.35)) * np.float32(rng.uniform(0.8, 1.2))
    labels, told = loss_labels(window, FRAMES // 2)
    if rng.random() < 0.5:
        shift = tuple(int(v) for v in rng.integers(-LARGEST_SHIFT, LARGEST_SHIFT + 1, 2))
        picture, labels = np.roll(picture, shift, (1, 2)), np.roll(labels, shift, (0, 1))
    picture = np.clip(picture, 0.0, 1.0)
    if rng.random() < 0.3:
        padded = F.pad(torch.from_numpy(picture)[None], (1, 1, 1, 1), mode="replicate")
        picture = F.avg_pool2d(padded, 3, 1)[0].numpy()
    return picture, labels, told
