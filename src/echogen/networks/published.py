"""Blocks of the published ECHOPulse networks, whose computation departs from the paper; only for running released weights.

Keys and values come from the stream before its norm, queries and keys are unit vectors with learned scales, and positions enter
through a depthwise convolution and a learned bias of the attention. Source: the code of ECHOPulse (ICLR 2025), after Villegas
et al., Phenaki, 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echogen.errors import InputError

#: Factor of the cosine of query and key before the softmax, as in the published code.
ATTENTION_SCALE = 8.0


class KeyValue(NamedTuple):
    """Keys and values of attention, those of the null tokens first.

    key: Keys (B, heads, M, head_dim), already unit vectors times their scale.
    value: Values (B, heads, M, head_dim).
    """

    key: Tensor
    value: Tensor


class Sizes(NamedTuple):
    """Widths that all blocks of a transformer share.

    dim: Width of the tokens.
    heads: Attention heads.
    head_dim: Width of a head.
    feed_forward: Width between the two layers of an MLP.
    """

    dim: int
    heads: int
    head_dim: int
    feed_forward: int


def gain_norm(dim: int) -> nn.LayerNorm:
    """Layer norm that trains its gain only; its bias is part of the weights but fixed."""
    norm = nn.LayerNorm(dim)
    norm.bias.requires_grad_(False)
    return norm


class PublishedAttention(nn.Module):
    """Cosine attention: queries are made of the norm of x; keys and values of x itself, or of a context through its own norm."""

    def __init__(self, dim: int, heads: int, head_dim: int, context_dim: int | None = None, null_keys: int = 0) -> None:
        super().__init__()
        inner = heads * head_dim
        self.heads = heads
        self.norm = gain_norm(dim)
        self.context_norm = None if context_dim is None else gain_norm(context_dim)
        self.query = nn.Linear(dim, inner, bias=False)
        self.key_value = nn.Linear(dim if context_dim is None else context_dim, 2 * inner, bias=False)
        self.out = nn.Linear(inner, dim, bias=False)
        self.query_scale = nn.Parameter(torch.ones(head_dim))
        self.key_scale = nn.Parameter(torch.ones(head_dim))
        self.null = nn.Parameter(torch.randn(heads, null_keys, 2, head_dim)) if null_keys else None

    def keys_and_values(self, source: Tensor) -> KeyValue:
        """Null keys and values, then M of a source (B, M, dim or context_dim)."""
        if self.context_norm is not None:
            source = self.context_norm(source)
        both = self.key_value(source).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if self.null is not None:
            nothing = self.null.to(both.dtype).permute(2, 0, 1, 3).unsqueeze(1)
            both = torch.cat((nothing.expand(-1, both.shape[1], -1, -1, -1), both), dim=3)
        key, value = both.unbind(0)
        return KeyValue(F.normalize(key, dim=-1) * self.key_scale, value)

    def forward(self, x: Tensor, context: KeyValue | None = None, mask: Tensor | None = None) -> Tensor:
        """Attend from x (B, N, dim) to itself or to an encoded context; mask as of `F.scaled_dot_product_attention`."""
        source = self.keys_and_values(x) if context is None else context
        query = self.query(self.norm(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        query = F.normalize(query, dim=-1) * self.query_scale
        mixed = F.scaled_dot_product_attention(query, source.key, source.value, attn_mask=mask, scale=ATTENTION_SCALE)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class FeedForward(nn.Module):
    """Norm, then the gated GEGLU layers without biases. Source: Shazeer, GLU Variants Improve Transformer, 2020."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.rise = nn.Linear(dim, 2 * width, bias=False)
        self.fall = nn.Linear(width, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., dim) to the same shape."""
        value, gate = self.rise(self.norm(x)).chunk(2, dim=-1)
        out: Tensor = self.fall(F.gelu(gate) * value)
        return out


class PositionConvolution(nn.Module):
    """Position encoding by a depthwise 3 x 3 x 3 convolution over the grid of tokens.

    The tokens are read as if they lay in the order (batch, time, height, width) whatever their order is. Temporal layers hold
    them as (batch, height, width, time), so there the axes are scrambled; released weights were trained that way.

    early: Pad time with two frames before and none after.
    Source: Chu et al., Conditional Positional Encodings, 2021.
    """

    def __init__(self, dim: int, early: bool) -> None:
        super().__init__()
        self.conv = nn.Conv3d(dim, dim, 3, groups=dim)
        self.padding = (1, 1, 1, 1, 2, 0) if early else (1, 1, 1, 1, 1, 1)

    def forward(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Position encoding (..., dim) of x (..., dim), whose tokens fill a grid of `shape` (batch, time, height, width)."""
        grid = x.reshape(*shape, -1).permute(0, 4, 1, 2, 3)
        return self.conv(F.pad(grid, self.padding)).permute(0, 2, 3, 4, 1).reshape(x.shape)


