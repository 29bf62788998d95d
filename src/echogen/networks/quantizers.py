"""Quantizers that turn continuous latents into discrete codes: FSQ, LFQ and cosine VQ behind one interface."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echogen.errors import InputError


@dataclass(frozen=True)
class QuantizerConfig:
    """Kind of quantizer, its codes, and the weights of its losses.

    kind: Kind of quantizer: fsq, lfq or vq.
    levels: Steps of each dimension of a code (fsq).
    codebook_size: Codes per group (vq; lfq, a power of two).
    codebook_dim: Width of a code (vq).
    groups: Codes per position.
    commitment_weight: Weight of the squared error between latents and their codes (lfq, vq).
    entropy_weight: Weight of the entropy terms (lfq).
    batch_entropy_weight: Weight of the entropy of the mean code over that of single codes (lfq).
    ema_decay: Decay rate of the running means that the codebook follows (vq).
    dead_code_threshold: Codes used less often than this per batch are restarted at inputs; 0 for none (vq).
    """

    kind: str = "fsq"
    levels: tuple[int, ...] = (8, 5, 5, 5)
    codebook_size: int = 8192
    codebook_dim: int = 32
    groups: int = 1
    commitment_weight: float = 0.25
    entropy_weight: float = 0.1
    batch_entropy_weight: float = 1.0
    ema_decay: float = 0.99
    dead_code_threshold: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in QUANTIZERS:
            raise InputError(f"A quantizer is one of {', '.join(QUANTIZERS)}, not {self.kind!r}.")
        if self.groups < 1 or min(self.levels) < 2 or self.codebook_size < 2:
            raise InputError("A quantizer needs at least one group, two levels per dimension and two codes.")
        if self.kind == "lfq" and self.codebook_size & (self.codebook_size - 1):
            raise InputError(f"The codebook size of LFQ must be a power of two, not {self.codebook_size}.")

    @property
    def vocabulary(self) -> int:
        """Codes per group."""
        return math.prod(self.levels) if self.kind == "fsq" else self.codebook_size

    @property
    def code_width(self) -> int:
        """Numbers per code."""
        if self.kind == "fsq":
            return len(self.levels)
        return self.codebook_dim if self.kind == "vq" else self.codebook_size.bit_length() - 1


class Quantized(NamedTuple):
    """Quantised latents.

    values: Latents (..., dim) made of codes, float32, with straight-through gradient.
    ids: Codes (..., groups), int64.
    loss: Scalar loss of the quantizer; 0 in evaluation.
    """

    values: Tensor
    ids: Tensor
    loss: Tensor


class Quantizer(nn.Module):
    """Quantizer between two projections: (..., dim) to groups x code_width numbers and back; always in float32."""

    def __init__(self, config: QuantizerConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        width = config.groups * config.code_width
        self.project_in = nn.Linear(dim, width)
        self.project_out = nn.Linear(width, dim)

    @property
    def vocabulary(self) -> int:
        """Codes per group."""
        return self.config.vocabulary

    def quantize(self, z: Tensor) -> Quantized:
        """Quantise z (..., groups, code_width): codes of the same shape, ids (..., groups), loss."""
        raise TypeError("Use one of the quantizer classes.")

    def codes(self, ids: Tensor) -> Tensor:
        """Codes (..., groups, code_width) of ids (..., groups)."""
        raise TypeError("Use one of the quantizer classes.")

    def forward(self, x: Tensor) -> Quantized:
        """Quantise latents x (..., dim)."""
        with torch.autocast(x.device.type, enabled=False):
            z = self.project_in(x.float()).unflatten(-1, (self.config.groups, self.config.code_width))
            codes, ids, loss = self.quantize(z)
            return Quantized(self.project_out(codes.flatten(-2)), ids, loss)

    def decode_ids(self, ids: Tensor) -> Tensor:
        """Values (..., dim) that `forward` gives for ids (..., groups)."""
        with torch.autocast(ids.device.type, enabled=False):
            values: Tensor = self.project_out(self.codes(ids).flatten(-2))
            return values


class FSQ(Quantizer):
    """Finite scalar quantization: each number is bounded and rounded to one of its levels.

    Source: Mentzer et al., Finite Scalar Quantization: VQ-VAE Made Simple, 2023, section 3.
    """

    levels: Tensor
    basis: Tensor

    def __init__(self, config: QuantizerConfig, dim: int) -> None:
        super().__init__(config, dim)
        levels = torch.tensor(config.levels)
        basis = torch.cumprod(torch.cat((torch.ones(1, dtype=torch.int64), levels[:-1])), 0)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("basis", basis, persistent=False)

    def quantize(self, z: Tensor) -> Quantized:
        """Bound with tanh so that every level is the nearest of some input, round, scale to about [-1, 1]."""
        half_width = self.levels // 2
        reach = (self.levels - 1) * (1 + 1e-3) / 2
        offset = (self.levels % 2 == 0) * 0.5
        bounded = torch.tanh(z + torch.atanh(offset / reach)) * reach - offset
        steps = bounded + (bounded.round() - bounded).detach()
        ids = ((steps.detach().round().long() + half_width) * self.basis).sum(-1)
        return Quantized(steps / half_width, ids, z.new_zeros(()))

    def nearby(self, ids: Tensor, share: Tensor) -> Tensor:
        """Ids (..., 1) of which a random share (broadcast to their shape) is a step up or down in one of its numbers."""
        digit = torch.randint(len(self.levels), ids.shape, device=ids.device)
        levels, basis = self.levels[digit], self.basis[digit]
        step = (ids // basis) % levels
        moved = torch.minimum((step + 2 * torch.randint(2, ids.shape, device=ids.device) - 1).clamp_min(0), levels - 1)
        return torch.where(torch.rand(ids.shape, device=ids.device) < share, ids + (moved - step) * basis, ids)

    def codes(self, ids: Tensor) -> Tensor:
        """Levels that an id stands for, in mixed radix."""
        half_width = self.levels // 2
        digits = ids.unsqueeze(-1) // self.basis % self.levels
        return (digits - half_width).float() / half_width


class LFQ(Quantizer):
    """Lookup-free quantization: each number becomes its sign; entropy terms make codes certain and evenly used.

    Source: Yu et al., Language Model Beats Diffusion, 2024, section 3.1. The batch entropy is of the joint code, exactly.
    """

    bits: Tensor

    def __init__(self, config: QuantizerConfig, dim: int) -> None:
        super().__init__(config, dim)
        self.register_buffer("bits", 2 ** torch.arange(config.code_width), persistent=False)

    def quantize(self, z: Tensor) -> Quantized:
        """Signs, and in training the commitment and entropy losses."""
        positive = z > 0
        signs = positive.float() * 2 - 1
        ids = (positive * self.bits).sum(-1)
        loss = z.new_zeros(())
        if self.training:
            sample, batch = lfq_entropies(z.flatten(0, -3))
            loss = self.config.commitment_weight * F.mse_loss(z, signs)
            loss = loss + self.config.entropy_weight * (sample - self.config.batch_entropy_weight * batch)
        return Quantized(z + (signs - z).detach(), ids, loss)

    def codes(self, ids: Tensor) -> Tensor:
        """Bits of an id as -1 and 1."""
        return (ids.unsqueeze(-1) & self.bits).ne(0).float() * 2 - 1


def lfq_entropies(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean entropy of each sample's code and entropy of the mean code, in nats, for z (N, groups, bits); mean over groups.

    A code c has probability softmax(-|z - c|^2), so bit i is positive with probability sigmoid(4 z_i), independently. The mean
    joint is the product of the joints of the two halves of the bits, summed over samples: one matrix product.
    """
    on, off = torch.sigmoid(4 * z), torch.sigmoid(-4 * z)
    sample = -(on * F.logsigmoid(4 * z) + off * F.logsigmoid(-4 * z)).sum(-1).mean()
    halves = []
    for part_on, part_off in zip(on.chunk(2, dim=-1), off.chunk(2, dim=-1), strict=True):
        joint = torch.ones_like(part_on[..., :1])
        for bit in range(part_on.shape[-1]):
            joint = torch.cat((joint * part_off[..., bit, None], joint * part_on[..., bit, None]), dim=-1)
        halves.append(joint)
    mean = halves[0].mean(0) if len(halves) == 1 else torch.einsum("nga,ngb->gab", *halves).flatten(1) / z.shape[0]
    batch = -(mean * mean.clamp_min(1e-12).log()).sum(-1).mean()
    return sample, batch


