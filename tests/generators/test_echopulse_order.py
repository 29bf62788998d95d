"""The order in which a generator keeps tokens: by confidence, evenly spread, or by its critic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from echogen.errors import InputError
from echogen.generators import EchoPulse, EchoPulseConfig, Generator
from echogen.networks.token_critic import make_critic
from echogen.records import Ecg


def with_order(tiny: EchoPulse, order: str, critic: str = "none") -> EchoPulse:
    torch.manual_seed(1)
    made = make_critic(critic, tiny.transformer)
    config = replace(tiny.config, order=order, steps=3)
    return EchoPulse(config, tiny.tokenizer, tiny.transformer, torch.device("cpu"), made)


@pytest.mark.parametrize(("order", "critic"), [("halton", "none"), ("critic", "token"), ("critic", "self")])
def test_each_order_makes_a_video_of_its_own_again_and_again(tiny: EchoPulse, ecg: Ecg, order: str, critic: str) -> None:
    maker = with_order(tiny, order, critic)
    made = maker(ecg, seconds=0.5, seed=1, ef_percent=50.0)
    assert np.array_equal(made.frames, maker(ecg, seconds=0.5, seed=1, ef_percent=50.0).frames)
    usual = with_order(tiny, "confidence")(ecg, seconds=0.5, seed=1, ef_percent=50.0)
    assert not np.array_equal(made.frames, usual.frames)


@pytest.mark.parametrize("critic", ["token", "self"])
def test_a_generator_is_stored_with_its_critic(tiny: EchoPulse, ecg: Ecg, critic: str, tmp_path: Path) -> None:
    with_order(tiny, "critic", critic).save_pretrained(tmp_path)
    loaded = Generator.from_pretrained(tmp_path)
    assert isinstance(loaded, EchoPulse)
    assert type(loaded.critic) is type(make_critic(critic, tiny.transformer))
    assert loaded(ecg, seconds=0.3).frames.shape[0] == 10


def test_an_order_that_cannot_be_is_one_sentence(tiny: EchoPulse) -> None:
    with pytest.raises(InputError, match="no critic"):
        with_order(tiny, "critic")
    with pytest.raises(InputError, match="confidence, halton, critic"):
        EchoPulseConfig(order="random")
