"""Losses and watches of adversarial tokenizer training: the adaptive weight of the GAN, and how far the codebook is used.

Source: ECHOPulse (ICLR 2025), section 3.1; Esser et al., Taming Transformers, 2021 (the adaptive weight).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

#: The adaptive weight is never above this.
LARGEST_WEIGHT = 1e4
#: Added to the norm of the adversarial gradient.
EPSILON = 1e-6


def adaptive_weight(perceptual: Tensor, adversarial: Tensor, last_layer: Sequence[Tensor]) -> Tensor:
    """ECHOPulse's Eq. 6: length of the perceptual loss's gradient at the decoder's last layer over that of the adversarial one.

    perceptual, adversarial: scalars whose graphs are kept. last_layer: weights of that layer. Gives a scalar without gradient
    between 0 and `LARGEST_WEIGHT`.
    """

    def length(loss: Tensor) -> Tensor:
        gradients = torch.autograd.grad(loss, last_layer, retain_graph=True, allow_unused=True)
        parts = [gradient.detach().float().flatten() for gradient in gradients if gradient is not None]
        return torch.cat(parts).norm() if parts else loss.new_zeros(())

    return (length(perceptual) / (length(adversarial) + EPSILON)).clamp(0.0, LARGEST_WEIGHT)


def some_frames(video: Tensor, count: int) -> Tensor:
    """Which frames of each clip of a video (B, T, ...) are looked at: (B, count) different numbers in order, at random."""
    batch, frames = video.shape[:2]
    return torch.rand(batch, frames, device=video.device).argsort(1)[:, :count].sort(1).values


class CodebookReport(NamedTuple):
    """Scalars over a window of steps.

    codes_used: share of all codes that occurred at all (0..1). perplexity: exp of the entropy of how often each occurs, 1 for
    a single code, the vocabulary for all alike. Both are means over groups. drawn_spread: how far the drawn pixels of a clip
    spread, over the spread of its real ones: 0 for clips of one colour, 1 as it should be; nan when the real ones do not spread.
    """

    codes_used: Tensor
    perplexity: Tensor
    drawn_spread: Tensor


class CodebookUse(nn.Module):
    """Counts codes and pixel spread over a window of steps; its buffers go into checkpoints, so that a resumed run counts on."""

    counts: Tensor
    spread: Tensor

    def __init__(self, vocabulary: int, groups: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(groups, vocabulary, dtype=torch.int64))
        self.register_buffer("spread", torch.zeros(2))

    @torch.no_grad()
    def add(self, ids: Tensor, drawn: Tensor, target: Tensor) -> None:
        """One step: ids (..., groups), drawn and real pixels (B, ...)."""
        flat = ids.flatten(0, -2).T.contiguous()
        self.counts.scatter_add_(1, flat, torch.ones_like(flat))
        self.spread += torch.stack([pixels.flatten(1).float().std(1).sum() for pixels in (drawn, target)])

    @torch.no_grad()
    def report(self) -> CodebookReport:
        """What was counted since the last report, over all processes; the counting begins anew."""
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
    """What has collapsed, in words that continue "Training stopped because": codes, colours, or None for neither.

    fewest_codes: the least perplexity; least_spread: the least `drawn_spread`.
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
