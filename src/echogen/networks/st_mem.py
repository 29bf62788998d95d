"""ST-MEM, the ECG encoder of ECHOPulse: a vision transformer over the patches of all leads of an ECG.

Source: Na et al., ICLR 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echogen.errors import InputError
from echogen.networks.attention import Tokens

#: Row of lead II among the twelve standard leads (I, II, III, aVR, aVL, aVF, V1..V6).
LEAD_II = 1


@dataclass(frozen=True)
class StMemConfig:
    """Architecture of an `StMem`; the defaults are ST-MEM's ViT-B.

    seq_len: Samples of a window.
    patch_size: Samples of a patch.
    num_leads: Number of leads that the encoder knows.
    width: Width of the tokens.
    depth: Transformer blocks.
    heads: Attention heads.
    head_dim: Width of a head; heads x head_dim may differ from width.
    mlp_dim: Width between the two layers of an MLP.
    rate_hz: Sampling rate of the ECG in Hz.

    Raises `InputError` when the patches do not fill the window or a size is below 1.
    """

    seq_len: int = 2250
    patch_size: int = 75
    num_leads: int = 12
    width: int = 768
    depth: int = 12
    heads: int = 12
    head_dim: int = 64
    mlp_dim: int = 3072
    rate_hz: float = 250.0

    def __post_init__(self) -> None:
        for name in ("seq_len", "patch_size", "num_leads", "width", "depth", "heads", "head_dim", "mlp_dim", "rate_hz"):
            if getattr(self, name) <= 0:
                raise InputError(f"The {name} of ST-MEM must be above 0, not {getattr(self, name)}.")
        if self.seq_len % self.patch_size:
            raise InputError(f"ST-MEM's patches of {self.patch_size} samples do not fill a window of {self.seq_len}; change one.")

    @classmethod
    def paper(cls) -> StMemConfig:
        """Config of the papers of ST-MEM and ECHOPulse and of their released files: ViT-B on 9 s of 12 leads, 85 M weights."""
        return cls()

    @property
    def patches(self) -> int:
        """Number of patches of a lead."""
        return self.seq_len // self.patch_size


class BiasedBlock(nn.Module):
    """Pre-norm transformer block with biases everywhere and neither gates nor query/key norm: that of the original ViT."""

    def __init__(self, width: int, heads: int, head_dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * head_dim)
        self.out = nn.Linear(heads * head_dim, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.rise = nn.Linear(width, mlp_dim)
        self.fall = nn.Linear(mlp_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x (B, N, width), in which all positions attend to each other."""
        batch, count, _ = x.shape
        query, key, value = self.qkv(self.attention_norm(x)).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, count, -1))
        return x + self.fall(F.gelu(self.rise(self.mlp_norm(x))))


def sine_positions(count: int, width: int) -> Tensor:
    """Position encoding (count, width): sines, then cosines, of position / 10000^(2i / width).

    Source: Vaswani et al., Attention Is All You Need, 2017, section 3.5, in the order of He et al., MAE, 2022.
    """
    half = (width + 1) // 2
    angles = torch.arange(count).unsqueeze(1) / 10000.0 ** (torch.arange(half) / half)
    return torch.cat((angles.sin(), angles.cos()), dim=1)[:, :width]


