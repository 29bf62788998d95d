"""Parallel decoding of masked tokens: guess all, keep the most certain, repeat.

Source: Chang et al., MaskGIT, 2022, section 3.2; Besnier et al., Halton scheduler, 2025, for a given order (`halton`); Lezama et
al., Token-Critic, 2022, for a critic's score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from echogen.errors import InputError

#: Function of ids (B, ..., groups) that gives logits (B, ..., groups, V).
Predict = Callable[[Tensor], Tensor]
#: Function of ids that gives logits with conditions, and without.
PredictPair = Callable[[Tensor], tuple[Tensor, Tensor]]
#: Function of ids (B, ..., groups) that gives scores (B, ...), higher for tokens that look real.
Score = Callable[[Tensor], Tensor]
#: Function that is called in each step with the masked places (B, N) and their log-probabilities (B, N, groups, V).
Watch = Callable[[Tensor, Tensor], None]
#: Function of the progress 0..1 that gives the share of tokens still masked.
Schedule = Callable[[float], float]
#: Random generator of a batch, or one for each row.
Generators = torch.Generator | Sequence[torch.Generator]


def cosine(progress: float) -> float:
    """Share of tokens still masked at a progress from 0 to 1 (ECHOPulse, Eq. 8)."""
    return math.cos(0.5 * math.pi * progress)  # Eq. 8


def masked_counts(masked: int, steps: int, schedule: Schedule = cosine) -> list[int]:
    """Number of `masked` positions still masked after each step: each step reveals at least one, the last all.

    Fewer positions than steps need fewer steps, so the list may be shorter than `steps`.
    """
    counts: list[int] = []
    left = masked
    for step in range(1, steps + 1):
        if left == 0:
            break
        left = 0 if step == steps else max(0, min(left - 1, math.floor(masked * schedule(step / steps) + 1e-9)))
        counts.append(left)
    return counts


def linear_ramp(start: float, end: float, steps: int) -> list[float]:
    """Values of all steps, from `start` at the first to `end` at the last."""
    return [start + (end - start) * step / max(steps - 1, 1) for step in range(steps)]


class Guided:
    """Classifier-free guidance around a prediction with and without conditions: see `guided`."""

    def __init__(self, predict_pair: PredictPair, scale: float | Sequence[float]) -> None:
        self.predict_pair = predict_pair
        self.scale = scale

    def __call__(self, ids: Tensor, step: int = 0) -> Tensor:
        """Guided logits of `ids` at a step of sampling."""
        conditional, unconditional = self.predict_pair(ids)
        return unconditional + _at(self.scale, step) * (conditional - unconditional)  # Ho and Salimans, Eq. 6


def guided(predict_pair: PredictPair, scale: float | Sequence[float]) -> Guided:
    """Guide a prediction: unconditional + scale (conditional - unconditional) logits.

    predict_pair: Function of ids that gives (conditional, unconditional) logits.
    scale: One number, or one per step (`linear_ramp`).
    Source: Ho and Salimans, Classifier-Free Diffusion Guidance, 2022, Eq. 6 with scale = 1 + w.
    """
    return Guided(predict_pair, scale)


def sample(
    predict: Predict | Guided,
    ids: Tensor,
    mask_id: int,
    *,
    steps: int,
    generator: Generators,
    schedule: Schedule = cosine,
    temperature: float | Sequence[float] = 1.0,
    choice_temperature: float = 4.5,
    order: Tensor | None = None,
    score: Score | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Fill the masked positions of `ids` (B, ..., groups) in at most `steps` calls of a prediction.

    A position is masked when its ids are mask_id; those that are not stay as they are. Every row needs as many masked positions.
    Positions are kept by confidence: log-probability summed over groups + choice_temperature, annealed to 0, x Gumbel noise.

    predict: Function that gives logits, guided or not.
    ids: Ids (B, ..., groups) of a batch.
    mask_id: Id of a masked position.
    steps: Most steps.
    generator: One, or one per row, so that a row does not depend on its batch; numbers are drawn on the generator's own device.
    schedule: Share of positions still masked at a progress.
    temperature: One, or one per step; 0 takes the likeliest code.
    choice_temperature: Strength of the noise on the confidence in the first step.
    order: Ranks (positions,) or (B, positions) by which positions are kept instead, lowest first.
    score: Function by whose scores (B, ...) positions are kept instead, the higher the more real: after each step all positions
        that were masked at first are judged, with the same noise, and the least real are masked again, those kept earlier too.
    watch: Function that is called in each step with the (flat) masked places and their log-probabilities.
    Raises `InputError` when rows differ in their number of masked positions, or both an order and a score are given.
    """
    if order is not None and score is not None:
        raise InputError("Tokens are kept in a given order or by a critic's score, not both; leave one out.")
    shape, groups = ids.shape, ids.shape[-1]
    flat = ids.reshape(shape[0], -1, groups).clone()
    hidden = (flat == mask_id).any(-1)
    per_row = hidden.sum(1)
    if (per_row != per_row[0]).any():
        raise InputError("Every row of a batch must have the same number of masked positions; sample such rows apart.")
    flat[hidden] = mask_id
    left = int(per_row[0])
    rows = torch.arange(shape[0], device=ids.device).unsqueeze(1)
    places = unknown = hidden.nonzero()[:, 1].view(shape[0], left)
    counts = masked_counts(left, steps, schedule)
    for step, remaining in enumerate(counts):
        logits = predict(flat.view(shape), step) if isinstance(predict, Guided) else predict(flat.view(shape))
        log_p = logits.reshape(*flat.shape, -1)[rows, places].float().log_softmax(-1)
        if watch is not None:
            watch(places, log_p)
        guess = draw(log_p, _at(temperature, step), generator)
        flat[rows, places] = guess
        if not remaining:
            break
        if order is not None:
            rank = order.to(ids.device).expand(shape[0], -1)
            preference = -rank.gather(1, places).double()
        else:
            if score is None:
                preference = log_p.gather(-1, guess.unsqueeze(-1)).sum((-1, -2))
            else:
                places = unknown
                preference = score(flat.view(shape)).reshape(shape[0], -1).gather(1, places).float()
            strength = choice_temperature * (1 - (step + 1) / len(counts))
            if strength > 0:
                preference = preference + strength * -(-uniform(preference.shape, generator, ids.device).log()).log()
        places = places.gather(1, preference.topk(remaining, dim=1, largest=False).indices).sort(1).values
        flat[rows, places] = mask_id
    return flat.view(shape)


