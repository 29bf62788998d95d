"""Masked transformer that guesses the hidden ones of a window's video tokens from the others and from conditions.

Source: ECHOPulse (ICLR 2025), section 3.2 and Table 5, after Chang et al., MaskGIT, 2022.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echogen.errors import InputError
from echogen.networks.attention import Block, CrossContext, Tokens, rotary, rotary_pairs
from echogen.networks.conditioning import ClipCondition, EcgEncoderConfig, FrameFeatures, SmallEcgEncoder


@dataclass(frozen=True)
class MaskedTransformerConfig:
    """Architecture of a `MaskedTransformer`.

    vocabulary: Codes per group; their number is also the mask id.
    groups: Codes per position.
    spatial_positions: Tokens per latent frame.
    max_latents: Longest window in latent frames.
    dim: Width of the transformer.
    depth: Transformer blocks.
    heads: Attention heads.
    mlp_ratio: Width between the two layers of an MLP over dim.
    gated_mlp: Use the gated GEGLU in MLPs.
    qk_norm: Normalise queries and keys.
    cross_attention_every: Every n-th block attends to the context tokens; 0 for none.
    local_blocks: Blocks (from 0) that attend within each latent frame only, at the T'-th part of the cost.
    adaptive_norm: Steer the norms by clip condition and frame features; without it both are left out.
    frame_features: Numbers per latent frame that steer its norms; 0 for none.
    cavity_cells: Cells of a token's patch (all its frames) of which `cavity` says the share that is cavity; 0 for none.
    ecg: Encoder of context tokens; null where the caller brings tokens of width context_dim.
    context_dim: Width of context tokens that the caller brings.
    """

    vocabulary: int
    groups: int = 1
    spatial_positions: int = 64
    max_latents: int = 17
    dim: int = 256
    depth: int = 6
    heads: int = 4
    mlp_ratio: float = 4.0
    gated_mlp: bool = False
    qk_norm: bool = True
    cross_attention_every: int = 2
    local_blocks: tuple[int, ...] = ()
    adaptive_norm: bool = True
    frame_features: int = 0
    cavity_cells: int = 0
    ecg: EcgEncoderConfig | None = field(default_factory=EcgEncoderConfig)
    context_dim: int = 128

    def __post_init__(self) -> None:
        if self.dim % self.heads:
            raise InputError(f"The width {self.dim} is not a multiple of the number of heads {self.heads}.")
        if any(not 0 <= block < self.depth or self._has_context(block) for block in self.local_blocks):
            raise InputError("Local blocks must be blocks of the transformer that do not attend to the context.")
        if self.frame_features and not self.adaptive_norm:
            raise InputError("Frame features need the adaptive norm.")

    def _has_context(self, block: int) -> bool:
        """True if a block attends to the context tokens."""
        return bool(self.cross_attention_every) and (block + 1) % self.cross_attention_every == 0

    @property
    def mask_id(self) -> int:
        """Id of a hidden token."""
        return self.vocabulary

    @classmethod
    def paper(cls) -> MaskedTransformerConfig:
        """Config of ECHOPulse, Table 5: 6 x 16 x 16 tokens, 8192 codes, width 512, 6 layers, ECG tokens of width 768."""
        return cls(
            vocabulary=8192, spatial_positions=256, max_latents=6, dim=512, depth=6, heads=8, gated_mlp=True,
            cross_attention_every=1, adaptive_norm=False, ecg=None, context_dim=768,
        )  # fmt: skip


class Conditioning(NamedTuple):
    """Encoded conditions of a batch of windows, made once per sampling call.

    modulation: Shifts, scales and gates (B, T' or 1, 1, 6 dim) of the adaptive norm; None without one.
    context: Context tokens (B, M, dim) of cross-attention; None without it.
    """

    modulation: Tensor | None
    context: Tokens | None


class MaskedTransformer(nn.Module):
    """Bidirectional transformer over all T' x S tokens of a window, with rotary time in seconds."""

    config_class: ClassVar = MaskedTransformerConfig
    offsets: Tensor

    def __init__(self, config: MaskedTransformerConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        has_context = [config._has_context(i) for i in range(config.depth)]
        self.embed = nn.Embedding(config.groups * (config.vocabulary + 1), dim)
        self.position = nn.Parameter(torch.randn(config.spatial_positions, dim) * 0.02)
        self.first = nn.Parameter(torch.randn(dim) * 0.02)
        self.blocks = nn.ModuleList(
            Block(
                dim,
                config.heads,
                config.mlp_ratio,
                gated_mlp=config.gated_mlp,
                qk_norm=config.qk_norm,
                cross_attention=cross_attention,
                modulated=config.adaptive_norm,
            )
            for cross_attention in has_context
        )
        self.norm = nn.LayerNorm(dim, bias=False)
        self.head = nn.Linear(dim, config.groups * config.vocabulary)
        self.cavity = nn.Linear(dim, config.cavity_cells) if config.cavity_cells else None
        self.ecg = SmallEcgEncoder(config.ecg) if config.ecg is not None and any(has_context) else None
        width = config.ecg.dim if config.ecg is not None else config.context_dim
        self.context = nn.Linear(width, dim) if any(has_context) else None
        self.clip = ClipCondition(dim) if config.adaptive_norm else None
        self.frame = FrameFeatures(config.frame_features, dim) if config.frame_features else None
        self.modulate = nn.Linear(dim, 6 * dim) if config.adaptive_norm else None
        nn.init.normal_(self.embed.weight, std=0.02)
        if self.modulate is not None:
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)
        #: Index after the last block with attention across latents; later blocks run only on the requested latents.
        self._first_separate_block = 1 + max((i for i in range(config.depth) if i not in config.local_blocks), default=-1)
        offsets = torch.arange(config.groups) * (config.vocabulary + 1)
        self.register_buffer("offsets", offsets, persistent=False)

    def condition(
        self,
        batch: int,
        *,
        ecg: Tensor | None = None,
        ecg_start_s: Tensor | None = None,
        ecg_keep: Tensor | None = None,
        context: Tokens | None = None,
        ef_percent: Tensor | None = None,
        view: Tensor | None = None,
        sex: Tensor | None = None,
        frame_features: Tensor | None = None,
        frame_keep: Tensor | None = None,
    ) -> Conditioning:
        """Encode the conditions of `batch` windows; everything may be absent.

        ecg: Normalised leads (B, samples).
        ecg_start_s: Time of sample 0 (B,) in s, relative to the window; None is 0.
        ecg_keep: Mask (B,); False drops a row's ECG.
        context: Context tokens of the configured width, instead of an ECG.
        ef_percent: EF (B,) in %; nan for unknown.
        view: Number of the view (B,); 0 for unknown.
        sex: Number of the sex (B,); 0 for unknown.
        frame_features: Numbers (B, T', F) of the latent frames.
        frame_keep: Mask (B,); False drops a row's frame features.
        """
        device = self.position.device
        if ecg is not None and self.ecg is not None:
            start = ecg.new_zeros(batch) if ecg_start_s is None else ecg_start_s
            context = self.ecg(ecg, start, ecg_keep)
        if self.context is not None:
            context = self._no_tokens(batch) if context is None else context._replace(values=self.context(context.values))
        if self.modulate is None or self.clip is None:
            return Conditioning(None, context)
        nothing = torch.zeros(batch, dtype=torch.int64, device=device)
        unknown = torch.full((batch,), torch.nan, device=device)
        vector = self.clip(
            unknown if ef_percent is None else ef_percent, nothing if view is None else view, nothing if sex is None else sex
        ).unsqueeze(1)
        if self.frame is not None:
            if frame_features is None:
                frame_features, frame_keep = vector.new_zeros(batch, 1, self.config.frame_features), nothing.bool()
            keep = torch.ones(batch, dtype=torch.bool, device=device) if frame_keep is None else frame_keep
            vector = vector + self.frame(frame_features, keep)
        return Conditioning(self.modulate(F.silu(vector)).unsqueeze(2), context)

    def forward(
        self,
        ids: Tensor,
        times_s: Tensor,
        is_first: Tensor,
        conditioning: Conditioning,
        select: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, T', S, groups, vocabulary) of ids (B, T', S, groups), hidden ones being `config.mask_id`.

        times_s: Times (B, T') of the latent frames in s, relative to the window.
        is_first: Mask (B,); True where latent 0 is a single-frame latent.
        conditioning: Encoded conditions, from `condition`.
        select: Mask (B, T', S) of the positions to give logits (count, groups, vocabulary) of; None for all.
        """
        features = self.features(ids, times_s, is_first, conditioning)
        return self.logits(features if select is None else features[select])

    def logits(self, features: Tensor) -> Tensor:
        """Logits (..., groups, vocabulary) of `features` (..., dim)."""
        logits: Tensor = self.head(features)
        return logits.unflatten(-1, (self.config.groups, self.config.vocabulary))

    def features(
        self, ids: Tensor, times_s: Tensor, is_first: Tensor, conditioning: Conditioning, asked: slice = slice(None)
    ) -> Tensor:
        """Features (B, T', S, dim) of every token; of the asked latents alone where not all are needed; see `forward`."""
        latents, positions = ids.shape[1:3]
        if latents > self.config.max_latents or positions != self.config.spatial_positions:
            raise InputError(
                f"The transformer takes at most {self.config.max_latents} x {self.config.spatial_positions} tokens, "
                f"not {latents} x {positions}."
            )
        x = self.embed(ids + self.offsets).sum(3) + self.position
        starts = torch.zeros(latents, device=x.device).index_fill(0, torch.zeros(1, dtype=torch.int64, device=x.device), 1.0)
        x = x + (is_first.to(x.dtype)[:, None] * starts)[:, :, None, None] * self.first
        pairs = rotary_pairs(self.config.dim // self.config.heads)
        table = rotary(times_s.repeat_interleave(positions, dim=1), pairs)
        tokens, context = conditioning.context, None
        if tokens is not None:
            timed = tokens.times_s is not None
            keys = rotary(tokens.times_s, pairs) if tokens.times_s is not None else None
            context = CrossContext(tokens, table if timed else None, keys)
        modulation = conditioning.modulation
        for index, block in enumerate(self.blocks):
            if index == self._first_separate_block:
                x = x[:, asked]
                modulation = modulation if modulation is None or modulation.shape[1] == 1 else modulation[:, asked]
            if index in self.config.local_blocks:
                x = self._within_frames(block, x, modulation)
            else:
                x = block(x, table=table, context=context, modulation=modulation)
        normed: Tensor = self.norm(x if self._first_separate_block < len(self.blocks) else x[:, asked])
        return normed

    @staticmethod
    def _within_frames(block: nn.Module, x: Tensor, modulation: Tensor | None) -> Tensor:
        """Block over x (B, T', S, dim) in which tokens attend to their own latent frame only."""
        if modulation is not None:
            modulation = modulation.expand(*x.shape[:2], -1, -1).flatten(0, 1)
        mixed: Tensor = block(x.flatten(0, 1), modulation=modulation)
        return mixed.view(x.shape)

    def _no_tokens(self, batch: int) -> Tokens:
        """Context without tokens: cross-attention then attends to its null key only."""
        empty = self.position.new_zeros(batch, 0, self.config.dim)
        return Tokens(empty, None, torch.zeros(batch, 0, dtype=torch.bool, device=empty.device))
