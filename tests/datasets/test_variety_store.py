"""The store of varied hearts: what is written is what is read, a shard is never made twice, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from echogen.datasets import variety_store
from echogen.datasets.variety_store import VarietyStore, draw_moments, write_maps, write_pictures
from echogen.errors import InputError
from echogen.phantom.variety import MAP_SIZE


def test_moments_are_three_neighbours_and_valves_hardly_open_at_both_ends() -> None:
    for seed in range(50):
        contraction, openness = draw_moments(np.random.default_rng(seed))
        assert contraction.shape == openness.shape == (3,)
        assert (contraction >= -0.05).all()
        assert (contraction <= 1.05).all()
        if contraction[1] < 0.1 or contraction[1] > 0.95:
            assert (openness <= 0.5).all()


def test_a_store_gives_back_what_was_written_and_keeps_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variety_store, "SHARD_HEARTS", 3)
    for _ in range(2):
        write_maps(tmp_path, 0)
        write_pictures(tmp_path, 0)
    store = VarietyStore(tmp_path)
    assert store.maps[0].shape == (3, 3, 3, MAP_SIZE, MAP_SIZE)
    assert store.moments[0].shape == (3, 3)
    assert store.pictures[0].shape == (3, 2, 3, 128, 128)
    assert store.labels[0].shape == (3, 128, 128)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures_0000", "shard_0000"]


def test_a_folder_without_hearts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="variety_store"):
        VarietyStore(tmp_path)
