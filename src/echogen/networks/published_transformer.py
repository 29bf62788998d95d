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
from echogen.networks.published import KeyValue, PositionBias, PublishedStack, Sizes, grid_tokens

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
        x = self.embeddings(ids, shape, context, mask)
        if places is not None:
            x = x.gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        logits: Tensor = self.head(x)
        return logits


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
