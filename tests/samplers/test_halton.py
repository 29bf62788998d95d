import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from echogen.errors import InputError
from echogen.samplers import halton
from echogen.samplers.maskgit import sample


@given(latents=st.integers(1, 6), height=st.integers(1, 9), width=st.integers(1, 9))
def test_every_token_has_one_turn(latents, height, width):
    rank = halton.order(latents, height, width)
    assert torch.equal(rank.sort().values, torch.arange(latents * height * width))


def test_active_patches_keep_their_turns_among_themselves():
    active = [1, 2, 4, 7]
    every = halton.order(3, 3, 3).view(3, 9)[:, active].reshape(-1)
    some = halton.order(3, 3, 3, active)
    assert torch.equal(some, every.argsort().argsort())


def widest_gap(chosen: torch.Tensor) -> float:
    """How far, in cells, the farthest cell of a 6 x 16 x 16 grid is from a chosen one."""
    grid = torch.cartesian_prod(torch.arange(6.0), torch.arange(16.0), torch.arange(16.0))
    return float(torch.cdist(grid, grid[chosen]).amin(1).max())


@pytest.mark.parametrize("count", [32, 96])
def test_the_first_tokens_spread_more_evenly_than_chance(count):
    first = halton.order(6, 16, 16).argsort()[:count]
    scattered = [torch.randperm(1536, generator=torch.Generator().manual_seed(seed))[:count] for seed in range(20)]
    assert widest_gap(first) < 0.9 * np.median([widest_gap(chosen) for chosen in scattered])
    frames = torch.bincount(first // 256, minlength=6)
    assert int(frames.max() - frames.min()) <= count // 8


def test_sampling_follows_the_order():
    rank = halton.order(2, 4, 4)
    states = []

    def predict(ids):
        states.append((ids.flatten() != 5).nonzero().flatten())
        return torch.zeros(*ids.shape, 5)

    sample(predict, torch.full((1, 2, 16, 1), 5), 5, steps=4, generator=torch.Generator().manual_seed(0), order=rank)
    assert len(states) == 4
    for state in states[1:]:
        assert set(state.tolist()) == set(rank.argsort()[: len(state)].tolist())


def test_an_empty_grid_is_one_sentence():
    with pytest.raises(InputError, match="at least 1 x 1 x 1"):
        halton.order(0, 4, 4)
