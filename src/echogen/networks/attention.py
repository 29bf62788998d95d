"""Pre-norm transformer blocks whose attention knows time in seconds."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Longest period of the rotary encoding in s, longer than any beat.
SLOWEST_PERIOD_S = 4.0
#: Shortest period of the rotary encoding in s, about one frame.
FASTEST_PERIOD_S = 0.03


class Rotary(NamedTuple):
    """Rotary encoding of times.

    cos: Cosines of frequency x time (B or 1, N, pairs), float32.
    sin: Sines of frequency x time (B or 1, N, pairs), float32.
    """

    cos: Tensor
    sin: Tensor


class Tokens(NamedTuple):
    """Output of a condition encoder.

    values: Token vectors (B, N, D).
    times_s: Times of the tokens (B, N) in s; None for tokens without a time.
    mask: Mask (B, N); True for tokens that may be attended to.
    """

    values: Tensor
    times_s: Tensor | None
    mask: Tensor


class CrossContext(NamedTuple):
    """Context of cross-attention.

    tokens: Tokens, already of the block's width.
    query_rotary: Rotary encoding of the queries' times; None without times.
    key_rotary: Rotary encoding of the tokens' times; None without times.
    """

    tokens: Tokens
    query_rotary: Rotary | None
    key_rotary: Rotary | None


def rotary_pairs(head_dim: int, share: float = 0.5) -> int:
    """Number of pairs of a head's dimensions that carry time when `share` of the dimensions do."""
    return int(head_dim * share) // 2


def rotary(times_s: Tensor, pairs: int) -> Rotary:
    """Rotary encoding of times in s (B or 1, N); window-relative times are small enough to be exact in float32.

    The periods are geometric from 4 s, longer than any beat, to 0.03 s, one frame.
    Source: Su et al., RoFormer, 2021, Eq. 15, with time in place of the position.
    """
    periods = torch.logspace(
        math.log10(SLOWEST_PERIOD_S), math.log10(FASTEST_PERIOD_S), pairs, dtype=torch.float32, device=times_s.device
    )
    with torch.autocast(times_s.device.type, enabled=False):
        angle = times_s.float().unsqueeze(-1) * (2.0 * math.pi / periods)
        return Rotary(angle.cos(), angle.sin())


def rotate(x: Tensor, table: Rotary) -> Tensor:
    """Rotate the first 2 x pairs dimensions of x (B, N, ..., head_dim) by their times; the others pass (RoFormer, Eq. 15)."""
    pairs = table.cos.shape[-1]
    shape = (*table.cos.shape[:2], *(1,) * (x.dim() - 3), pairs)
    cos, sin = table.cos.to(x.dtype).view(shape), table.sin.to(x.dtype).view(shape)
    even, odd, rest = x.split((pairs, pairs, x.shape[-1] - 2 * pairs), dim=-1)
    return torch.cat((even * cos - odd * sin, odd * cos + even * sin, rest), dim=-1)