class PositionBias(nn.Module):
    """Bias of attention for each pair of grid positions: a small network of the signed logarithm of their offset.

    The network runs once per distinct offset. Outside of training the result is kept until the weights or the shape change.
    Source: Liu et al., Swin Transformer V2, 2022, section 3.3 (log-spaced continuous position bias).
    """

    def __init__(self, width: int, heads: int, axes: int) -> None:
        super().__init__()
        self.first = nn.Linear(axes, width)
        self.second = nn.Linear(width, width)
        self.last = nn.Linear(width, heads)
        self._kept: tuple[tuple[int, ...], Tensor, Tensor] | None = None

    def forward(self, *shape: int) -> Tensor:
        """Bias (heads, N, N) of all pairs (query, key) on a grid of this shape with N positions, last axis fastest."""
        if torch.is_grad_enabled() and any(weight.requires_grad for weight in self.parameters()):
            self._kept = None
            return self._computed(shape)
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.last.weight.device.type, enabled=False):
            # Comparing the weights themselves is cheap beside the bias, and sees changes that version counters miss.
            weights = torch.cat([weight.flatten() for weight in self.parameters()])
            kept = self._kept
            if kept is None or kept[0] != shape or not _same(kept[1], weights):
                self._kept = kept = (shape, weights, self._computed(shape))
            return kept[2]

    def _computed(self, shape: tuple[int, ...]) -> Tensor:
        weight = self.first.weight
        reach = [torch.arange(1 - size, size, device=weight.device) for size in shape]
        offsets = torch.cartesian_prod(*reach).view(-1, len(shape)).float()
        scaled = (offsets.sign() * offsets.abs().log1p()).to(weight.dtype)
        hidden = F.leaky_relu(self.second(F.leaky_relu(self.first(scaled), 0.1)), 0.1)
        table = self.last(hidden).t()
        positions = torch.cartesian_prod(*(torch.arange(size, device=weight.device) for size in shape)).view(-1, len(shape))
        index = torch.zeros(len(positions), len(positions), dtype=torch.int64, device=weight.device)
        for axis, size in enumerate(shape):
            place = positions[:, axis]
            index = index * (2 * size - 1) + (place[:, None] - place[None, :] + size - 1)
        return table[:, index.flatten()].view(-1, *index.shape)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.device == other.device and one.dtype == other.dtype and torch.equal(one, other)


class PublishedBlock(nn.Module):
    """Position convolution, self-attention, cross-attention where there is a context, feed-forward; each is added to x."""

    def __init__(self, sizes: Sizes, early: bool, context_dim: int | None, null_keys: int) -> None:
        super().__init__()
        dim, heads, head_dim, width = sizes
        self.peg = PositionConvolution(dim, early)
        self.attention = PublishedAttention(dim, heads, head_dim)
        self.cross = None if context_dim is None else PublishedAttention(dim, heads, head_dim, context_dim, null_keys)
        self.feed_forward = FeedForward(dim, width)

    def forward(
        self, x: Tensor, shape: Sequence[int], mask: Tensor | None, context: KeyValue | None, context_mask: Tensor | None
    ) -> Tensor:
        """Transform x (B, N, dim) on a grid of `shape`; the masks as of `F.scaled_dot_product_attention`."""
        x = x + self.peg(x, shape)
        x = x + self.attention(x, mask=mask)
        if self.cross is not None and context is not None:
            x = x + self.cross(x, context, context_mask)
        out: Tensor = x + self.feed_forward(x)
        return out


class PublishedStack(nn.Module):
    """Blocks that share one attention bias, and a last norm.

    early: Padding in time, as of `PositionConvolution`.
    context_dim: Width of the tokens of cross-attention; None for no cross-attention.
    null_keys: Learned keys beside those tokens.
    """

    def __init__(self, sizes: Sizes, depth: int, *, early: bool, context_dim: int | None = None, null_keys: int = 0) -> None:
        super().__init__()
        self.null_keys = null_keys
        self.blocks = nn.ModuleList(PublishedBlock(sizes, early, context_dim, null_keys) for _ in range(depth))
        self.norm = gain_norm(sizes.dim)

    def encode_context(self, context: Tensor) -> list[KeyValue]:
        """Keys and values of context tokens (B, M, context_dim) for every block; encode once, use at every step."""
        blocks = [block.cross for block in self.blocks if isinstance(block, PublishedBlock)]
        if any(cross is None for cross in blocks):
            raise InputError("This transformer has no cross-attention; give it no context.")
        return [cross.keys_and_values(context) for cross in blocks if cross is not None]

    def forward(
        self,
        x: Tensor,
        shape: Sequence[int],
        *,
        bias: Tensor | None = None,
        mask: Tensor | None = None,
        context: Sequence[KeyValue] | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """Transform x (B, N, dim) on a grid of `shape` (batch, time, height, width).

        bias: Bias (heads, N, N) that is added to the scores of every block's self-attention.
        mask: Mask (B, N); False for tokens that are not attended to.
        context: Keys and values from `encode_context`; None leaves cross-attention out.
        context_mask: Mask (B, M); False for context tokens that are not attended to.
        """
        self_mask = attention_mask(bias, mask, x)
        if context_mask is not None:
            context_mask = F.pad(context_mask, (self.null_keys, 0), value=True)[:, None, None, :]
        for index, block in enumerate(self.blocks):
            x = block(x, shape, self_mask, None if context is None else context[index], context_mask)
        out: Tensor = self.norm(x)
        return out


def attention_mask(bias: Tensor | None, mask: Tensor | None, like: Tensor) -> Tensor | None:
    """One additive mask, of the type of `like`, of a bias (heads, N, N) and a key mask (B, N).

    A hidden key gets the most negative number, not minus infinity, so that a row without any visible key stays finite.
    """
    if bias is not None:
        bias = bias.to(like.dtype).unsqueeze(0)
    if mask is None:
        return bias
    lowest = like.new_tensor(torch.finfo(like.dtype).min)
    return torch.where(mask[:, None, None, :], like.new_zeros(()) if bias is None else bias, lowest)


def grid_tokens(shape: Sequence[int]) -> int:
    """Number of tokens of a grid of this shape."""
    return math.prod(shape)
