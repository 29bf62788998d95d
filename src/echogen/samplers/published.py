"""Parallel decoding as ECHOPulse's code has it: guess all hidden tokens, hide the least sure again, repeat.

Unlike `maskgit.sample`, all tokens that are hidden at a step are filled, then the least sure of them are hidden again, by a plain
rank without noise or by a critic's scores. Source: the code of ECHOPulse (ICLR 2025), after Villegas et al., Phenaki, 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from echogen.errors import InputError
from echogen.samplers.maskgit import Generators, uniform

PredictPlaces = Callable[[Tensor, Tensor], Tensor]
Score = Callable[[Tensor], Tensor]

NEVER = -1e4
"""Rank of a token that is not to be hidden again."""
ANNEALS: dict[str, Callable[[int, int], float]] = {
    "fixed": lambda step, steps: 1.0,
    "decay": lambda step, steps: (steps - 1 - step) / steps,
    "increase": lambda step, steps: (step + 1) / steps,
}
"""How the noise on a critic's scores changes from step to step."""


CACHED = 1 << 19
"""How many logits a CPU handles at a time, so that what is made of them stays in its cache."""


class Chance(Protocol):
    """Where the sampler's random choices come from."""

    def choose(self, logits: Tensor, temperature: float, places: Tensor, step: int) -> Tensor:
        """Ids (B, K) from logits (B, K, V) of the places (B, K) among the new tokens; temperature 0 takes the likeliest."""

    def noise(self, shape: Sequence[int], step: int, device: torch.device) -> Tensor:
        """Uniform numbers in 0..1 for a critic's scores."""


@dataclass(frozen=True)
class Drawn:
    """Choices by a random generator (or one per row), with one uniform number per token."""

    generator: Generators

    def choose(self, logits: Tensor, temperature: float, places: Tensor, step: int) -> Tensor:
        """See `Chance`."""
        return draw_codes(logits, temperature, self.generator)

    def noise(self, shape: Sequence[int], step: int, device: torch.device) -> Tensor:
        """See `Chance`."""
        return uniform(shape, self.generator, device)


@dataclass(frozen=True)
class Recorded:
    """Choices by recorded uniform numbers, through the published Gumbel noise.

    gumbel (steps, B, new, V): one number for every new token and code. critic (steps - 1, B, new). None where nothing was drawn.
    """

    gumbel: Tensor | None = None
    critic: Tensor | None = None

    def choose(self, logits: Tensor, temperature: float, places: Tensor, step: int) -> Tensor:
        """See `Chance`."""
        if self.gumbel is None or temperature <= 0:
            return logits.argmax(-1)
        numbers = self.gumbel[step].to(logits.device)
        numbers = numbers.gather(1, places.unsqueeze(-1).expand(-1, -1, numbers.shape[-1]))
        gumbel = -torch.log(-torch.log(numbers + 1e-10) + 1e-10)
        return (logits / max(temperature, 1e-10) + gumbel).argmax(-1)

    def noise(self, shape: Sequence[int], step: int, device: torch.device) -> Tensor:
        """See `Chance`."""
        if self.critic is None:
            raise InputError("This record has no numbers for a critic; sample without one.")
        return self.critic[step].to(device)


def draw_codes(logits: Tensor, temperature: float, generator: Generators) -> Tensor:
    """Ids (B, K) drawn from softmax(logits (B, K, V) / temperature), 0 the likeliest, by one uniform number each.

    The inverse of the cumulative distribution is looked up first among groups of about sqrt(V) codes, then inside one.
    """
    if temperature <= 0:
        return logits.argmax(-1)
    numbers = uniform(logits.shape[:-1], generator, logits.device).unsqueeze(-1)
    parts = zip(_cached(logits), numbers.split(_tokens_cached(logits), dim=1), strict=True)
    return torch.cat([_looked_up((part.float() / temperature).softmax(-1), number) for part, number in parts], dim=1)


