"""Critics tell guessed tokens from real ones, by the paper's labels: 1 is real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from echogen.errors import InputError
from echogen.networks.config import save_network
from echogen.networks.masked_transformer import Conditioning, MaskedTransformer, MaskedTransformerConfig
from echogen.networks.token_critic import Critic, critic_loss, load_critic, make_critic, with_guesses

V = 8
CONFIG = MaskedTransformerConfig(
    vocabulary=V, spatial_positions=4, max_latents=2, dim=32, depth=2, heads=2, cross_attention_every=0, adaptive_norm=False,
    ecg=None,
)  # fmt: skip
TIMES = torch.tensor([[0.0, 0.1]])


def condition(network: MaskedTransformer) -> Conditioning:
    return network.condition(1)


def windows(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Windows with one token for each place, the same with many tokens guessed at random, and which are."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.arange(V).view(1, 2, 4, 1).expand(count, -1, -1, -1)
    hidden = torch.rand(count, 2, 4, generator=generator) < 0.4
    guesses = torch.randint(0, V, ids.shape, generator=generator)
    return ids, torch.where(hidden.unsqueeze(-1), guesses, ids), hidden


def judge(critic: Critic, transformer: MaskedTransformer, ids: torch.Tensor) -> torch.Tensor:
    first = torch.ones(len(ids), dtype=torch.bool)
    return critic(transformer, ids, TIMES.expand(len(ids), -1), first, condition)


def trained(kind: str, steps: int) -> tuple[Critic, MaskedTransformer]:
    torch.manual_seed(0)
    transformer = MaskedTransformer(CONFIG)
    critic = make_critic(kind, transformer)
    assert critic is not None
    weights = {*critic.parameters(), *(transformer.parameters() if kind == "self" else ())}
    optimizer = torch.optim.Adam(weights, lr=5e-3)
    for step in range(steps):
        ids, shown, _ = windows(32, step)
        loss = critic_loss(judge(critic, transformer, shown), shown, ids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return critic, transformer


@pytest.mark.parametrize("kind", ["token", "self"])
def test_a_trained_critic_scores_real_tokens_above_guessed_ones(kind: str) -> None:
    critic, transformer = trained(kind, 60)
    ids, shown, _ = windows(64, 999)
    with torch.no_grad():
        scores = judge(critic, transformer, shown)
    real = (shown == ids).all(-1)
    assert scores.shape == ids.shape[:3]
    ranked = (scores[real].unsqueeze(1) > scores[~real]).float().mean()  # area under the curve
    assert float(ranked) > 0.9


def test_real_is_one_and_a_right_guess_is_real() -> None:
    ids = torch.tensor([[[[1], [2], [3], [4]]]])
    shown = torch.tensor([[[[1], [5], [3], [6]]]])
    judged = torch.tensor([[[9.0, -9.0, 9.0, -9.0]]])
    assert float(critic_loss(judged, shown, ids)) < 0.01
    assert float(critic_loss(-judged, shown, ids)) > 5
    certain = torch.tensor([[[0.5, 0.5, 0.5, 0.5]]]).logit()
    assert float(critic_loss(certain, shown, ids)) == pytest.approx(float(torch.tensor(2.0).log()))


def test_only_hidden_tokens_are_drawn_from_the_logits() -> None:
    ids = torch.zeros(2, 2, 4, 2, dtype=torch.int64)
    hidden = torch.zeros(2, 2, 4, dtype=torch.bool)
    hidden[0, 1, 2] = hidden[1, 0, 0] = True
    logits = torch.full((2, 2, V), -50.0)
    for row, codes in enumerate(((3, 4), (5, 6))):
        logits[row, torch.arange(2), torch.tensor(codes)] = 50.0
    shown = with_guesses(ids, hidden, logits)
    assert shown[0, 1, 2].tolist() == [3, 4]
    assert shown[1, 0, 0].tolist() == [5, 6]
    assert int((shown != 0).sum()) == 4


@pytest.mark.parametrize(("kind", "reached"), [("self", True), ("token", False)])
def test_only_a_self_critic_teaches_the_transformer(kind: str, reached: bool) -> None:
    critic, transformer = trained(kind, 0)
    ids, shown, _ = windows(4, 0)
    critic_loss(judge(critic, transformer, shown), shown, ids).backward()
    assert (transformer.embed.weight.grad is not None) == reached
    assert all(weight.grad is not None for weight in critic.parameters())


@pytest.mark.parametrize("kind", ["token", "self"])
def test_a_critic_is_stored_and_must_fit_its_transformer(kind: str, tmp_path: Path) -> None:
    critic, transformer = trained(kind, 0)
    save_network(critic, tmp_path)
    ids = windows(3, 1)[0]
    with torch.no_grad():
        again = load_critic(tmp_path, transformer)
        torch.testing.assert_close(judge(again, transformer, ids), judge(critic.eval(), transformer, ids))
    other = MaskedTransformer(replace(CONFIG, vocabulary=V + 1, dim=16))
    with pytest.raises(InputError, match="do not belong together"):
        load_critic(tmp_path, other)
    with pytest.raises(InputError, match="cannot be read"):
        load_critic(tmp_path / "nothing", transformer)


def test_no_critic_is_made_where_none_is_asked_for() -> None:
    assert make_critic("none", MaskedTransformer(CONFIG)) is None
