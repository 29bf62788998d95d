"""Training of ST-MEM without labels: most patches of every lead are hidden, and drawn from the rest.

Source: Na et al., ICLR 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from echogen.errors import InputError
from echogen.networks.st_mem import BiasedBlock, StMem, StMemConfig, initialise, sine_positions


@dataclass(frozen=True)
class StMemPretrainingConfig:
    """Encoder to be trained, the decoder that is thrown away afterwards, and the share of hidden patches.

    encoder: Architecture of the encoder.
    decoder_width: Width of the decoder.
    decoder_depth: Transformer blocks of the decoder.
    decoder_heads: Attention heads of the decoder.
    decoder_head_dim: Width of a head of the decoder.
    decoder_mlp_dim: Width between the two layers of an MLP of the decoder.
    mask_ratio: Share of the patches that are hidden, 0..1.
    """

    encoder: StMemConfig = field(default_factory=StMemConfig)
    decoder_width: int = 256
    decoder_depth: int = 4
    decoder_heads: int = 4
    decoder_head_dim: int = 64
    decoder_mlp_dim: int = 1024
    mask_ratio: float = 0.75

    def __post_init__(self) -> None:
        if not 0 < self.mask_ratio < 1 or self.kept_patches >= self.encoder.patches:
            raise InputError(
                f"The mask_ratio {self.mask_ratio} must hide some but not all of the {self.encoder.patches} patches of a lead."
            )

    @property
    def kept_patches(self) -> int:
        """Number of patches of a lead that the encoder sees; at least one."""
        return max(int(self.encoder.patches * (1 - self.mask_ratio) + 1e-6), 1)

    @classmethod
    def paper(cls) -> StMemPretrainingConfig:
        """Config of the paper: ViT-B, three quarters hidden, a decoder of 4 layers."""
        return cls()


class Reconstruction(NamedTuple):
    """Drawn patches of an ECG.

    loss: Mean squared error over the hidden patches.
    patches: Drawn patches (B, leads, patches, patch_size), each normalised.
    hidden: Mask (B, leads, patches); True where the encoder did not see the patch.
    """

    loss: Tensor
    patches: Tensor
    hidden: Tensor


def normalise_patches(patches: Tensor) -> Tensor:
    """Shift and scale each patch (..., patch_size) to mean 0 and variance 1."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) * (variance + 1e-6).rsqrt()


class StMemPretraining(nn.Module):
    """Encoder over the visible patches of all leads, and a small decoder that draws each lead from that lead's tokens alone.

    What one lead tells of another must pass through the encoder so. The decoder's weights are shared by the leads.
    """

    config_class: ClassVar = StMemPretrainingConfig
    decoder_position: Tensor

    def __init__(self, config: StMemPretrainingConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = StMem(config.encoder)
        width = config.decoder_width
        self.bridge = nn.Linear(config.encoder.width, width)
        self.hidden_patch = nn.Parameter(torch.randn(width) * 0.02)
        self.register_buffer("decoder_position", sine_positions(config.encoder.patches, width))
        self.decoder = nn.ModuleList(
            BiasedBlock(width, config.decoder_heads, config.decoder_head_dim, config.decoder_mlp_dim)
            for _ in range(config.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(width)
        self.drawn = nn.Linear(width, config.encoder.patch_size)
        for part in (self.bridge, self.decoder, self.drawn):
            initialise(part)

    def draw_kept(self, batch: int, leads: int, device: torch.device | None = None) -> Tensor:
        """Random indices (B, leads, kept_patches) of the patches to keep in each lead, from torch's global generator."""
        noise = torch.rand(batch, leads, self.config.encoder.patches, device=device)
        return noise.argsort(-1)[..., : self.config.kept_patches].sort(-1).values

    def forward(self, ecg: Tensor, leads: Sequence[int] | None = None, kept: Tensor | None = None) -> Reconstruction:
        """Hide patches of an ECG (B, leads, seq_len) and draw them.

        kept: Indices (B, leads, any number) of the patches that the encoder sees, not all; None draws them.
        leads: Indices of the leads, as in `StMem.forward`.
        Raises `InputError` for another length, or leads that do not fit.
        """
        encoder = self.encoder
        patches = encoder.patches(ecg)
        indices = encoder.lead_indices(patches.shape[1], leads)
        if kept is None:
            kept = self.draw_kept(patches.shape[0], patches.shape[1], ecg.device)
        visible = patches.gather(2, kept.unsqueeze(-1).expand(-1, -1, -1, patches.shape[-1]))
        encoded = encoder.norm(encoder.attend(encoder.patch_embedding(visible) + encoder.position[1:-1][kept], indices))
        drawn = self._draw(encoded, kept)
        hidden = torch.ones(patches.shape[:3], dtype=torch.bool, device=ecg.device).scatter(2, kept, False)
        error = (drawn.float() - normalise_patches(patches.float())).square().mean(-1)
        return Reconstruction((error * hidden).sum() / hidden.sum(), drawn, hidden)

    def _draw(self, encoded: Tensor, kept: Tensor) -> Tensor:
        """Draw all patches (B, leads, patches, patch_size) from the tokens (B, leads, kept, width) of the kept ones."""
        batch, rows, _ = kept.shape
        tokens = self.bridge(encoded)
        x = self.hidden_patch.to(tokens.dtype).expand(batch, rows, self.config.encoder.patches, -1)
        x = x.scatter(2, kept.unsqueeze(-1).expand_as(tokens), tokens) + self.decoder_position
        x = x.flatten(0, 1)
        for block in self.decoder:
            x = block(x)
        drawn: Tensor = self.drawn(self.decoder_norm(x))
        return drawn.unflatten(0, (batch, rows))