def _looked_up(probabilities: Tensor, numbers: Tensor) -> Tensor:
    """The codes (B, K) at which the cumulative sums of probabilities (B, K, V) pass the numbers (B, K, 1) in 0..1."""
    codes = probabilities.shape[-1]
    width = math.isqrt(codes - 1) + 1
    if codes % width:
        probabilities = F.pad(probabilities, (0, -codes % width))
    groups = probabilities.unflatten(-1, (-1, width))
    upto = groups.sum(-1).cumsum(-1)
    threshold = numbers * upto[..., -1:]
    group = torch.searchsorted(upto, threshold).clamp_max(upto.shape[-1] - 1)
    inside = groups.gather(-2, group.unsqueeze(-1).expand(*group.shape, width)).squeeze(-2).cumsum(-1)
    rest = threshold - (upto.gather(-1, group) - inside[..., -1:])
    code = torch.searchsorted(inside, rest).clamp_max(width - 1)
    return (group * width + code).squeeze(-1).clamp_max(codes - 1)


def likelihood(logits: Tensor, ids: Tensor) -> Tensor:
    """The probability (B, K) that logits (B, K, V) give to ids (B, K), in float32."""
    parts = zip(_cached(logits), ids.unsqueeze(-1).split(_tokens_cached(logits), dim=1), strict=True)
    return torch.cat([part.float().softmax(-1).gather(-1, each) for part, each in parts], dim=1).squeeze(-1)


def _cached(logits: Tensor) -> Sequence[Tensor]:
    """Logits (B, K, V) in parts of some tokens each."""
    return logits.split(_tokens_cached(logits), dim=1)


def _tokens_cached(logits: Tensor) -> int:
    """Tokens a part: on a CPU as many as stay in its cache, else all."""
    batch, tokens, codes = logits.shape
    return max(1, CACHED // (batch * codes)) if logits.device.type == "cpu" else max(1, tokens)


def hidden_count(step: int, steps: int, new: int) -> int:
    """How many of `new` tokens are hidden at a step: round(new cos(pi / 2 x step / steps)) in float32, at least 1."""
    progress = torch.full((1,), step / steps)
    return int((new * torch.cos(progress * math.pi * 0.5)).round().clamp(min=1))


def sample(
    predict: PredictPlaces,
    known: Tensor,
    new: int,
    mask_id: int,
    chance: Chance,
    *,
    steps: int = 18,
    temperature: float = 0.9,
    score: Score | None = None,
    noise_scale: float = 1.0,
    anneal: str = "decay",
) -> Tensor:
    """Ids (B, known + new): known ids (B, known, may be 0) stay as they are, `new` tokens after them are made in `steps` steps.

    predict(ids (B, N), places (B, K)) -> logits (B, K, V) of these places. The temperature falls from (steps - 1) / steps of the
    given one to 0. The least likely of the tokens just filled are hidden again; with score(ids) -> (B, N) those of highest
    score, plus uniform noise of noise_scale, annealed as one of `ANNEALS`.
    """
    if new < 1 or steps < 1:
        raise InputError("Sampling needs at least one new token and one step.")
    batch, start = known.shape
    ids = torch.cat((known, known.new_full((batch, new), mask_id)), dim=1)
    hidden = torch.arange(new, device=ids.device).expand(batch, -1)
    ranks: Tensor | None = None
    for step in range(steps):
        if ranks is not None:
            hidden = ranks.topk(hidden_count(step, steps, new), dim=-1).indices
            ids = ids.scatter(1, start + hidden, mask_id)
        logits = predict(ids, start + hidden)
        guess = chance.choose(logits, temperature * (steps - 1 - step) / steps, hidden, step)
        ids = ids.scatter(1, start + hidden, guess)
        if step == steps - 1:
            break
        if score is None:
            doubt = 1 - likelihood(logits, guess)
            ranks = doubt.new_full((batch, new), NEVER).scatter(1, hidden, doubt)
        else:
            noise = chance.noise((batch, new), step, ids.device) - 0.5
            ranks = score(ids)[:, start:] + noise_scale * noise * ANNEALS[anneal](step, steps)
    return ids
