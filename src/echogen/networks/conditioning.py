"""Encoders of conditions: an ECG as tokens, clip labels and per-frame features as vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echogen.networks.attention import Block, Tokens, rotary, rotary_pairs

__all__ = ["ClipCondition", "EcgEncoderConfig", "FourierScalar", "FrameFeatures", "SmallEcgEncoder", "Tokens"]

#: Number of each view in an embedding; 0 stands for an unknown one.
VIEW_IDS = {None: 0, "A4C": 1, "A2C": 2}
#: Number of each sex in an embedding; 0 stands for an unknown one.
SEX_IDS = {None: 0, "m": 1, "f": 2}


@dataclass(frozen=True)
class EcgEncoderConfig:
    """Architecture of a `SmallEcgEncoder` of one lead.

    rate_hz: Sampling rate of the lead in Hz.
    patch: Samples of the lead in a token.
    stem_channels: Channels of the convolution over samples.
    stem_width: Samples that the convolution spans.
    dim: Width of the tokens.
    depth: Transformer blocks.
    heads: Attention heads.
    mlp_ratio: Width between the two layers of an MLP over the width of the tokens.
    """

    rate_hz: float = 128.0
    patch: int = 16
    stem_channels: int = 32
    stem_width: int = 7
    dim: int = 128
    depth: int = 2
    heads: int = 4
    mlp_ratio: float = 2.0


class SmallEcgEncoder(nn.Module):
    """Encoder of one ECG lead as tokens on the clock: a convolutional stem, then attention with rotary time."""

    config_class: ClassVar = EcgEncoderConfig

    def __init__(self, config: EcgEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv1d(1, config.stem_channels, config.stem_width, padding=config.stem_width // 2)
        self.embed = nn.Conv1d(config.stem_channels, config.dim, config.patch, stride=config.patch)
        self.blocks = nn.ModuleList(Block(config.dim, config.heads, config.mlp_ratio) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, bias=False)

    def forward(self, signal: Tensor, start_s: Tensor, keep: Tensor | None = None) -> Tokens:
        """Encode normalised leads (B, samples) as tokens at the centres of their patches, the last padded with zeros.

        start_s: Time of sample 0 (B,) in s, relative to the window.
        keep: Mask (B,); False hides the whole ECG of a row.
        """
        c = self.config
        signal = F.pad(signal, (0, -signal.shape[1] % c.patch))
        x = self.embed(F.gelu(self.stem(signal.unsqueeze(1)))).transpose(1, 2)
        centres = (torch.arange(x.shape[1], device=signal.device) * c.patch + (c.patch - 1) / 2) / c.rate_hz
        times = start_s.float().unsqueeze(1) + centres
        table = rotary(times, rotary_pairs(c.dim // c.heads))
        for block in self.blocks:
            x = block(x, table=table)
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        return Tokens(self.norm(x), times, mask if keep is None else mask & keep.unsqueeze(1))


class FourierScalar(nn.Module):
    """Encoder of a scalar as a vector by sines of octave frequencies and an MLP; an unknown (nan) one has a learned vector.

    scale: Span of the values that matter, for instance 100 for percent.
    """

    frequencies: Tensor

    def __init__(self, dim: int, scale: float, octaves: int = 5) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(octaves), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(1 + 2 * octaves, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.null = nn.Parameter(torch.randn(dim) * 0.02)

    def forward(self, value: Tensor) -> Tensor:
        """Vectors (..., dim) of values (...,), nan for unknown ones."""
        known = torch.isfinite(value)
        scaled = torch.where(known, value, 0.0).float().unsqueeze(-1) / self.scale
        angle = scaled * self.frequencies
        out: Tensor = self.mlp(torch.cat((scaled, angle.sin(), angle.cos()), dim=-1))
        return torch.where(known.unsqueeze(-1), out, self.null.to(out.dtype))


class ClipCondition(nn.Module):
    """Encoder of the conditions of a whole clip: EF, view and sex, each of which may be unknown."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.ef = FourierScalar(dim, scale=100.0)
        self.view = nn.Embedding(len(VIEW_IDS), dim)
        self.sex = nn.Embedding(len(SEX_IDS), dim)
        nn.init.normal_(self.view.weight, std=0.2)
        nn.init.normal_(self.sex.weight, std=0.2)

    def forward(self, ef_percent: Tensor, view: Tensor, sex: Tensor) -> Tensor:
        """Vectors (B, dim) of ef_percent (B,), nan for unknown; view (B,) and sex (B,) as in VIEW_IDS and SEX_IDS."""
        out: Tensor = self.ef(ef_percent) + self.view(view) + self.sex(sex)
        return out


class FrameFeatures(nn.Module):
    """Encoder of the numbers of every latent frame (heart phase, time since the R peak ...) as vectors, or a learned null."""

    def __init__(self, features: int, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(features, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.null = nn.Parameter(torch.randn(dim) * 0.02)

    def forward(self, features: Tensor, keep: Tensor) -> Tensor:
        """Vectors (B, T', dim) of features (B, T', F), finite and of order one; keep (B,) is False for unknown ones."""
        out: Tensor = self.mlp(torch.where(keep[:, None, None], features, 0.0))
        return torch.where(keep[:, None, None], out, self.null.to(out.dtype))
