"""Discriminator beside a tokenizer: its sizes, its losses, and the layer at which the adaptive weight is measured.

Source: ECHOPulse (ICLR 2025), section 3.1, Eqs. 5 and 6; Lim and Ye, Geometric GAN, 2017 (the hinge).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from echogen.errors import InputError
from echogen.networks.published_discriminator import (
    PublishedDiscriminator,
    PublishedDiscriminatorConfig,
    gradient_penalty,
    hinge_discriminator_loss,
)
from echogen.networks.video_tokenizer import VideoTokenizer, VideoTokenizerConfig


@dataclass(frozen=True)
class DiscriminatorOptions:
    """Sizes and learning rate of a discriminator.

    widths: Channels after each block; all but the last halve the sides.
    attention_after: Blocks (from 0) that are followed by self-attention.
    heads: Attention heads.
    head_dim: Width of a head.
    learning_rate_share: Learning rate of the discriminator over the recipe's.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512)
    attention_after: tuple[int, ...] = (3,)
    heads: int = 8
    head_dim: int = 64
    learning_rate_share: float = 1.0 / 3.0


def discriminator_config(options: DiscriminatorOptions, config: VideoTokenizerConfig) -> PublishedDiscriminatorConfig:
    """Config of the discriminator of a tokenizer's frames. Raises `InputError` where they cannot be halved often enough."""
    halvings = len(options.widths) - 1
    if halvings < 0 or config.image_size % 2**halvings:
        raise InputError(
            f"A discriminator of {len(options.widths)} widths halves the image {max(halvings, 0)} times, which"
            f" {config.image_size} pixels do not allow; give options.discriminator.widths fewer entries, at least one."
        )
    if any(not 0 <= place <= halvings for place in options.attention_after):
        raise InputError(f"The discriminator's attention_after must name blocks from 0 to {halvings}.")
    return PublishedDiscriminatorConfig(
        channels=config.channels_in,
        widths=options.widths,
        attention_after=options.attention_after,
        heads=options.heads,
        head_dim=options.head_dim,
        last_places=(config.image_size >> halvings) ** 2,
    )


def last_layer(tokenizer: VideoTokenizer) -> list[Tensor]:
    """Weights of the decoder's last layer: of its linear heads, or of the smooth head's last convolution."""
    if tokenizer.smooth is not None:
        return [layer.weight for layer in tokenizer.smooth if isinstance(layer, nn.Conv2d)][-1:]
    return [tokenizer.head_first.weight, tokenizer.head_group.weight]


def discriminator_losses(discriminator: PublishedDiscriminator, fake: Tensor, real: Tensor, penalty: float) -> dict[str, Tensor]:
    """Loss of a discriminator on frames (B, C, H, W), and its parts: the hinge, and the gradient penalty on real frames.

    penalty: Weight of the gradient penalty; 0 for none.
    """
    real = real.detach().clone().requires_grad_()
    on_real, on_fake = discriminator(real), discriminator(fake)
    hinge = hinge_discriminator_loss(on_fake, on_real)
    steep = gradient_penalty(real, on_real, penalty) if penalty else hinge.new_zeros(())
    return {"discriminator_loss": hinge + steep, "discriminator_hinge": hinge, "gradient_penalty": steep}
