"""Losses and checks of adversarial tokenizer training: adaptive weight of the adversarial loss, and use of the codebook.

Source: ECHOPulse (ICLR 2025), section 3.1; Esser et al., Taming Transformers, 2021 (the adaptive weight).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

#: Highest adaptive weight: where the adversarial gradient vanishes, the ratio alone would have no bound.
LARGEST_WEIGHT = 1e4
#: Number added to the norm of the adversarial gradient, against division by zero (epsilon in Eq. 6).
EPSILON = 1e-6


def adaptive_weight(perceptual: Tensor, adversarial: Tensor, last_layer: Sequence[Tensor]) -> Tensor:
    """Norm of the perceptual loss's gradient at the decoder's last layer over that of the adversarial loss (ECHOPulse, Eq. 6).

    Gives a scalar without gradient between 0 and `LARGEST_WEIGHT`.

    perceptual, adversarial: Scalar losses whose graphs are kept.
    last_layer: Weights of the last layer.
    """

    def length(loss: Tensor) -> Tensor:
        gradients = torch.autograd.grad(loss, last_layer, retain_graph=True, allow_unused=True)
        parts = [gradient.detach().float().flatten() for gradient in gradients if gradient is not None]
        return torch.cat(parts).norm() if parts else loss.new_zeros(())

    return (length(perceptual) / (length(adversarial) + EPSILON)).clamp(0.0, LARGEST_WEIGHT)  # Eq. 6


def some_frames(video: Tensor, count: int) -> Tensor:
    """Random numbers (B, count) of different frames, in order, of each clip of a video (B, T, ...)."""
    batch, frames = video.shape[:2]
    return torch.rand(batch, frames, device=video.device).argsort(1)[:, :count].sort(1).values


class CodebookReport(NamedTuple):
    """Use of the codebook over a window of steps, as scalars.

    codes_used: Share of all codes that occurred at all, 0..1; mean over groups.
    perplexity: Exponential of the entropy of the codes' shares, 1 for a single code; mean over groups.
    drawn_spread: SD of the drawn pixels of a clip over that of its real ones: 0 for clips of one colour, 1 for real clips; nan
        where the real pixels do not vary.
    """

    codes_used: Tensor
    perplexity: Tensor
    drawn_spread: Tensor


class CodebookUse(nn.Module):
    """Counter of codes and pixel spread over a window of steps; its buffers go into checkpoints for resumed runs."""

    counts: Tensor
    spread: Tensor

    def __init__(self, vocabulary: int, groups: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(groups, vocabulary, dtype=torch.int64))
        self.register_buffer("spread", torch.zeros(2))

    @torch.no_grad()
    def add(self, ids: Tensor, drawn: Tensor, target: Tensor) -> None:
        """Count one step: ids (..., groups), drawn and real pixels (B, ...)."""
        flat = ids.flatten(0, -2).T.contiguous()
        self.counts.scatter_add_(1, flat, torch.ones_like(flat))
        self.spread += torch.stack([pixels.flatten(1).float().std(1).sum() for pixels in (drawn, target)])

    @torch.no_grad()
    def report(self) -> CodebookReport:
        """Report what was counted since the last report, over all processes, and begin to count anew."""
        counts, spread = self.counts.clone(), self.spread.clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(counts)
            torch.distributed.all_reduce(spread)
        self.counts.zero_()
        self.spread.zero_()
        share = counts.float() / counts.sum(1, keepdim=True).clamp_min(1)
        entropy = -torch.special.xlogy(share, share).sum(1)
        used = (counts > 0).float().mean()
        return CodebookReport(used, entropy.exp().mean(), spread[0] / spread[1])


def collapse(report: CodebookReport, fewest_codes: float, least_spread: float) -> str | None:
    """Describe a collapse of codes or colours, in words that continue "Training stopped because"; None where there is none.

    fewest_codes: Least perplexity.
    least_spread: Least `drawn_spread`.
    """
    if float(report.perplexity) < fewest_codes:
        return (
            f"the tokenizer fell back to few codes (as many as {float(report.perplexity):.1f} used alike,"
            f" {float(report.codes_used):.2%} of all); raise the quantizer's entropy_weight or dead_code_threshold,"
            " or lower the learning rate"
        )
    if float(report.drawn_spread) < least_spread:
        return (
            f"the drawn clips became one colour (their pixels spread {float(report.drawn_spread):.1%} as far as the real ones');"
            " lower the learning rate or the weight of the adversarial loss"
        )
    return None
