"""The reader's task: it learns from a tiny store, in pictures of any side, and starts again from its own weights."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from echogen.datasets import variety_store
from echogen.errors import InputError
from echogen.networks.config import load_network
from echogen.networks.segmenter import Segmenter
from echogen.training import Recipe, train
from echogen.training.tasks import make_task


@pytest.fixture(scope="module")
def hearts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three hearts."""
    folder = tmp_path_factory.mktemp("hearts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variety_store, "SHARD_HEARTS", 3)
        variety_store.write_maps(folder, 0)
        variety_store.write_pictures(folder, 0)
    return folder


def plan(hearts: Path, steps: int = 30, init_from: str | None = None, **data: Any) -> Recipe:
    """A small reader's recipe."""
    return Recipe(
        task="reader", steps=steps, batch_size=4, learning_rate=5e-3, warmup_steps=5, ema_decay=0.8, save_every=1000,
        sample_every=0, log_every=10, schedule="constant", precision="fp32", init_from=init_from,
        data={"maps": str(hearts), **data}, network={"widths": [8, 16, 24]},
    )  # fmt: skip


def test_the_reader_learns_and_continues_from_its_weights(hearts: Path, tmp_path: Path) -> None:
    recipe = plan(hearts, side=64)
    train(make_task(recipe), recipe, tmp_path / "run", progress=False)
    with (tmp_path / "run" / "metrics.csv").open(encoding="utf-8") as lines:
        losses = [float(row["loss"]) for row in csv.DictReader(lines)]
    assert losses[-1] < 0.8 * losses[0]
    trained = load_network(Segmenter, tmp_path / "run" / "weights" / "segmenter")
    again = make_task(plan(hearts, init_from=str(tmp_path / "run" / "weights")))
    for name, weight in again.networks()["segmenter"].state_dict().items():
        assert torch.equal(weight, trained.state_dict()[name])


def test_a_batch_has_stills_beating_hearts_and_the_phantoms_own_pictures(hearts: Path) -> None:
    task = make_task(plan(hearts, phantom=0.25, still=0.34))
    batch = task.batch(0, 0, 1)
    moving = [not torch.equal(one[0], one[2]) for one in batch["pictures"]]
    assert batch["pictures"].shape == (4, 3, 128, 128)
    assert moving == [False, True, True, True]
    assert torch.equal(batch["pictures"], task.batch(0, 0, 1)["pictures"])


def test_a_folder_without_hearts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="variety_store"):
        make_task(plan(tmp_path))