class HeadNorm(nn.Module):
    """Root-mean-square norm over each head's dimensions with `count` learned scales, for instance of queries and keys."""

    def __init__(self, count: int, head_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(count, 1, head_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (..., count, heads, head_dim)."""
        scale = x.float().square().mean(-1, keepdim=True).add(1e-6).rsqrt()
        return x * (scale * self.weight).to(x.dtype)


class SelfAttention(nn.Module):
    """Self-attention with one fused projection, optional query/key norm and rotary time."""

    def __init__(self, dim: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)
        self.norm = HeadNorm(2, dim // heads) if qk_norm else None

    def forward(self, x: Tensor, table: Rotary | None, mask: Tensor | None, causal: bool) -> Tensor:
        """Attend among x (B, N, dim); mask broadcastable to (B, heads, N, N), True for keys that may be attended to."""
        batch, count, dim = x.shape
        qkv = self.qkv(x).view(batch, count, 3, self.heads, dim // self.heads)
        qk, value = qkv[:, :, :2], qkv[:, :, 2]
        if self.norm is not None:
            qk = self.norm(qk)
        if table is not None:
            qk = rotate(qk, table)
        query, key = qk.unbind(2)
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask, is_causal=causal and mask is None
        )
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, count, dim))
        return out


class CrossAttention(nn.Module):
    """Attention to condition tokens; one learned null key and value make a fully masked context harmless."""

    def __init__(self, dim: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * dim, bias=False)
        self.null = nn.Parameter(torch.randn(1, 1, 2, heads, dim // heads) * 0.02)
        self.out = nn.Linear(dim, dim, bias=False)
        self.query_norm = HeadNorm(1, dim // heads) if qk_norm else None
        self.key_norm = HeadNorm(1, dim // heads) if qk_norm else None
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, context: CrossContext) -> Tensor:
        """Attend from x (B, N, dim) to the context's tokens (B, M, dim)."""
        batch, count, dim = x.shape
        tokens = context.tokens
        query = self.query(x).view(batch, count, 1, self.heads, -1)
        both = self.key_value(tokens.values).view(batch, -1, 2, self.heads, dim // self.heads)
        key, value = both[:, :, :1], both[:, :, 1:]
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        null_key, null_value = self.null.to(both.dtype).expand(batch, -1, -1, -1, -1).chunk(2, dim=2)
        if context.query_rotary is not None and context.key_rotary is not None:
            query, key = rotate(query, context.query_rotary), rotate(key, context.key_rotary)
            timed = 2 * context.key_rotary.cos.shape[-1]  # the null key has no time: only the dimensions without one count
            null_key = F.pad(null_key[..., timed:], (timed, 0))
        key = torch.cat((null_key, key), dim=1).squeeze(2)
        value = torch.cat((null_value, value), dim=1).squeeze(2)
        mask = F.pad(tokens.mask, (1, 0), value=True)[:, None, None, :]
        mixed = F.scaled_dot_product_attention(
            query.squeeze(2).transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask
        )
        out: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, count, dim))
        return out


class Mlp(nn.Module):
    """Two linear layers with GELU between, or the gated GEGLU (Shazeer 2020) at the same number of weights."""

    def __init__(self, dim: int, ratio: float, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        inner = int(dim * ratio * 2 / 3) if gated else int(dim * ratio)
        self.rise = nn.Linear(dim, inner * 2 if gated else inner)
        self.fall = nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (..., dim) to the same shape."""
        hidden = self.rise(x)
        if self.gated:
            value, gate = hidden.chunk(2, dim=-1)
            hidden = value * F.gelu(gate)
        else:
            hidden = F.gelu(hidden)
        out: Tensor = self.fall(hidden)
        return out


class Block(nn.Module):
    """Pre-norm transformer block: self-attention, optional cross-attention, MLP; optionally modulated (AdaLN-Zero).

    A modulated block adds its own bias table to a modulation made once for all blocks (shift, scale and gate of attention, then
    of the MLP). Source: Peebles and Xie, DiT, 2023 (AdaLN-Zero); Chen et al., PixArt-alpha, 2023 (one shared projection).
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        mlp_ratio: float = 4.0,
        *,
        gated_mlp: bool = False,
        qk_norm: bool = True,
        cross_attention: bool = False,
        modulated: bool = False,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim, bias=False)
        self.attention = SelfAttention(dim, heads, qk_norm)
        self.cross_norm = nn.LayerNorm(dim, bias=False) if cross_attention else None
        self.cross = CrossAttention(dim, heads, qk_norm) if cross_attention else None
        self.mlp_norm = nn.LayerNorm(dim, bias=False)
        self.mlp = Mlp(dim, mlp_ratio, gated_mlp)
        self.modulation_bias = nn.Parameter(torch.zeros(6 * dim)) if modulated else None

    def forward(
        self,
        x: Tensor,
        *,
        table: Rotary | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        context: CrossContext | None = None,
        modulation: Tensor | None = None,
    ) -> Tensor:
        """Transform x (B, ..., dim), in which all positions of a row attend to each other.

        table: Rotary encoding of the flattened positions' times.
        mask: True for keys that may be attended to.
        causal: Position i attends to positions j <= i only.
        context: Tokens of cross-attention.
        modulation: Shifts, scales and gates, broadcastable to (B, ..., 6 dim).
        """
        if self.modulation_bias is not None and modulation is not None:
            shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = (modulation + self.modulation_bias).chunk(6, dim=-1)
            normed = torch.addcmul(shift_a, self.attention_norm(x), 1 + scale_a)
            x = torch.addcmul(x, gate_a, self.attention(normed.flatten(1, -2), table, mask, causal).view(x.shape))
            x = self._cross_attended(x, context)
            return torch.addcmul(x, gate_m, self.mlp(torch.addcmul(shift_m, self.mlp_norm(x), 1 + scale_m)))
        x = x + self.attention(self.attention_norm(x).flatten(1, -2), table, mask, causal).view(x.shape)
        x = self._cross_attended(x, context)
        return x + self.mlp(self.mlp_norm(x))

    def _cross_attended(self, x: Tensor, context: CrossContext | None) -> Tensor:
        if self.cross is None or self.cross_norm is None or context is None:
            return x
        return x + self.cross(self.cross_norm(x).flatten(1, -2), context).view(x.shape)