class VQ(Quantizer):
    """Vector quantization by cosine similarity with a codebook that follows the running mean of the latents it stands for.

    Source: van den Oord et al., 2017, appendix A.1 (running mean, Laplace smoothing); Yu et al., ViT-VQGAN, 2022 (cosine).
    """

    codebook: Tensor
    usage: Tensor
    sums: Tensor

    def __init__(self, config: QuantizerConfig, dim: int) -> None:
        super().__init__(config, dim)
        codebook = F.normalize(torch.randn(config.groups, config.codebook_size, config.codebook_dim), dim=-1)
        self.register_buffer("codebook", codebook)
        self.register_buffer("usage", torch.ones(config.groups, config.codebook_size))
        self.register_buffer("sums", codebook.clone())

    def quantize(self, z: Tensor) -> Quantized:
        """Replace each vector by the most similar one of the codebook, which in training then moves towards its uses."""
        flat = F.normalize(z.flatten(0, -3).transpose(0, 1), dim=-1)  # groups, N, width
        ids = torch.bmm(flat.detach(), self.codebook.float().transpose(1, 2)).argmax(-1)
        codes = self.codebook.float().gather(1, ids.unsqueeze(-1).expand(-1, -1, flat.shape[-1]))
        loss = z.new_zeros(())
        if self.training:
            loss = self.config.commitment_weight * F.mse_loss(flat, codes)
            self._follow(flat.detach(), ids)
        straight = flat + (codes - flat).detach()
        return Quantized(straight.transpose(0, 1).view(z.shape), ids.transpose(0, 1).reshape(z.shape[:-1]), loss)

    def codes(self, ids: Tensor) -> Tensor:
        """Rows of the codebook."""
        group = torch.arange(self.config.groups, device=ids.device).expand(ids.shape)
        return self.codebook.float()[group, ids]

    @torch.no_grad()
    def _follow(self, flat: Tensor, ids: Tensor) -> None:
        """Move the running means, and restart codes that are hardly used at inputs of this batch."""
        decay, size = self.config.ema_decay, self.config.codebook_size
        counts = torch.zeros_like(self.usage).scatter_add_(1, ids, torch.ones_like(ids, dtype=self.usage.dtype))
        totals = torch.zeros_like(self.sums).scatter_add_(1, ids.unsqueeze(-1).expand_as(flat), flat)
        self.usage.lerp_(counts, 1 - decay)
        self.sums.lerp_(totals, 1 - decay)
        if self.config.dead_code_threshold > 0:
            dead = self.usage < self.config.dead_code_threshold
            picks = torch.randint(flat.shape[1], dead.shape, device=flat.device)
            fresh = flat.gather(1, picks.unsqueeze(-1).expand_as(self.sums))
            self.sums.copy_(torch.where(dead.unsqueeze(-1), fresh * self.config.dead_code_threshold, self.sums))
            self.usage.masked_fill_(dead, self.config.dead_code_threshold)
        total = self.usage.sum(-1, keepdim=True)
        smoothed = (self.usage + 1e-5) / (total + size * 1e-5) * total
        self.codebook.copy_(F.normalize(self.sums / smoothed.unsqueeze(-1), dim=-1))


#: Classes of quantizers by kind.
QUANTIZERS: dict[str, type[Quantizer]] = {"fsq": FSQ, "lfq": LFQ, "vq": VQ}


def make_quantizer(config: QuantizerConfig, dim: int) -> Quantizer:
    """Make the quantizer that a config describes, for latents of width `dim`."""
    return QUANTIZERS[config.kind](config, dim)
