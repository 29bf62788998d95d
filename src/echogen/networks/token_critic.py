"""Critics that tell the real tokens of a filled window from guessed ones.

Source: ECHOPulse (ICLR 2025), Eqs. 9 and 10, after Lezama et al., Token-Critic, 2022. The critics of the published code, whose
labels are the other way round, are in `published_transformer`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echogen.errors import InputError
from echogen.networks.config import CONFIG_FILE, load_network
from echogen.networks.masked_transformer import Conditioning, MaskedTransformer, MaskedTransformerConfig

#: Function that encodes a window's conditions for the network that it is given.
Condition = Callable[[MaskedTransformer], Conditioning]


class TokenCritic(nn.Module):
    """Critic with a transformer of its own, which encodes the conditions itself."""

    config_class: ClassVar = MaskedTransformerConfig

    def __init__(self, config: MaskedTransformerConfig) -> None:
        super().__init__()
        self.config = replace(config, cavity_cells=0)
        self.trunk = MaskedTransformer(self.config)
        self.trunk.head = nn.Linear(config.dim, 1)

    def forward(
        self, transformer: MaskedTransformer, ids: Tensor, times_s: Tensor, is_first: Tensor, condition: Condition
    ) -> Tensor:
        """Logits (B, T', S) that each token of ids (B, T', S, groups), none of them hidden, is real.

        transformer: Transformer that made the guesses; not used here.
        times_s: Times of the latent frames, as the transformer takes them.
        is_first: Mask of windows with a single-frame latent, as the transformer takes it.
        condition: Function that encodes the window's conditions for the network that it is given.
        """
        features = self.trunk.features(ids, times_s, is_first, condition(self.trunk))
        logits: Tensor = self.trunk.head(features).squeeze(-1)
        return logits


@dataclass(frozen=True)
class SelfCriticConfig:
    """Architecture of a `SelfCritic`.

    dim: Width of the transformer that made the guesses.
    """

    dim: int


class SelfCritic(nn.Module):
    """Critic of one linear layer on the features of the masked transformer itself, which learns both tasks."""

    config_class: ClassVar = SelfCriticConfig

    def __init__(self, config: SelfCriticConfig) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Linear(config.dim, 1)

    def forward(
        self, transformer: MaskedTransformer, ids: Tensor, times_s: Tensor, is_first: Tensor, condition: Condition
    ) -> Tensor:
        """Logits as of `TokenCritic`, from the transformer's features; gradients reach the transformer, too."""
        features = transformer.features(ids, times_s, is_first, condition(transformer))
        logits: Tensor = self.head(features).squeeze(-1)
        return logits


Critic = TokenCritic | SelfCritic


def make_critic(kind: str, transformer: MaskedTransformer) -> Critic | None:
    """Make an untrained critic of a kind ("token" or "self") for a transformer; None for "none"."""
    if kind == "token":
        return TokenCritic(transformer.config)
    return SelfCritic(SelfCriticConfig(transformer.config.dim)) if kind == "self" else None


def load_critic(folder: str | Path, transformer: MaskedTransformer) -> Critic:
    """Load the critic stored in a folder, of either kind.

    Raises `InputError` when there is none, its files are damaged, or it judges other tokens than the transformer makes.
    """
    try:
        stored: Any = json.loads((Path(folder) / CONFIG_FILE).read_text(encoding="utf-8"))
        name = stored.get("network")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"The critic in {folder} cannot be read; get the generator's folder again.") from error
    own = name == TokenCritic.__name__
    critic: Critic = load_network(TokenCritic, folder) if own else load_network(SelfCritic, folder)
    check_critic(critic, transformer)
    return critic


def check_critic(critic: Critic, transformer: MaskedTransformer) -> None:
    """Raise `InputError` when the critic judges other tokens than the transformer makes."""
    fields = ("dim",) if isinstance(critic, SelfCritic) else ("vocabulary", "groups", "spatial_positions", "max_latents")
    for field in fields:
        theirs, ours = getattr(critic.config, field), getattr(transformer.config, field)
        if theirs != ours:
            raise InputError(
                f"The critic has a {field} of {theirs} but the transformer one of {ours}; they do not belong together."
            )


@torch.no_grad()
def with_guesses(ids: Tensor, hidden: Tensor, logits: Tensor) -> Tensor:
    """Window that a critic learns from: ids (B, T', S, groups), the hidden ones drawn from the transformer's logits.

    hidden: Mask (B, T', S) of the hidden tokens.
    logits: Logits (hidden tokens, groups, vocabulary) of the transformer, drawn from at temperature 1.
    """
    guess = torch.distributions.Categorical(logits=logits.float(), validate_args=False).sample()
    return ids.masked_scatter(hidden.unsqueeze(-1), guess)


def critic_loss(logits: Tensor, filled: Tensor, ids: Tensor) -> Tensor:
    """Binary cross-entropy of a critic's logits (B, T', S): 1 where a token is the video's, 0 where it is not (Eqs. 9, 10).

    filled: Ids (B, T', S, groups) of the window that the critic saw; a guess that is right counts as real.
    ids: Ids (B, T', S, groups) of the video.
    """
    real = (filled == ids).all(-1)
    return F.binary_cross_entropy_with_logits(logits.float(), real.float())  # Eqs. 9 and 10
