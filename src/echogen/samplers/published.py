"""Parallel decoding of ECHOPulse's code: guess all hidden tokens, hide the least certain again, repeat.

Unlike `maskgit.sample`, all tokens that are hidden at a step are filled, then the least certain of them are hidden again, by a
plain rank without noise or by a critic's scores. Source: the code of ECHOPulse (ICLR 2025), after Villegas et al., Phenaki, 2023.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from echogen.errors import InputError
from echogen.samplers.maskgit import Generators, uniform

#: Function of ids (B, N) and places (B, K) that gives logits (B, K, V) of these places.
PredictPlaces = Callable[[Tensor, Tensor], Tensor]
#: Function of ids (B, N) that gives scores (B, N), higher for tokens that are to be drawn anew.
Score = Callable[[Tensor], Tensor]

#: Rank of a token that is not to be hidden again, below all probabilities.
NEVER = -1e4
#: Factors of the noise on a critic's scores, by step and number of steps.
ANNEALS: dict[str, Callable[[int, int], float]] = {
    "fixed": lambda step, steps: 1.0,
    "decay": lambda step, steps: (steps - 1 - step) / steps,
    "increase": lambda step, steps: (step + 1) / steps,
}
#: Logits that a CPU handles at a time, so few that its cache holds them.
CACHED = 1 << 19


class Choices(Protocol):
    """Source of the sampler's random choices."""

    def choose(self, logits: Tensor, temperature: float, places: Tensor, step: int) -> Tensor:
        """Ids (B, K) from logits (B, K, V) of the places (B, K) among the new tokens; temperature 0 takes the likeliest."""

    def noise(self, shape: Sequence[int], step: int, device: torch.device) -> Tensor:
        """Uniform numbers in 0..1 for a critic's scores."""


@dataclass(frozen=True)
class RandomChoices:
    """Choices by random generators, with one uniform number per token.

    generator: Random generator of the batch, or one for each row.
    """

    generator: Generators

    def choose(self, logits: Tensor, temperature: float, places: Tensor, step: int) -> Tensor:
        """See `Choices`."""
        return draw_codes(logits, temperature, self.generator)

    def noise(self, shape: Sequence[int], step: int, device: torch.device) -> Tensor:
        """See `Choices`."""
        return uniform(shape, self.generator, device)


@dataclass(frozen=True)
class RecordedChoices:
    """Choices by recorded uniform numbers, through the published Gumbel noise.

    gumbel: Numbers (steps, B, new, V), one for every new token and code; None where the likeliest codes were taken.
    critic: Numbers (steps - 1, B, new) for a critic's scores; None without a critic.
    """

    gumbel: Tensor | None = None
    critic: Tensor | None = None

    def choose(self, logits: Tensor, temperature: float, places: Tensor, step: int) -> Tensor:
        """See `Choices`."""
        if self.gumbel is None or temperature <= 0:
            return logits.argmax(-1)
        numbers = self.gumbel[step].to(logits.device)
        numbers = numbers.gather(1, places.unsqueeze(-1).expand(-1, -1, numbers.shape[-1]))
        gumbel = -torch.log(-torch.log(numbers + 1e-10) + 1e-10)
        return (logits / max(temperature, 1e-10) + gumbel).argmax(-1)

    def noise(self, shape: Sequence[int], step: int, device: torch.device) -> Tensor:
        """See `Choices`."""
        if self.critic is None:
            raise InputError("This record has no numbers for a critic; sample without one.")
        return self.critic[step].to(device)


def draw_codes(logits: Tensor, temperature: float, generator: Generators) -> Tensor:
    """Draw ids (B, K) from softmax(logits (B, K, V) / temperature), 0 the likeliest, by one uniform number each.

    The inverse of the cumulative distribution is looked up first among groups of about sqrt(V) codes, then inside one.
    """
    if temperature <= 0:
        return logits.argmax(-1)
    numbers = uniform(logits.shape[:-1], generator, logits.device).unsqueeze(-1)
    parts = zip(_cached(logits), numbers.split(_tokens_cached(logits), dim=1), strict=True)
    return torch.cat([_looked_up((part.float() / temperature).softmax(-1), number) for part, number in parts], dim=1)


def _looked_up(probabilities: Tensor, numbers: Tensor) -> Tensor:
    """Codes (B, K) at which the cumulative sums of probabilities (B, K, V) pass the numbers (B, K, 1) in 0..1."""
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
    """Probabilities (B, K) that logits (B, K, V) give to ids (B, K), in float32."""
    parts = zip(_cached(logits), ids.unsqueeze(-1).split(_tokens_cached(logits), dim=1), strict=True)
    return torch.cat([part.float().softmax(-1).gather(-1, each) for part, each in parts], dim=1).squeeze(-1)


def _cached(logits: Tensor) -> Sequence[Tensor]:
    """Logits (B, K, V) in parts of some tokens each."""
    return logits.split(_tokens_cached(logits), dim=1)


def _tokens_cached(logits: Tensor) -> int:
    """Number of tokens in a part: on a CPU as many as its cache holds, else all."""
    batch, tokens, codes = logits.shape
    return max(1, CACHED // (batch * codes)) if logits.device.type == "cpu" else max(1, tokens)


def hidden_count(step: int, steps: int, new: int) -> int:
    """Number of `new` tokens hidden at a step: round(new cos(pi / 2 x step / steps)) in float32, at least 1 (Eq. 8)."""
    progress = torch.full((1,), step / steps)
    return int((new * torch.cos(progress * math.pi * 0.5)).round().clamp(min=1))  # Eq. 8


def sample(
    predict: PredictPlaces,
    known: Tensor,
    new: int,
    mask_id: int,
    choices: Choices,
    *,
    steps: int = 18,
    temperature: float = 0.9,
    score: Score | None = None,
    noise_scale: float = 1.0,
    anneal: str = "decay",
) -> Tensor:
    """Sample ids (B, known + new): known ids stay as they are, `new` tokens after them are made in `steps` steps.

    predict: Function of ids (B, N) and places (B, K) that gives logits (B, K, V) of these places.
    known: Ids (B, known) that are given; there may be none.
    new: Number of tokens to make.
    mask_id: Id of a hidden token.
    choices: Source of random choices.
    steps: Number of steps.
    temperature: Temperature, which falls from (steps - 1) / steps of this to 0.
    score: Function by whose scores (B, N) the highest are hidden again; None hides the least likely of those just filled.
    noise_scale: Span of the uniform noise on the scores.
    anneal: Change of the noise from step to step, one of `ANNEALS`.
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
        guess = choices.choose(logits, temperature * (steps - 1 - step) / steps, hidden, step)
        ids = ids.scatter(1, start + hidden, guess)
        if step == steps - 1:
            break
        if score is None:
            doubt = 1 - likelihood(logits, guess)
            ranks = doubt.new_full((batch, new), NEVER).scatter(1, hidden, doubt)
        else:
            noise = choices.noise((batch, new), step, ids.device) - 0.5
            ranks = score(ids)[:, start:] + noise_scale * noise * ANNEALS[anneal](step, steps)
    return ids


#: Names of this module that are still understood, and their present names.
_FORMER_NAMES: dict[str, type[Any]] = {"Chance": Choices, "Drawn": RandomChoices, "Recorded": RecordedChoices}


def __getattr__(name: str) -> Any:
    if name not in _FORMER_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    present = _FORMER_NAMES[name]
    warnings.warn(f"{__name__}.{name} is called {present.__name__} now.", DeprecationWarning, stacklevel=2)
    return present
