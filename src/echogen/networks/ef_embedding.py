"""Encoder of an ejection fraction as tokens and a vector: the resampler that Imagen puts between a text and its U-Net.

Source: the code of EchoDiffusion (MICCAI 2023).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echogen.networks.video_unet_blocks import UNIT_SCALE, UnitScales


class LatentAttention(nn.Module):
    """Attention of latents to tokens and to themselves."""

    def __init__(self, dim: int, heads: int, head_dim: int, unit: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim)
        self.latent_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, heads * head_dim, bias=False)
        self.key_value = nn.Linear(dim, 2 * heads * head_dim, bias=False)
        self.out = nn.Linear(heads * head_dim, dim, bias=False)
        self.out_norm = nn.LayerNorm(dim)
        self.unit = UnitScales(head_dim) if unit else None

    def forward(self, tokens: Tensor, latents: Tensor) -> Tensor:
        """Update of latents (B, L, dim) that attend to tokens (B, M, dim) and to themselves."""
        latents = self.latent_norm(latents)
        query = self.query(latents).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        both = self.key_value(torch.cat((self.norm(tokens), latents), dim=1))
        key, value = both.unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        if self.unit is not None:
            query, key = (each.to(value.dtype) for each in self.unit(query, key))
        mixed = F.scaled_dot_product_attention(query, key, value, scale=None if self.unit is None else UNIT_SCALE)
        out: Tensor = self.out_norm(self.out(mixed.transpose(1, 2).flatten(2)))
        return out


class EfEmbedding(nn.Module):
    """Encoder of ejection fractions from 0 to 1 as tokens and a vector.

    zero_is_none: A fraction of exactly 0 gives the tokens of none, as in the published code.
    """

    def __init__(
        self, context: int, dim: int, heads: int, head_dim: int, *, latents: int, averages: int, depth: int, unit: bool,
        zero_is_none: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.zero_is_none = zero_is_none
        self.token = nn.Linear(1, context)
        self.none_token = nn.Parameter(torch.randn(context))
        self.none_vector = nn.Parameter(torch.randn(dim))
        self.position = nn.Parameter(torch.randn(context))
        self.latents = nn.Parameter(torch.randn(latents, context))
        self.average = nn.Sequential(nn.LayerNorm(context, bias=False), nn.Linear(context, averages * context))
        self.looks = nn.ModuleList(LatentAttention(context, heads, head_dim, unit) for _ in range(depth))
        self.thinks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(context, bias=False),
                nn.Linear(context, 4 * context, bias=False),
                nn.GELU(),
                nn.LayerNorm(4 * context, bias=False),
                nn.Linear(4 * context, context, bias=False),
            )
            for _ in range(depth)
        )
        self.vector = nn.Sequential(nn.LayerNorm(context), nn.Linear(context, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, ef: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, averages + latents, context) and vectors (B, dim) of fractions (B,); keep (B,) is False for unknown ones."""
        known = keep & (ef != 0) if self.zero_is_none else keep
        token = self.token(ef[:, None])
        token = torch.where(known[:, None], token, self.none_token.to(token.dtype))
        averages = self.average(token).unflatten(1, (-1, token.shape[1]))
        tokens = torch.cat((averages, self.latents.to(token.dtype).expand(len(ef), -1, -1)), dim=1)
        source = (token + self.position.to(token.dtype))[:, None]
        for look, think in zip(self.looks, self.thinks, strict=True):
            tokens = tokens + look(source, tokens)
            tokens = tokens + think(tokens)
        vector = self.vector(tokens.mean(1))
        return tokens, torch.where(keep[:, None], vector, self.none_vector.to(vector.dtype))
