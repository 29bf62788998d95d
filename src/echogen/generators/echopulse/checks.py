"""Checks that networks belong together, and that they fit the settings of their generator."""

from __future__ import annotations

from echogen.errors import InputError
from echogen.generators.echopulse.config import EchoPulseConfig
from echogen.networks.masked_transformer import MaskedTransformer, MaskedTransformerConfig
from echogen.networks.token_critic import Critic, check_critic
from echogen.networks.video_tokenizer import VideoTokenizerConfig


def check_networks(
    config: EchoPulseConfig, tokenizer: VideoTokenizerConfig, transformer: MaskedTransformer, critic: Critic | None
) -> None:
    """Raise `InputError` where the networks of an `EchoPulse` do not fit one another or its config."""
    if tokenizer.quantizer.vocabulary != transformer.config.vocabulary:
        raise InputError(
            f"The tokenizer has {tokenizer.quantizer.vocabulary} codes but the transformer expects "
            f"{transformer.config.vocabulary}; they do not belong together."
        )
    check_order(config.order, transformer, critic)
    spec, encoder = config.ecg_window, transformer.config.ecg
    sizes = [("frames a latent", spec.frames_per_latent, tokenizer.time_patch)]
    if encoder is not None:
        sizes += [("ECG samples a token", spec.patch_samples, encoder.patch), ("ECG samples a second", spec.rate_hz, encoder.rate_hz)]
    for what, expected, own in sizes:
        if expected != own:
            raise InputError(f"The generator's ecg_window has {expected:g} {what}, but its networks have {own:g}.")


def check_order(order: str, transformer: MaskedTransformer, critic: Critic | None) -> None:
    """Raise `InputError` for the order "critic" without a critic, and for a critic of other tokens than the transformer's."""
    if order == "critic" and critic is None:
        raise InputError("There is no critic to order the tokens by; train one, or set the order to confidence or halton.")
    if critic is not None:
        check_critic(critic, transformer)


def check_tokens(tokenizer: VideoTokenizerConfig, transformer: MaskedTransformerConfig, latents: int) -> None:
    """Raise `InputError` when the transformer does not take windows of `latents` of this tokenizer's latent frames."""
    codes = tokenizer.quantizer
    for what, own, needed in (
        ("codes", transformer.vocabulary, codes.vocabulary),
        ("codes a position", transformer.groups, codes.groups),
        ("tokens a latent frame", transformer.spatial_positions, tokenizer.positions),
    ):
        if own != needed:
            raise InputError(
                f"The tokenizer makes {needed} {what} but the transformer expects {own}; they do not belong together."
            )
    if transformer.max_latents < latents:
        raise InputError(
            f"The transformer takes at most {transformer.max_latents} latent frames, but a window has {latents}; "
            "they do not belong together."
        )
