"""ECHOPulse's released weights: the networks in a file, their sizes, and their names in echogen."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from echogen.checkpoints.reading import load_into
from echogen.errors import InputError
from echogen.networks.published_discriminator import PublishedDiscriminator, PublishedDiscriminatorConfig
from echogen.networks.published_tokenizer import PublishedTokenizer, PublishedTokenizerConfig
from echogen.networks.published_transformer import (
    PublishedCritic,
    PublishedTransformer,
    PublishedTransformerConfig,
    SelfCritic,
)

Tensors = Mapping[str, Tensor]
Given = Mapping[str, Any] | None
Network = TypeVar("Network", bound=nn.Module)

#: Network by the prefix of its tensors in a released file.
_PREFIXES = {"cvivit.": "tokenizer", "maskgit.": "transformer", "encode_ekg.": "ecg"}
#: Names of tensors to leave out: networks of the training losses, counters and flags, and weights that no computation uses.
_UNUSED = re.compile(
    r"(^|\.)(loss_fn_lpips|i3d|discr|vgg)\.|^steps$|^encode_ekg\.head\.|_codebook\.initted$"
    r"|layers\.\d+\.1\.context_norm\.|attn_blocks\.\d+\.context_norm\."
)
#: Substitutions that turn a released name of the networks into echogen's, applied in order.
_NAMES = tuple(
    (re.compile(published), ours)
    for published, ours in (
        (r"^cvivit\.", "tokenizer."),
        (r"^maskgit\.", "transformer."),
        (r"(^|\.)(enc|dec)_(spatial|temporal)_transformer\.", r"\1\3_\2oder."),
        (r"(^|\.)transformer\.(layers|norm_out)\.", r"\1stack.\2."),
        (r"layers\.(\d+)\.0\.dsconv\.", r"blocks.\1.peg.conv."),
        (r"layers\.(\d+)\.1\.", r"blocks.\1.attention."),
        (r"layers\.(\d+)\.2\.", r"blocks.\1.cross."),
        (r"layers\.(\d+)\.3\.0\.", r"blocks.\1.feed_forward.norm."),
        (r"layers\.(\d+)\.3\.1\.", r"blocks.\1.feed_forward.rise."),
        (r"layers\.(\d+)\.3\.4\.", r"blocks.\1.feed_forward.fall."),
        (r"attn_blocks\.(\d+)\.", r"attention.\1."),
        (r"\bto_q\.", "query."),
        (r"\bto_kv\.", "key_value."),
        (r"\bto_out\.", "out."),
        (r"\bq_scale$", "query_scale"),
        (r"\bk_scale$", "key_scale"),
        (r"\bnull_kv$", "null"),
        (r"\bnorm_out\.", "norm."),
        (r"\bgamma$", "weight"),
        (r"\bbeta$", "bias"),
        (r"\b(spatial_rel|continuous)_pos_bias\.net\.0\.0\.", "position_bias.first."),
        (r"\b(spatial_rel|continuous)_pos_bias\.net\.1\.0\.", "position_bias.second."),
        (r"\b(spatial_rel|continuous)_pos_bias\.net\.2\.", "position_bias.last."),
        (r"\bto_patch_emb_first_frame\.", "embed_first."),
        (r"\bto_patch_emb\.", "embed_group."),
        (r"(embed_first|embed_group)\.1\.", r"\1.pixel_norm."),
        (r"(embed_first|embed_group)\.2\.", r"\1.project."),
        (r"(embed_first|embed_group)\.3\.", r"\1.norm."),
        (r"\bto_pixels_first_frame\.0\.", "head_first."),
        (r"\bto_pixels\.0\.", "head_group."),
        (r"\bvq\._codebook\.embed_avg$", "quantizer.sums"),
        (r"\bvq\._codebook\.embed$", "quantizer.codebook"),
        (r"\bvq\._codebook\.cluster_size$", "quantizer.usage"),
        (r"\bvq\.", "quantizer."),
        (r"\btoken_emb\.", "token."),
        (r"\bpos_emb\.", "position."),
    )
)
#: The same for the last layer of a transformer or critic.
_HEADS = ((re.compile(r"\bto_logits\.(0\.)?(weight|bias)$"), r"head.\2"),)
#: The same for the discriminator.
_DISCRIMINATOR = tuple(
    (re.compile(published), ours)
    for published, ours in (
        (r"^discr\.", ""),
        (r"(blocks\.\d+)\.conv_res\.", r"\1.skip."),
        (r"(blocks\.\d+)\.net\.0\.", r"\1.first."),
        (r"(blocks\.\d+)\.net\.2\.", r"\1.second."),
        (r"(blocks\.\d+)\.downsample\.1\.", r"\1.shrink."),
        (r"^to_logits\.0\.", "mix."),
        (r"^to_logits\.3\.", "head."),
    )
)


def our_names(tensors: Tensors) -> dict[str, Tensor]:
    """Rename released tensors of one network, or of several with their prefixes, to echogen's names.

    Networks of the training losses and weights that no computation uses are left out; unknown names are kept. The names of the
    ECG encoder, `encode_ekg.*`, are those of `st_mem.our_names`. Raises `InputError` for the lookup-free codes of
    another tokenizer.
    """
    if any(name.endswith("vq.mask") for name in tensors):
        raise InputError(
            "These weights are of the lookup-free tokenizer with patches of 32 pixels, which cannot be used; "
            "give the file of the tokenizer with the cosine codebook (vq._codebook.embed)."
        )
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        empty = name.endswith("null_kv") and tensor.numel() == 0
        if not empty and not _UNUSED.search(name) and not name.startswith("encode_ekg."):
            found[_renamed(name, (*_NAMES, *_HEADS))] = _reordered(name, tensor)
    return found


def discriminator_names(tensors: Tensors) -> dict[str, Tensor]:
    """Rename released tensors of the discriminator, with or without its prefix 'discr.', to echogen's names."""
    used = {name.removeprefix("discr."): tensor for name, tensor in tensors.items()}
    used = {name: tensor for name, tensor in used.items() if not _UNUSED.search(name)}
    return {_renamed(name, (*_DISCRIMINATOR, *_NAMES)): tensor for name, tensor in used.items()}


