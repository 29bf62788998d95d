"""The network of re-identification learns to find the other part of a clip."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echogen import InputError
from echogen.metrics.memorisation.identity import HeartIdentity
from echogen.networks.identity import Identity
from echogen.records import Cine
from echogen.training import Recipe, load_recipe, train
from echogen.training.tasks import TASKS, make_task
from echogen.training.tasks.identity import pair_loss

NETWORK = {"fps": 8.0, "steps": 3, "shrink": 4, "widths": [8, 16], "place_channels": 4, "dims": 16}


@pytest.fixture(scope="module")
def clips(small_store: Callable[[int, int], Path]) -> Path:
    return small_store(3, 16)


def plan(clips: Path, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "task": "identity", "steps": 40, "batch_size": 3, "learning_rate": 5e-3, "warmup_steps": 5, "ema_decay": 0.8,
        "schedule": "constant", "precision": "fp32", "save_every": 1000, "sample_every": 0, "log_every": 1000,
        "data": {"source": str(clips)}, "network": NETWORK,
    }  # fmt: skip
    return Recipe(**(values | changes))


def losses_of(task: Any) -> dict[str, float]:
    batches = [task.losses(task.batch(1000 + index, 0, 1), 0) for index in range(4)]
    return {name: float(np.mean([float(parts[name].detach()) for parts in batches])) for name in batches[0]}


def test_it_learns_and_its_vectors_can_be_used(clips: Path, tmp_path: Path) -> None:
    task = make_task(plan(clips))
    before = losses_of(task)
    train(task, task.recipe, tmp_path / "run", progress=False)
    after = losses_of(task)
    assert after["loss"] < 0.5 * before["loss"]
    assert after["right"] == 1
    assert after["own_similarity"] > after["other_similarity"] + 0.3
    identity = HeartIdentity(tmp_path / "run" / "weights" / "identity")
    cine = task.source.samples[0][0].cine
    assert cine is not None
    vector = identity(Cine(cine.frames, cine.times_s))
    assert vector.shape == (16,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


def test_a_batch_is_a_pure_function_of_its_step_and_its_parts_lie_in_range(clips: Path) -> None:
    task = make_task(plan(clips))
    one, again, other = task.batch(3, 0, 1), task.batch(3, 0, 1), task.batch(4, 0, 1)
    assert torch.equal(one["one"], again["one"])
    assert not torch.equal(one["one"], other["one"])
    assert one["other"].shape == (3, 3, 128, 128)
    assert 0 <= float(one["one"].min()) < float(one["one"].max()) <= 1


def test_the_loss_is_that_of_finding_the_partner() -> None:
    alike = torch.eye(4)
    # six others have a similarity of 0, the partner has 1
    assert float(pair_loss(alike, alike, 0.5)) == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 6)), rel=1e-5)
    assert float(pair_loss(alike, alike.roll(1, 0), 0.5)) > float(pair_loss(alike, alike, 0.5))


def test_it_starts_from_weights(clips: Path, tmp_path: Path) -> None:
    task = make_task(plan(clips))
    task.save(tmp_path, task.networks())
    again = make_task(plan(clips, init_from=str(tmp_path))).networks()["identity"]
    assert isinstance(again, Identity)
    parts = task.batch(0, 0, 1)["one"]
    assert float((again(parts) * task.networks()["identity"].eval()(parts)).sum(1).min()) > 0.99


def test_wrong_settings_are_one_sentence_and_the_recipe_is_there(clips: Path) -> None:
    with pytest.raises(InputError, match=r"lasts 0\.47 s, but a window needs 0\.75 s"):
        make_task(plan(clips, network={}))
    with pytest.raises(InputError, match="several patients"):
        make_task(plan(clips, batch_size=1))


def test_others_of_the_same_patient_are_no_wrong_answers() -> None:
    alike = torch.eye(3)[[0, 0, 1]]
    apart, together = (pair_loss(alike, alike, 0.5, torch.tensor(patients)) for patients in ([0, 1, 2], [0, 0, 2]))
    assert float(together) < float(apart)


def test_a_source_of_one_patient_is_refused(small_store: Callable[[int, int], Path]) -> None:
    with pytest.raises(InputError, match="several patients"):
        make_task(plan(small_store(1, 16)))


def test_the_recipe_is_there() -> None:
    assert load_recipe("phantom-identity").task in TASKS
