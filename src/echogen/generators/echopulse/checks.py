"""Checks that networks belong together, and that they fit the settings of their generator."""

from __future__ import annotations

from echogen.errors import InputError
from echogen.generators.echopulse.config import EchoPulseConfig
from echogen.networks.masked_transformer import MaskedTransformer, MaskedTransformerConfig
from echogen.networks.st_mem import StMem
from echogen.networks.text import TextEncoder
from echogen.networks.token_critic import Critic, check_critic
from echogen.networks.video_tokenizer import VideoTokenizerConfig

#: Encoder of the condition of the paper's system: of the ECG or of a sentence.
Encoder = StMem | TextEncoder


def check_networks(
    config: EchoPulseConfig, tokenizer: VideoTokenizerConfig, transformer: MaskedTransformer, critic: Critic | None
) -> None:
    """Raise `InputError` where the networks of an `EchoPulse` do not fit one another or its config."""
    if tokenizer.quantizer.vocabulary != transformer.config.vocabulary:
        raise InputError(
            f"The tokenizer has {tokenizer.quantizer.vocabulary} codes but the transformer expects "
            f"{transformer.config.vocabulary}; they do not belong together."
        )
    needed = tokenizer.decoder_context
    if needed is not None and config.decode_context < needed:
        raise InputError(
            f"The generator's decode_context is {config.decode_context} latents, but what its decoder draws depends on {needed} "
            "before them; a stream would differ from the whole. Set decode_context to that."
        )
    check_order(config.order, transformer, critic)
    spec, encoder = config.ecg_window, transformer.config.ecg
    sizes: list[tuple[str, float, float]] = [("frames a latent", spec.frames_per_latent, tokenizer.time_patch)]
    if encoder is not None:
        sizes.append(("ECG samples a token", spec.patch_samples, encoder.patch))
        sizes.append(("ECG samples a second", spec.rate_hz, encoder.rate_hz))
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


def check_paper_networks(tokenizer: VideoTokenizerConfig, transformer: MaskedTransformerConfig, width: int, frames: int) -> int:
    """Return the latent frames of a window of so many frames; width: of the tokens that the condition's encoder gives.

    Raises `InputError` where tokenizer, transformer, encoder and window of the paper's system do not belong together.
    """
    if tokenizer.channels_out != tokenizer.channels_in:
        raise InputError(
            f"The tokenizer sees {tokenizer.channels_in} channels but draws {tokenizer.channels_out}; this system needs one that "
            "gives its own frames back, as the task echopulse-tokenizer trains it."
        )
    if frames < 1 or (frames - 1) % tokenizer.time_patch:
        raise InputError(f"A window must have 1 frame plus a multiple of the time patch {tokenizer.time_patch}, not {frames}.")
    latents = 1 + (frames - 1) // tokenizer.time_patch
    check_tokens(tokenizer, transformer, latents)
    if transformer.ecg is not None or not transformer.cross_attention_every:
        raise InputError("The transformer takes no condition tokens from an encoder; it belongs to another system.")
    if transformer.context_dim != width:
        raise InputError(
            f"The encoder gives tokens of width {width} but the transformer expects {transformer.context_dim}; "
            "they do not belong together."
        )
    return latents


def width_of(encoder: Encoder) -> int:
    """Return the width of an encoder's tokens."""
    return encoder.dim if isinstance(encoder, TextEncoder) else encoder.config.width


def possible_conditions(transformer: MaskedTransformerConfig, by_text: bool) -> frozenset[str]:
    """Return the conditions that networks of the paper's system can learn; by_text: their condition is a sentence, not an ECG."""
    labels = {"ef_percent", "view", "sex"} if transformer.adaptive_norm else set()
    return frozenset({"reference"} | labels | ({"text", "ef_percent"} if by_text else {"ecg"}))
