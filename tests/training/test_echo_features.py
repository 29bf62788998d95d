"""The network behind the project's own distances learns, and what it is asked is true of what it sees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echogen import InputError
from echogen.metrics.sets.features import EchoClipFeatures, features_of
from echogen.networks.echo_features import ANSWERS, EchoFeatures, EchoFeaturesConfig, frame_pairs
from echogen.records import Cine
from echogen.training import Recipe, load_recipe, train
from echogen.training.tasks import TASKS, make_task
from echogen.training.tasks.echo_features import ORDERS, Degradation, blurred, degrade, step_order, true_answers

NETWORK = {"steps": 6, "stride": 4, "image_size": 48, "widths": [8, 16, 16], "dims": 32}
PLAIN = Degradation(speckle=1.0, blur=0.0, noise=0.0, gamma=1.0, gain=1.0, order=0)


@pytest.fixture(scope="module")
def clips(small_store: Callable[[int, int], Path]) -> Path:
    return small_store(1, 30)


def plan(clips: Path, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "task": "echo-features", "steps": 40, "batch_size": 4, "learning_rate": 5e-3, "warmup_steps": 5, "ema_decay": 0.8,
        "schedule": "constant", "precision": "fp32", "save_every": 1000, "sample_every": 0, "log_every": 1000,
        "data": {"source": str(clips)}, "network": NETWORK,
    }  # fmt: skip
    return Recipe(**(values | changes))


def losses_of(task: Any) -> dict[str, float]:
    batches = [task.losses(task.batch(1000 + index, 0, 1), 0) for index in range(4)]
    return {name: float(np.mean([float(parts[name].detach()) for parts in batches])) for name in batches[0]}


def test_it_learns_and_its_features_can_be_used(clips: Path, tmp_path: Path) -> None:
    task = make_task(plan(clips))
    before = losses_of(task)
    train(task, task.recipe, tmp_path / "run", progress=False)
    after = losses_of(task)
    assert after["loss"] < 0.6 * before["loss"]
    assert after["edv_loss"] < 0.2 * before["edv_loss"]
    assert after["view_right"] == 1
    network = EchoClipFeatures(tmp_path / "run" / "weights" / "echo-features")
    frames = np.random.default_rng(0).integers(0, 256, (40, 64, 64), dtype=np.uint8)
    rows = features_of(network, [Cine(frames, np.arange(40) / 32), Cine(frames[:30], np.arange(30) / 32)])
    assert rows.shape == (2, 32)
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-4)
    np.testing.assert_allclose((rows**2).mean(1), 1, rtol=1e-2)


def test_a_batch_is_a_pure_function_of_its_step_and_holds_every_answer(clips: Path) -> None:
    task = make_task(plan(clips))
    one, two, other = task.batch(3, 0, 1), task.batch(3, 0, 1), task.batch(4, 0, 1)
    assert set(one) == {"pairs", *ANSWERS}
    assert all(torch.equal(one[name].nan_to_num(), two[name].nan_to_num()) for name in one)
    assert not torch.equal(one["pairs"], other["pairs"])
    assert one["pairs"].shape == (4, 6, 2, 48, 48)
    assert 0 <= float(one["pairs"].min()) < float(one["pairs"].max()) <= 1


def test_what_is_asked_is_true_of_what_is_shown(clips: Path) -> None:
    task = make_task(plan(clips))
    config, steps, window = task.config, np.arange(task.config.steps), task.source.at(0)
    heart, first = window.labels, round(window.times_s[0] * 32)
    said = true_answers(window, config, PLAIN, steps)
    for name, size in ANSWERS.items():
        assert said[name].shape == (1 if name in ("view", "rhythm", "order") else config.steps if size < 0 else size,)
    assert 50 + 15 * float(said["ef"][0]) == pytest.approx(heart["ef_percent"], abs=8)
    np.testing.assert_allclose(50 + 8 * said["length"], np.array(heart["length_px"])[first + 4 * steps], rtol=1e-4)
    frozen = true_answers(window, config, Degradation(1.0, 0.0, 0.0, 1.0, 1.0, ORDERS.index("frozen")), np.full(config.steps, 3))
    assert np.isnan(frozen["ef"]).all()
    assert np.isnan(frozen["heart_rate"]).all()
    assert len(set(frozen["length"].tolist())) == 1


def test_orders() -> None:
    rng = np.random.default_rng(0)
    shown = {name: step_order(8, number, rng) for number, name in enumerate(ORDERS)}
    assert shown["real"].tolist() == list(range(8))
    assert shown["reversed"].tolist() == list(range(8))[::-1]
    assert sorted(shown["shuffled"].tolist()) == list(range(8)) != shown["shuffled"].tolist()
    assert len(set(shown["frozen"].tolist())) == 1


def test_degradations_do_what_they_say() -> None:
    rng = np.random.default_rng(0)
    speckled = rng.integers(0, 256, (3, 64, 64), dtype=np.uint8)
    plain = np.full((3, 64, 64), 128, dtype=np.uint8)

    def spread(**change: float) -> float:
        return float(degrade(speckled, plain, Degradation(**(vars(PLAIN) | change)), rng).std())

    assert spread(speckle=0.0) < spread(speckle=0.5) < spread() < spread(noise=0.1)
    assert spread(blur=2.0) < spread(blur=0.7) < spread()
    flat = torch.full((1, 20, 20), 0.3)
    torch.testing.assert_close(blurred(flat, 1.5), flat)


def test_pairs_are_neighbours_and_resized_only_where_needed() -> None:
    config = EchoFeaturesConfig(steps=3, stride=4, image_size=16)
    video = torch.arange(10.0).view(1, 10, 1, 1).expand(2, 10, 16, 16)
    assert frame_pairs(video, config)[0, :, :, 0, 0].tolist() == [[0, 1], [4, 5], [8, 9]]
    assert frame_pairs(video.repeat(1, 1, 2, 3), config).shape == (2, 3, 2, 16, 16)


def test_the_default_is_compact_and_spans_less_than_64_frames() -> None:
    network = EchoFeatures()
    assert 1.0e6 < sum(p.numel() for p in network.parameters()) < 1.5e6
    assert network.config.frames == 62


def test_wrong_settings_are_one_sentence_and_the_recipe_is_there(clips: Path) -> None:
    with pytest.raises(InputError, match=r"lasts 0\.91 s, but a window needs 1\.91 s"):
        make_task(plan(clips, network={}))
    assert load_recipe("phantom-echo-features").task in TASKS
