"""The masked transformer of ECHOPulse's code, its critics, and the loss they are trained with; for released weights.

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

QUERIES = 256
"""How many queries look at all keys at a time in bfloat16 on a CPU, so that their scores stay in its cache."""
EMBEDDING_GRADIENT = 0.1
"""The share of their gradient that the embeddings of a `PublishedTransformer` receive."""


@dataclass(frozen=True)
class PublishedTransformerConfig:
    """Architecture of a `PublishedTransformer` or `PublishedCritic`; the defaults are the published sizes.

    vocabulary: number of codes, which is also the mask id. max_tokens: the longest window. feed_forward: width between the two
    layers of an MLP. context_dim: width of the condition's tokens, None = no cross-attention. null_keys: learned keys
    beside them.
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
        """The id of a hidden token."""
        return self.vocabulary

    @classmethod
    def published(cls) -> PublishedTransformerConfig:
        """The sizes of ECHOPulse's code: width 512, 6 layers, 8192 codes, an ECG context of width 768."""
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
        """Condition tokens (B, M, context_dim) as every block's keys and values; encode once, use at every step."""
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
    """Bidirectional transformer over all tokens of a window with cross-attention to the ECG; hidden tokens -> logits."""

    def __init__(self, config: PublishedTransformerConfig) -> None:
        super().__init__(config)
        self.position_bias = PositionBias(config.head_dim, config.heads, axes=3)
        self.head = nn.Linear(config.dim, config.vocabulary)
        self._bias: tuple[Tensor, Tensor] | None = None

    def embeddings(
        self, ids: Tensor, shape: Sequence[int], context: Sequence[KeyValue] | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """What the head sees: (B, N, dim); see `forward`."""
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

        context: from `encode_context`. places (B, K): logits (B, K, vocabulary) of these positions only. mask (B, N): False =
        this token is not looked at. Raises `InputError` when the ids do not fit the grid or the longest window.
        """
        if places is not None and mask is None and not torch.is_grad_enabled():
            x = self._embeddings_at(places, ids, shape, context)
        else:
            x = self.embeddings(ids, shape, context, mask)
            x = x if places is None else rows_at(x, places)
        logits: Tensor = self.head(x)
        return logits

    def _embeddings_at(self, places: Tensor, ids: Tensor, shape: Sequence[int], context: Sequence[KeyValue] | None) -> Tensor:
        """The `embeddings` of places (B, K): the last block lets only these look, and cross-attention is cut short."""
        x, grid = self._embedded(ids, shape), (len(ids), *shape)
        bias = self._cast_bias(shape, x)
        for index, block in enumerate(self.stack.blocks):
            assert isinstance(block, PublishedBlock)
            x = x + block.peg(x, grid)
            seen = block.attention.keys_and_values(x)
            if index == len(self.stack.blocks) - 1:
                x = rows_at(x, places)
                bias = bias[:, :, places[0]] if len(places) == 1 else torch.stack([bias[0, :, rows] for rows in places])
            x = x + _attended(block.attention, x, seen, bias)
            if block.cross is not None and context is not None:
                x = x + _told(block.cross, x, context[index])
            x = x + block.feed_forward(x)
        out: Tensor = self.stack.norm(x)
        return out

    def _cast_bias(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """The position bias (1, heads, N, N) in the type that attention computes in; the cast one is kept as long as the bias."""
        bias, kind = self.position_bias(*shape), like.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype
        if self._bias is None or self._bias[0] is not bias or self._bias[1].dtype != dtype:
            self._bias = (bias, bias.to(dtype).unsqueeze(0))
        return self._bias[1]


def rows_at(x: Tensor, places: Tensor) -> Tensor:
    """The rows (B, K, dim) of x (B, N, dim) at places (B, K)."""
    return x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def _query(attention: PublishedAttention, x: Tensor) -> Tensor:
    """Queries (B, heads, K, head_dim), unit vectors times their scale."""
    query = attention.query(attention.norm(x)).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
    return F.normalize(query, dim=-1) * attention.query_scale


def _attended(attention: PublishedAttention, x: Tensor, seen: KeyValue, bias: Tensor) -> Tensor:
    """What attention(x, seen, bias) gives, computed in the type of the bias (1 or B, heads, K, M)."""
    query, key, value = (part.to(bias.dtype) for part in (_query(attention, x), *seen))
    if bias.dtype == torch.bfloat16 and x.device.type == "cpu":
        mixed = _attend_in_blocks(query, key, value, bias)
    else:
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=ATTENTION_SCALE)
    out: Tensor = attention.out(mixed.transpose(1, 2).flatten(2))
    return out


def _attend_in_blocks(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """`F.scaled_dot_product_attention`, whose kernel for CPUs multiplies bfloat16 no faster than float32."""
    mixed = []
    with torch.autocast(query.device.type, enabled=False):
        query, key = query * ATTENTION_SCALE, key.transpose(2, 3)
        for start in range(0, query.shape[2], QUERIES):
            scores = query[:, :, start : start + QUERIES] @ key
            scores += bias[:, :, start : start + QUERIES]
            mixed.append(scores.softmax(-1) @ value)
    return torch.cat(mixed, dim=2)


def _told(attention: PublishedAttention, x: Tensor, context: KeyValue) -> Tensor:
    """What attention(x, context) gives; with fewer keys than a head is wide, what each of them writes is worked out once."""
    key, value = context
    if key.shape[2] >= attention.query_scale.shape[0]:
        out: Tensor = attention(x, context)
        return out
    query = _query(attention, x)
    weights = (ATTENTION_SCALE * query @ key.to(query.dtype).transpose(2, 3)).softmax(-1)
    written = value @ attention.out.weight.to(value.dtype).t().unflatten(0, (attention.heads, -1))
    return weights.transpose(1, 2).flatten(2).to(written.dtype) @ written.flatten(1, 2)


class PublishedCritic(_TokenNetwork):
    """Judges every token of a filled window: the higher the score, the likelier it should be drawn anew."""

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
        """Scores (B, N) of ids (B, N); context_mask (B, M): False = this condition token is not looked at."""
        x = self._embedded(ids, shape)
        x = self.stack(x, (len(ids), *shape), mask=mask, context=context, context_mask=context_mask)
        scores: Tensor = self.head(x).squeeze(-1)
        return scores


class SelfCritic(nn.Module):
    """A critic that is one linear layer on a masked transformer's own embeddings."""

    def __init__(self, transformer: PublishedTransformer) -> None:
        super().__init__()
        self.transformer = transformer
        self.head = nn.Linear(transformer.config.dim, 1)

    def forward(self, ids: Tensor, shape: Sequence[int], context: Sequence[KeyValue] | None = None) -> Tensor:
        """Scores (B, N) of ids (B, N); see `PublishedCritic`."""
        scores: Tensor = self.head(self.transformer.embeddings(ids, shape, context)).squeeze(-1)
        return scores


def hidden_subset(random: Tensor, share: Tensor) -> Tensor:
    """Which tokens to hide, (B, N) bool: exactly round(share x N) of each row, at least one, chosen by uniform numbers.

    random: uniform numbers (B, N). share (B,) in 0..1, in training cos(pi / 2 x step / steps) of a random step below steps.
    """
    count = (share * random.shape[1]).round().clamp(min=1)
    return random.argsort(dim=-1) < count.unsqueeze(-1)


def masked_token_loss(
    network: PublishedTransformer, ids: Tensor, shape: Sequence[int], context: Tensor | None, hidden: Tensor
) -> Tensor:
    """Mean cross-entropy of the hidden tokens, the published training loss.

    ids (B, N): the video's true ids. context (B, M, context_dim). hidden (B, N) bool, see `hidden_subset`.
    """
    keys = None if context is None else network.encode_context(context)
    x = network.embeddings(ids.masked_fill(hidden, network.config.mask_id), shape, keys)
    return F.cross_entropy(network.head(x[hidden]).float(), ids[hidden])
