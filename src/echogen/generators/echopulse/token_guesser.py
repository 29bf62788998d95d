"""The tokens of a window, guessed in parallel in a few steps (MaskGIT), guided and ordered as the generator's settings say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from echogen.generators.echopulse.config import EchoPulseConfig
from echogen.generators.echopulse.window_request import TokenQuery, WindowRequest, encode_conditions, whole_window
from echogen.generators.precision import Precision
from echogen.networks.masked_transformer import Conditioning, MaskedTransformer
from echogen.networks.token_critic import Critic, TokenCritic
from echogen.networks.video_tokenizer import VideoTokenizerConfig
from echogen.records import Conditions
from echogen.samplers import halton
from echogen.samplers.maskgit import Score, linear_ramp, sample


@dataclass(frozen=True)
class GuessStep:
    """One step of parallel decoding.

    places: (hidden,) flat places of the tokens that were hidden before the step.
    log_p: (hidden, vocabulary) log-probabilities of their codes; of the first group where there are several.
    """

    places: Tensor
    log_p: Tensor


@dataclass(frozen=True)
class Guess:
    """The answer to a query, and how it came about.

    query: the query.
    tokens: (1, new, positions, groups) ids of the new tokens.
    steps: the steps of parallel decoding, in their order.
    temperature: temperature of the codes in each step.
    """

    query: TokenQuery
    tokens: Tensor
    steps: tuple[GuessStep, ...]
    temperature: tuple[float, ...]


#: Function that is called with every guess when it is complete.
Observer = Callable[[Guess], None]


class TokenGuesser:
    """Guesses the tokens of a window from its request: all that follows a first frame, by the student.

    transformer: guesses first frames, and encodes every window's conditions.
    student: guesses all that follows, in few steps; may be the transformer itself.
    critic: judges tokens where the order is "critic".
    observer: called with every guess, of first frames too; None observes nothing.
    """

    def __init__(
        self,
        transformer: MaskedTransformer,
        student: MaskedTransformer,
        critic: Critic | None,
        tokenizer: VideoTokenizerConfig,
        precision: Precision,
        observer: Observer | None = None,
    ) -> None:
        self.transformer, self.student, self.critic = transformer, student, critic
        self.tokenizer, self.precision, self.observer = tokenizer, precision, observer

    @torch.inference_mode()
    def guess(
        self,
        request: WindowRequest,
        kept: Tensor | None,
        until: int,
        *,
        seed: int,
        steps: int,
        guidance: float,
        config: EchoPulseConfig,
    ) -> Tensor:
        """Guess a window's latents up to number `until`: (1, until, positions, groups), the kept ones unchanged.

        guidance: scale of classifier-free guidance; 1 is none. config: settings of temperature, order and guided conditions.
        """
        given = 0 if kept is None else kept.shape[1]
        if kept is not None and given == until:
            return kept
        without: dict[str, Any] = dict.fromkeys(config.guided)
        rows = [request.conditions, replace(request.conditions, **without)]
        is_guided = guidance != 1.0 and any(getattr(request.conditions, name) is not None for name in config.guided)
        rows = rows[: 2 if is_guided else 1]
        with self.precision.autocast():
            query = self.query(request, rows, latents=request.latents, kept=kept, guidance=guidance)
            guessed = self.answer(
                self.student,
                query,
                until - given,
                steps=steps,
                seed=seed,
                temperature=linear_ramp(config.temperature, config.temperature_end, steps),
                choice_temperature=config.choice_temperature,
                order=self._order(config.latents)[given:until].flatten() if config.order == "halton" else None,
                score=self._score(request, kept, given) if config.order == "critic" else None,
            )
        return guessed if kept is None else torch.cat([kept, guessed], dim=1)

    def query(
        self, request: WindowRequest, rows: Sequence[Conditions], *, latents: int, kept: Tensor | None, guidance: float
    ) -> TokenQuery:
        """Return the query about the first `latents` latents of a window under one or two rows of conditions."""
        encoded = self.encode_conditions(request, rows)
        device = self.precision.device
        return TokenQuery.about(request, encoded, device, rows=len(rows), latents=latents, kept=kept, guidance=guidance)

    def encode_conditions(
        self, request: WindowRequest, rows: Sequence[Conditions], network: MaskedTransformer | None = None
    ) -> Conditioning:
        """Encode conditions by a network, the transformer unless another is given; see `window_request.encode_conditions`."""
        return encode_conditions(network or self.transformer, request, rows, self.precision.device)

    def answer(
        self,
        network: MaskedTransformer,
        query: TokenQuery,
        count: int,
        *,
        steps: int,
        seed: int,
        temperature: Sequence[float],
        choice_temperature: float,
        order: Tensor | None = None,
        score: Score | None = None,
    ) -> Tensor:
        """Return a network's answer to a query: the ids (1, count, positions, groups); see `maskgit.sample`."""
        recorded: list[GuessStep] = []
        observer = self.observer
        tokens = sample(
            query.logits_of(network),
            self.hidden(count),
            network.config.mask_id,
            steps=steps,
            generator=torch.Generator().manual_seed(seed),
            temperature=temperature,
            choice_temperature=choice_temperature,
            order=order,
            score=score,
            watch=None if observer is None else lambda places, log_p: recorded.append(GuessStep(places[0], log_p[0, :, 0])),
        )
        if observer is not None:
            observer(Guess(query, tokens, tuple(recorded), tuple(temperature)))
        return tokens

    def hidden(self, latents: int) -> Tensor:
        """Return hidden tokens (1, latents, positions, groups)."""
        config = self.transformer.config
        shape = (1, latents, config.spatial_positions, config.groups)
        return torch.full(shape, config.mask_id, device=self.precision.device)

    def _order(self, latents: int) -> Tensor:
        """(latents, positions) rank of every token of a window in Halton's order."""
        return _halton_order(latents, self.tokenizer.grid, self.tokenizer.active_patches).view(latents, -1)

    def _score(self, request: WindowRequest, kept: Tensor | None, given: int) -> Score:
        """Return the critic's function from new tokens (1, new, positions, groups) to logits that each is real."""
        critic, transformer = self.critic, self.transformer
        assert critic is not None
        network = critic.trunk if isinstance(critic, TokenCritic) else transformer
        encoded = self.encode_conditions(request, [request.conditions], network)
        times_s, is_first = request.latent_clock(1, self.precision.device)

        def score(tokens: Tensor) -> Tensor:
            window = whole_window(kept, tokens, request.latents, transformer.config.mask_id)
            judged: Tensor = critic(transformer, window, times_s, is_first, lambda network: encoded)
            return judged[:, given : given + tokens.shape[1]]

        return score


@lru_cache(maxsize=8)
def _halton_order(latents: int, grid: int, active: tuple[int, ...] | None) -> Tensor:
    return halton.order(latents, grid, grid, active)