def initialise(network: nn.Module) -> None:
    """Set matrices to Xavier-uniform numbers and biases to zero, as the training of ViTs begins."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


class StMem(nn.Module):
    """Encoder of ECG leads as tokens on the clock, one a patch.

    Every lead is a sequence of its patches between two separators, all with the embedding of that lead; all leads attend to
    each other. A lead that was not recorded is left out, not filled with zeros. The positions are fixed.
    """

    config_class: ClassVar = StMemConfig
    position: Tensor

    def __init__(self, config: StMemConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_norm = nn.LayerNorm(config.patch_size)
        self.patch_projection = nn.Linear(config.patch_size, config.width)
        self.patch_out_norm = nn.LayerNorm(config.width)
        self.register_buffer("position", sine_positions(config.patches + 2, config.width))
        self.separator = nn.Parameter(torch.randn(config.width) * 0.02)
        self.lead = nn.Parameter(torch.randn(config.num_leads, config.width) * 0.02)
        self.blocks = nn.ModuleList(
            BiasedBlock(config.width, config.heads, config.head_dim, config.mlp_dim) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        initialise(self)

    def patches(self, ecg: Tensor) -> Tensor:
        """Patches (B, leads, patches, patch_size) of an ECG (B, leads, samples).

        Raises `InputError` for another number of samples.
        """
        c = self.config
        if ecg.dim() != 3 or ecg.shape[2] != c.seq_len:
            raise InputError(
                f"This ECG encoder needs (batch, leads, {c.seq_len}) samples, {c.seq_len / c.rate_hz:g} s at {c.rate_hz:g} Hz,"
                f" not {tuple(ecg.shape)}."
            )
        return ecg.to(self.patch_projection.weight.dtype).unflatten(2, (c.patches, c.patch_size))

    def patch_embedding(self, patches: Tensor) -> Tensor:
        """Embeddings (..., width) of patches (..., patch_size), each by itself."""
        embedded: Tensor = self.patch_out_norm(self.patch_projection(self.patch_norm(patches)))
        return embedded

    def lead_indices(self, count: int, leads: Sequence[int] | None) -> list[int]:
        """Indices of `count` rows among the standard leads: `leads`, or all in order.

        Raises `InputError` where they do not fit.
        """
        known = self.config.num_leads
        chosen = list(range(known)) if leads is None else [int(lead) for lead in leads]
        if len(chosen) != count:
            raise InputError(f"The ECG has {count} leads, but which leads they are is said for {len(chosen)}; name each of them.")
        for lead in chosen:
            if not 0 <= lead < known:
                raise InputError(f"This ECG encoder knows the leads 0 to {known - 1}, not lead {lead}.")
        return chosen

    def attend(self, embedded: Tensor, leads: list[int]) -> Tensor:
        """Transform patch embeddings with their positions (B, leads, any number, width) by all blocks, without the final norm."""
        batch, rows, _, width = embedded.shape
        lead = self.lead[leads].unsqueeze(1)
        before, after = (self.separator + self.position[end] + lead for end in (0, -1))
        before, after = (edge.expand(batch, rows, 1, width) for edge in (before, after))
        x = torch.cat((before, embedded + lead, after), dim=2)
        count = x.shape[2]
        x = x.flatten(1, 2)
        for block in self.blocks:
            x = block(x)
        return x.unflatten(1, (rows, count))[:, :, 1:-1]

    def encode(self, ecg: Tensor, leads: Sequence[int] | None = None) -> Tensor:
        """Encode an ECG as (B, leads, patches, width), without the final norm; arguments and errors as in `forward`."""
        patches = self.patches(ecg)
        indices = self.lead_indices(patches.shape[1], leads)
        return self.attend(self.patch_embedding(patches) + self.position[1:-1], indices)

    def forward(self, ecg: Tensor, start_s: Tensor | None = None, leads: Sequence[int] | None = None) -> Tokens:
        """Tokens of every patch, lead after lead, at the times of the patch centres.

        ecg: Standardised leads (B, leads, seq_len) at rate_hz.
        start_s: Time of sample 0 (B,) in s; None is 0.
        leads: Index of each row among the standard leads I, II, III, aVR, aVL, aVF, V1..V6; None when all are there.
        Raises `InputError` for another length, an index out of range, or as many indices as there are not rows.
        """
        c = self.config
        encoded = self.norm(self.encode(ecg, leads))
        batch, rows = encoded.shape[:2]
        centres = (torch.arange(c.patches, device=ecg.device) * c.patch_size + (c.patch_size - 1) / 2) / c.rate_hz
        start = torch.zeros(batch, device=ecg.device) if start_s is None else start_s.float()
        times = (start.unsqueeze(1) + centres).repeat(1, rows)
        return Tokens(encoded.flatten(1, 2), times, torch.ones_like(times, dtype=torch.bool))

    def pooled(self, ecg: Tensor) -> Tensor:
        """Mean (B, width) over the patches of lead II, then the norm, of an ECG (B, leads, seq_len) with all leads.

        This is the form in which ECHOPulse's released networks take an ECG.
        """
        pooled: Tensor = self.norm(self.encode(ecg)[:, LEAD_II].mean(1))
        return pooled