def draw(log_p: Tensor, temperature: float, generator: Generators) -> Tensor:
    """Draw ids (B, N, groups) from softmax(log_p / temperature), by one uniform number each through the cumulative sum."""
    if temperature <= 0:
        return log_p.argmax(-1)
    cumulative = (log_p / temperature).softmax(-1).cumsum(-1)
    threshold = uniform(log_p.shape[:-1], generator, log_p.device).unsqueeze(-1) * cumulative[..., -1:]
    return torch.searchsorted(cumulative, threshold).squeeze(-1).clamp_max(log_p.shape[-1] - 1)


def uniform(shape: Sequence[int], generator: Generators, device: torch.device) -> Tensor:
    """Uniform numbers in the open interval (0, 1), row i of them from generator i when there is one per row."""
    if isinstance(generator, torch.Generator):
        numbers = torch.rand(tuple(shape), generator=generator, device=generator.device)
    else:
        rows = [torch.rand(tuple(shape[1:]), generator=each, device=each.device) for each in generator]
        numbers = torch.stack(rows)
    return numbers.to(device).clamp(1e-7, 1 - 1e-7)


def _at(value: float | Sequence[float], step: int) -> float:
    """Value of a step; the last one serves all later steps."""
    return float(value if isinstance(value, int | float) else value[min(step, len(value) - 1)])
