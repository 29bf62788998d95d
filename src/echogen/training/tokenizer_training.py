"""Shared part of the tasks that train a tokenizer: the networks that learn beside it, and their optimizers."""

from __future__ import annotations

import torch
from torch import nn

from echogen.networks.published_discriminator import PublishedDiscriminator
from echogen.networks.video_tokenizer import VideoTokenizer
from echogen.training.perceptual import PerceptualLoss
from echogen.training.task import OptimizerGroup, Task


class TokenizerTraining(Task):
    """Training of a tokenizer, with a discriminator and a perceptual loss where the recipe asks for them.

    tokenizer: The tokenizer.
    discriminator: Its discriminator; None without an adversarial loss.
    perceptual: Its perceptual loss; None without one.
    """

    tokenizer: VideoTokenizer
    discriminator: PublishedDiscriminator | None = None
    perceptual: PerceptualLoss | None = None

    def networks(self) -> dict[str, nn.Module]:
        """The tokenizer, its discriminator if there is one, and the feature network where that is saved with them."""
        found: dict[str, nn.Module] = {"tokenizer": self.tokenizer}
        if self.discriminator is not None:
            found["discriminator"] = self.discriminator
        return found if self.perceptual is None else found | self.perceptual.networks()

    def optimized(self) -> tuple[OptimizerGroup, ...]:
        """An optimizer each for the tokenizer, its discriminator, and the feature network while it learns."""
        groups = [OptimizerGroup("tokenizer", ("tokenizer",))]
        if self.discriminator is not None:
            share = self.options.discriminator.learning_rate_share
            groups.append(OptimizerGroup("discriminator", ("discriminator",), "discriminator_loss", share))
        return (*groups, *(self.perceptual.optimized() if self.perceptual else ()))

    def to(self, device: torch.device) -> None:
        """Move to a device, with a feature network from a file."""
        super().to(device)
        if self.perceptual is not None:
            self.perceptual.to(device)
