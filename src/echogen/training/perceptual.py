"""Perceptual loss of a tokenizer: its feature network, and the training of that network in the first steps of the same run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from echogen.datasets.paired_folder import resize
from echogen.errors import InputError
from echogen.networks.perceptual import FeatureNetwork, PhantomFeatures, load_features, perceptual_distance
from echogen.training.source import Needs, SourceEntry, SourceSettings, TrainingSource, WindowShape
from echogen.training.source.settings import PHANTOM
from echogen.training.task import OptimizerGroup

logger = logging.getLogger("echogen.training")

#: Length in s of the simulated clips of which one frame each teaches the feature network: short, since they are rendered for it.
LABELLED_S = 0.1
#: Labelled frames from which the feature network learns in a step: few, since each holds thousands of labels.
LABELLED_FRAMES = 8


@dataclass(frozen=True)
class Lessons:
    """Training of a feature network in the first steps of a run.

    steps: Number of steps; the perceptual loss begins after them.
    source: Labelled frames.
    size: Side of the frames in pixels.
    """

    steps: int
    source: TrainingSource
    size: int

    def batch(self, places: range) -> dict[str, Tensor]:
        """Labelled frames (n, H, W) uint8 of these places in the source, and their ids of structures."""
        frames, labels = zip(*((window.frames, window.masks) for window in map(self.source.at, places)), strict=True)
        labelled = resize(np.concatenate(frames), self.size)
        return {"labelled": torch.from_numpy(labelled), "labels": torch.from_numpy(np.concatenate(labels))}


class PerceptualLoss:
    """Distance of drawn pictures to real ones in the features of a network (ECHOPulse, Eq. 3).

    features: The network: VGG16, LPIPS or one trained on labelled frames.
    lessons: Its training in the first steps of the run; None where it is loaded.
    """

    def __init__(
        self, weights: str | None, steps: int, start: Path | None, size: int, seed: int, labelled: str | None = None
    ) -> None:
        """Load the features of `weights` (file or folder), else those beside `start`, else prepare to train some.

        weights: File of VGG16 or LPIPS, or folder of a feature network; None without.
        steps: Steps in which a network is trained where none is loaded.
        start: Folder of the tokenizer that the run starts from, beside which an earlier feature network may lie.
        size: Side of the frames in pixels.
        seed: Seed of the labelled frames.
        labelled: Source of labelled frames; None renders the phantom.
        Raises `InputError` where there is neither a network nor a step to train one.
        """
        self.features: FeatureNetwork
        self.lessons: Lessons | None = None
        earlier = start.parent / "features" if start else None
        given = weights or (earlier if earlier and earlier.is_dir() else None)
        if given:
            self.features = load_features(given)
            logger.info("The perceptual loss compares features of %s from %s.", self.features.name, given)
            return
        if steps < 1:
            raise InputError(
                "The perceptual loss needs options.perceptual_weights (VGG16 or LPIPS), or some features_steps to train its"
                " features; or set options.perceptual=0."
            )
        known = SourceSettings(labelled or SourceEntry(PHANTOM, seconds=LABELLED_S))
        shape = WindowShape(1, at_outlined=True)
        source = TrainingSource(known, Needs(frozenset({"frames", "masks"})), shape, seed)
        self.features, self.lessons = PhantomFeatures(), Lessons(steps, source, size)
        logger.info("The perceptual loss compares features of a network trained in the first steps of this run.")

    @property
    def first_step(self) -> int:
        """Step from which the loss counts."""
        return 0 if self.lessons is None else self.lessons.steps

    def networks(self) -> dict[str, nn.Module]:
        """The feature network, where it is not one of a file that stays there."""
        return {"features": self.features} if isinstance(self.features, PhantomFeatures) else {}

    def optimized(self) -> tuple[OptimizerGroup, ...]:
        """An optimizer of the feature network, where it learns."""
        return () if self.lessons is None else (OptimizerGroup("features", ("features",), "features_loss"),)

    def to(self, device: torch.device) -> None:
        """Move the feature network to a device."""
        self.features.to(device)

    def distance(self, drawn: Tensor, real: Tensor) -> Tensor:
        """Distance of pictures (B, C, H, W) in 0..1, a scalar."""
        return perceptual_distance(self.features, drawn, real)

    def lesson(self, pictures: Tensor, labels: Tensor) -> Tensor:
        """Loss of the feature network on labelled pictures (B, C, H, W) in 0..1."""
        assert isinstance(self.features, PhantomFeatures)
        return self.features.loss(pictures, labels)
