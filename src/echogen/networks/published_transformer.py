"""Masked transformer of ECHOPulse's code, its critics and their loss; only for running released weights.

Source: the code of ECHOPulse (ICLR 2025), after Chang et al., MaskGIT, 2022, and Lezama et al., Token-Critic, 2022. The
transformer of the paper itself is `masked_transformer.MaskedTransformer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echogen.errors import InputError
from echogen.networks.published import (
    ATTENTION_SCALE,
    KeyValue,
    PositionBias,
    PublishedAttention,
    PublishedBlock,
    PublishedStack,
    Sizes,
    grid_tokens,
)

#: Queries that attend to all keys at a time in bfloat16 on a CPU, so few that their scores stay in its cache.
QUERIES = 256
#: Share of their gradient that the embeddings of a `PublishedTransformer` receive, as in the published code.
EMBEDDING_GRADIENT = 0.1


@dataclass(frozen=True)
class PublishedTransformerConfig:
    """Architecture of a `PublishedTransformer` or `PublishedCritic`; the defaults are the published sizes.

    vocabulary: Number of codes, which is also the mask id.
    max_tokens: Tokens of the longest window.
    dim: Width of the tokens.
    depth: Transformer blocks.
    heads: Attention heads.
    head_dim: Width of a head.
    feed_forward: Width between the two layers of an MLP.
    context_dim: Width of the condition's tokens; None for no cross-attention.
    null_keys: Learned keys beside the condition's tokens.
    """

    vocabulary: int = 8192
    max_tokens: int = 2048
    dim: int = 512
    depth: int = 6
    heads: int = 8
    head_dim: int = 64
    feed_forward: int = 1365
    context_dim: int | None = 768
    null_keys: int = 2

    @property
    def mask_id(self) -> int:
        """Id of a hidden token."""
        return self.vocabulary

    @classmethod
    def published(cls) -> PublishedTransformerConfig:
        """Sizes of ECHOPulse's code: width 512, 6 layers, 8192 codes, an ECG context of width 768."""
        return cls()