def _renamed(name: str, rules: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    for published, ours in rules:
        name = published.sub(ours, name)
    return name


def _reordered(name: str, tensor: Tensor) -> Tensor:
    """Reorder null keys and values from interleaved (heads, 2 n, head_dim) to (heads, n, key and value, head_dim)."""
    return tensor.unflatten(1, (-1, 2)) if name.endswith("null_kv") else tensor


def split(tensors: Tensors) -> dict[str, dict[str, Tensor]]:
    """Split a released file into the tensors of 'tokenizer', 'transformer' and 'ecg', under released names without prefix.

    Raises `InputError` when the file holds none of them.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        for prefix, part in _PREFIXES.items():
            if name.startswith(prefix):
                parts.setdefault(part, {})[name.removeprefix(prefix)] = tensor
    if not parts:
        if any(name.startswith("to_patch_emb_first_frame.") for name in tensors):
            parts["tokenizer"] = dict(tensors)
        elif "to_logits.weight" in tensors:
            parts["transformer"] = dict(tensors)
        else:
            raise InputError("This file holds neither ECHOPulse's tokenizer nor its transformer; give one of its weights files.")
    return parts


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _count(tensors: Tensors, pattern: str) -> int:
    """Number of different numbers at the place of (\\d+) in the names."""
    return len({match[1] for name in tensors if (match := re.match(pattern, name))})


def _size(tensors: Tensors, name: str, axis: int) -> int:
    if name not in tensors or tensors[name].dim() <= axis:
        raise InputError(f"These are not weights of ECHOPulse: {name} is missing or has another shape.")
    return int(tensors[name].shape[axis])


def _attention_sizes(tensors: Tensors, prefix: str) -> tuple[int, int]:
    """Number of heads, and dimension of a head, of the attention whose tensors begin with prefix."""
    head_dim = _size(tensors, f"{prefix}q_scale", 0)
    return _size(tensors, f"{prefix}to_q.weight", 0) // head_dim, head_dim


def tokenizer_config(tensors: Tensors, given: Given = None) -> PublishedTokenizerConfig:
    """Read the sizes of a released tokenizer from the shapes of its tensors.

    Sizes that no shape shows (image_size, patch_size) are those of `given`, else as published. Raises `InputError` when a needed
    tensor is missing.
    """
    given = given or {}
    defaults = PublishedTokenizerConfig.published()
    pixels = _size(tensors, "to_patch_emb_first_frame.2.weight", 1)
    channels = int(given.get("channels", defaults.channels))
    patch = _pair(given.get("patch_size", math.isqrt(pixels // channels)))
    heads, head_dim = _attention_sizes(tensors, "enc_spatial_transformer.layers.0.1.")
    return PublishedTokenizerConfig(
        image_size=_pair(given.get("image_size", defaults.image_size)),
        channels=pixels // (patch[0] * patch[1]),
        patch=patch,
        time_patch=_size(tensors, "to_patch_emb.2.weight", 1) // pixels,
        dim=_size(tensors, "to_patch_emb_first_frame.2.weight", 0),
        heads=heads,
        head_dim=head_dim,
        feed_forward=_size(tensors, "enc_spatial_transformer.layers.0.3.4.weight", 1),
        spatial_depth=_count(tensors, r"enc_spatial_transformer\.layers\.(\d+)\."),
        temporal_depth=_count(tensors, r"enc_temporal_transformer\.layers\.(\d+)\."),
        codebook_size=_size(tensors, "vq._codebook.embed", 1),
        codebook_dim=_size(tensors, "vq._codebook.embed", 2),
    )


def transformer_config(tensors: Tensors) -> PublishedTransformerConfig:
    """Read the sizes of a released masked transformer or token critic. Raises `InputError` when a needed tensor is missing."""
    first = "transformer.layers.0."
    heads, head_dim = _attention_sizes(tensors, f"{first}1.")
    looks = f"{first}2.to_kv.weight" in tensors
    return PublishedTransformerConfig(
        vocabulary=_size(tensors, "token_emb.weight", 0) - 1,
        max_tokens=_size(tensors, "pos_emb.weight", 0),
        dim=_size(tensors, "token_emb.weight", 1),
        depth=_count(tensors, r"transformer\.layers\.(\d+)\."),
        heads=heads,
        head_dim=head_dim,
        feed_forward=_size(tensors, f"{first}3.4.weight", 1),
        context_dim=_size(tensors, f"{first}2.to_kv.weight", 1) if looks else None,
        null_keys=_size(tensors, f"{first}2.null_kv", 1) // 2 if f"{first}2.null_kv" in tensors else 0,
    )


def discriminator_config(tensors: Tensors) -> PublishedDiscriminatorConfig:
    """Read the sizes of a released discriminator. Raises `InputError` when a needed tensor is missing."""
    names = {name.removeprefix("discr."): tensor for name, tensor in tensors.items()}
    count = _count(names, r"blocks\.(\d+)\.")
    widths = tuple(_size(names, f"blocks.{index}.conv_res.weight", 0) for index in range(count))
    after = sorted({int(match[1]) for name in names if (match := re.match(r"attn_blocks\.(\d+)\.", name))})
    heads, head_dim = _attention_sizes(names, f"attn_blocks.{after[0]}.") if after else (8, 64)
    return PublishedDiscriminatorConfig(
        channels=_size(names, "blocks.0.conv_res.weight", 1),
        widths=widths,
        attention_after=tuple(after),
        heads=heads,
        head_dim=head_dim,
        last_places=_size(names, "to_logits.3.weight", 1) // widths[-1],
    )


def tokenizer_from(tensors: Tensors, given: Given = None) -> PublishedTokenizer:
    """Make the tokenizer with released weights, in evaluation mode; errors as `our_names`, `tokenizer_config`, `load_into`."""
    ours = our_names(tensors)
    return _loaded(PublishedTokenizer(tokenizer_config(tensors, given)), ours, "ECHOPulse tokenizer")


def transformer_from(tensors: Tensors) -> PublishedTransformer:
    """Make the masked transformer with released weights, in evaluation mode; errors as `tokenizer_from`."""
    return _loaded(PublishedTransformer(transformer_config(tensors)), our_names(tensors), "ECHOPulse transformer")


def critic_from(tensors: Tensors) -> PublishedCritic:
    """Make the token critic with released weights, in evaluation mode; errors as `tokenizer_from`."""
    return _loaded(PublishedCritic(transformer_config(tensors)), our_names(tensors), "ECHOPulse token critic")


def self_critic_from(tensors: Tensors, transformer: PublishedTransformer) -> SelfCritic:
    """Make a self-critic on this transformer with the released weights of its layer, '0.weight' and '0.bias'."""
    critic = SelfCritic(transformer)
    load_into(critic.head, {name.removeprefix("0."): tensor for name, tensor in tensors.items()}, what="ECHOPulse self-critic")
    return critic.eval()


def discriminator_from(tensors: Tensors) -> PublishedDiscriminator:
    """Make the discriminator with released weights, in evaluation mode; errors as `tokenizer_from`."""
    network = PublishedDiscriminator(discriminator_config(tensors))
    return _loaded(network, discriminator_names(tensors), "ECHOPulse discriminator")


def _loaded(network: Network, ours: Tensors, what: str) -> Network:
    load_into(network, ours, what=what)
    return network.eval()


def networks_from(tensors: Tensors, given: Given = None) -> dict[str, nn.Module]:
    """Make all networks that a released file holds, by name ('tokenizer', 'transformer', 'ecg'), in evaluation mode.

    given: Settings recorded beside the file, by network ('cvivit', 'stmem'). Raises `InputError` as the parts do, and when the
    tokenizer's codes are not the transformer's.
    """
    from echogen.checkpoints.st_mem import st_mem_from

    given = given or {}
    parts = split(tensors)
    networks: dict[str, nn.Module] = {}
    if "tokenizer" in parts:
        networks["tokenizer"] = tokenizer_from(parts["tokenizer"], given.get("cvivit"))
    if "transformer" in parts:
        networks["transformer"] = transformer_from(parts["transformer"])
    if "ecg" in parts:
        networks["ecg"] = st_mem_from(parts["ecg"], given.get("stmem"))
    tokenizer, transformer = networks.get("tokenizer"), networks.get("transformer")
    if isinstance(tokenizer, PublishedTokenizer) and isinstance(transformer, PublishedTransformer):
        codes, expected = tokenizer.config.codebook_size, transformer.config.vocabulary
        if codes != expected:
            raise InputError(
                f"The tokenizer has {codes} codes but the transformer expects {expected}; give files that belong together."
            )
    return networks