class _TokenNetwork(nn.Module):
    """Embedded tokens with a flat position, and a stack of blocks."""

    config_class: ClassVar = PublishedTransformerConfig

    def __init__(self, config: PublishedTransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.token = nn.Embedding(config.vocabulary + 1, config.dim)
        self.position = nn.Embedding(config.max_tokens, config.dim)
        self.stack = PublishedStack(
            Sizes(config.dim, config.heads, config.head_dim, config.feed_forward),
            config.depth,
            early=False,
            context_dim=config.context_dim,
            null_keys=config.null_keys if config.context_dim is not None else 0,
        )

    def encode_context(self, context: Tensor) -> list[KeyValue]:
        """Keys and values of condition tokens (B, M, context_dim) for every block; encode once, use at every step."""
        return self.stack.encode_context(context)

    def _embedded(self, ids: Tensor, shape: Sequence[int]) -> Tensor:
        if grid_tokens(shape) != ids.shape[1] or ids.shape[1] > self.config.max_tokens:
            raise InputError(
                f"The transformer takes at most {self.config.max_tokens} tokens on their grid, "
                f"not {ids.shape[1]} on a grid of {' x '.join(map(str, shape))}."
            )
        embedded: Tensor = self.token(ids) + self.position.weight[: ids.shape[1]]
        return embedded


class PublishedTransformer(_TokenNetwork):
    """Bidirectional transformer over all tokens of a window, with cross-attention to the ECG, that guesses hidden tokens."""

    def __init__(self, config: PublishedTransformerConfig) -> None:
        super().__init__(config)
        self.position_bias = PositionBias(config.head_dim, config.heads, axes=3)
        self.head = nn.Linear(config.dim, config.vocabulary)
        self._bias: tuple[Tensor, Tensor] | None = None

    def embeddings(
        self, ids: Tensor, shape: Sequence[int], context: Sequence[KeyValue] | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Features (B, N, dim) before the head; see `forward`."""
        x = self._embedded(ids, shape)
        if torch.is_grad_enabled():
            x = x * EMBEDDING_GRADIENT + x.detach() * (1 - EMBEDDING_GRADIENT)
        out: Tensor = self.stack(x, (len(ids), *shape), bias=self.position_bias(*shape), mask=mask, context=context)
        return out

    def forward(
        self,
        ids: Tensor,
        shape: Sequence[int],
        context: Sequence[KeyValue] | None = None,
        *,
        places: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, N, vocabulary) of ids (B, N) on a grid of `shape` (time, height, width); hidden ids are `config.mask_id`.

        context: Keys and values from `encode_context`.
        places: Positions (B, K) to give logits (B, K, vocabulary) of; None for all.
        mask: Mask (B, N); False for tokens that are not attended to.
        Raises `InputError` when the ids do not fit the grid or the longest window.
        """
        if places is not None and mask is None and not torch.is_grad_enabled():
            x = self._embeddings_at(places, ids, shape, context)
        else:
            x = self.embeddings(ids, shape, context, mask)
            x = x if places is None else rows_at(x, places)
        logits: Tensor = self.head(x)
        return logits

    def _embeddings_at(self, places: Tensor, ids: Tensor, shape: Sequence[int], context: Sequence[KeyValue] | None) -> Tensor:
        """Features of places (B, K), as `embeddings` gives: in the last block computed for these alone."""
        x, grid = self._embedded(ids, shape), (len(ids), *shape)
        bias = self._cast_bias(shape, x)
        for index, block in enumerate(self.stack.blocks):
            assert isinstance(block, PublishedBlock)
            x = x + block.peg(x, grid)
            keys = block.attention.keys_and_values(x)
            if index == len(self.stack.blocks) - 1:
                x = rows_at(x, places)
                bias = bias[:, :, places[0]] if len(places) == 1 else torch.stack([bias[0, :, rows] for rows in places])
            x = x + _self_attended(block.attention, x, keys, bias)
            if block.cross is not None and context is not None:
                x = x + _cross_attended(block.cross, x, context[index])
            x = x + block.feed_forward(x)
        out: Tensor = self.stack.norm(x)
        return out

    def _cast_bias(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Position bias (1, heads, N, N) in the type that attention computes in, kept as long as the bias itself."""
        bias, kind = self.position_bias(*shape), like.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype
        if self._bias is None or self._bias[0] is not bias or self._bias[1].dtype != dtype:
            self._bias = (bias, bias.to(dtype).unsqueeze(0))
        return self._bias[1]


def rows_at(x: Tensor, places: Tensor) -> Tensor:
    """Rows (B, K, dim) of x (B, N, dim) at places (B, K)."""
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def _query(attention: PublishedAttention, x: Tensor) -> Tensor:
    """Queries (B, heads, K, head_dim), unit vectors times their scale."""
    query = attention.query(attention.norm(x)).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
    return F.normalize(query, dim=-1) * attention.query_scale


def _self_attended(attention: PublishedAttention, x: Tensor, keys: KeyValue, bias: Tensor) -> Tensor:
    """Output of attention(x, keys, bias), computed in the type of the bias (1 or B, heads, K, M)."""
    query, key, value = (part.to(bias.dtype) for part in (_query(attention, x), *keys))
    if bias.dtype == torch.bfloat16 and x.device.type == "cpu":
        mixed = _attend_in_blocks(query, key, value, bias)
    else:
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=ATTENTION_SCALE)
    out: Tensor = attention.out(mixed.transpose(1, 2).flatten(2))
    return out


def _attend_in_blocks(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention in parts; the kernel of `F.scaled_dot_product_attention` for CPUs is no faster in bfloat16 than in float32."""
    mixed = []
    with torch.autocast(query.device.type, enabled=False):
        query, key = query * ATTENTION_SCALE, key.transpose(2, 3)
        for start in range(0, query.shape[2], QUERIES):
            scores = query[:, :, start : start + QUERIES] @ key
            scores += bias[:, :, start : start + QUERIES]
            mixed.append(scores.softmax(-1) @ value)
    return torch.cat(mixed, dim=2)


def _cross_attended(attention: PublishedAttention, x: Tensor, context: KeyValue) -> Tensor:
    """Output of attention(x, context); with fewer keys than a head is wide, the output of each key is computed once."""
    key, value = context
    if key.shape[2] >= attention.query_scale.shape[0]:
        out: Tensor = attention(x, context)
        return out
    query = _query(attention, x)
    weights = (ATTENTION_SCALE * query @ key.to(query.dtype).transpose(2, 3)).softmax(-1)
    outputs = value @ attention.out.weight.to(value.dtype).t().unflatten(0, (attention.heads, -1))
    return weights.transpose(1, 2).flatten(2).to(outputs.dtype) @ outputs.flatten(1, 2)


class PublishedCritic(_TokenNetwork):
    """Critic of every token of a filled window: the higher the score, the likelier it should be drawn anew."""

    def __init__(self, config: PublishedTransformerConfig) -> None:
        super().__init__(config)
        self.head = nn.Linear(config.dim, 1)

    def forward(
        self,
        ids: Tensor,
        shape: Sequence[int],
        context: Sequence[KeyValue] | None = None,
        *,
        context_mask: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Scores (B, N) of ids (B, N); context_mask (B, M) is False for condition tokens that are not attended to."""
        x = self._embedded(ids, shape)
        x = self.stack(x, (len(ids), *shape), mask=mask, context=context, context_mask=context_mask)
        scores: Tensor = self.head(x).squeeze(-1)
        return scores


class SelfCritic(nn.Module):
    """Critic of one linear layer on a masked transformer's own features."""

    def __init__(self, transformer: PublishedTransformer) -> None:
        super().__init__()
        self.transformer = transformer
        self.head = nn.Linear(transformer.config.dim, 1)

    def forward(self, ids: Tensor, shape: Sequence[int], context: Sequence[KeyValue] | None = None) -> Tensor:
        """Scores (B, N) of ids (B, N); see `PublishedCritic`."""
        scores: Tensor = self.head(self.transformer.embeddings(ids, shape, context)).squeeze(-1)
        return scores


def hidden_subset(random: Tensor, share: Tensor) -> Tensor:
    """Mask (B, N) of the tokens to hide: exactly round(share x N) of each row, at least one, chosen by uniform numbers.

    random: Uniform numbers (B, N).
    share: Shares (B,) in 0..1, in training cos(pi / 2 x step / steps) of a random step below steps (Eq. 8).
    """
    count = (share * random.shape[1]).round().clamp(min=1)
    return random.argsort(dim=-1) < count.unsqueeze(-1)


def masked_token_loss(
    network: PublishedTransformer, ids: Tensor, shape: Sequence[int], context: Tensor | None, hidden: Tensor
) -> Tensor:
    """Mean cross-entropy of the hidden tokens, the published training loss (Eq. 7).

    ids: True ids (B, N) of the video.
    context: Condition tokens (B, M, context_dim).
    hidden: Mask (B, N) of the hidden tokens, from `hidden_subset`.
    """
    keys = None if context is None else network.encode_context(context)
    x = network.embeddings(ids.masked_fill(hidden, network.config.mask_id), shape, keys)
    return F.cross_entropy(network.head(x[hidden]).float(), ids[hidden])  # Eq. 7
