"""A network learns to refine, and its weights are a refiner."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echogen import InputError
from echogen.generators.wrappers.refined import Refiner
from echogen.records import Cine
from echogen.testing.clip_stores import small_store
from echogen.training import Recipe, load_recipe, train
from echogen.training.tasks import make_task

NETWORK = {
    "channels": 4, "dim": 16, "widths": [1], "blocks": [0], "cross_attention": [False], "middle_attention": False, "heads": 1,
    "head_dim": 4, "middle_heads": 1, "middle_head_dim": 4, "context": 4, "ef_latents": 1, "ef_averages": 1, "ef_depth": 1,
    "stem": [3], "over_time": False,
}  # fmt: skip
EDM = {"sigma_data": 0.06, "sigma_max": 0.8, "ln_sigma_mean": -2.6, "threshold": None}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two clips at 64 frames per second, and two of 256 x 256."""
    folders = {}
    for kind, frames, fps, finer in (("2x-time", 8, 64.0, 1), ("2x-space", 2, 8.0, 2)):
        folders[kind] = small_store(tmp_path_factory.mktemp(kind), 2, frames, fps=fps, finer=finer)
    return folders


def plan(clips: dict[str, Path], kind: str, **options: Any) -> Recipe:
    size = 256 if kind == "2x-space" else 128
    return Recipe(
        task="refiner", steps=40, batch_size=4, learning_rate=5e-3, warmup_steps=5, ema_decay=0.8, schedule="constant",
        precision="fp32", weight_decay=0.0, save_every=1000, sample_every=1000, log_every=1000,
        data={"source": str(clips[kind]), "frame_step": 1}, network=NETWORK,
        options={"size": size, "crop": 32, "kind": kind, "edm": EDM, **options},
    )  # fmt: skip


def loss_of(task: Any) -> float:
    losses = []
    for index in range(8):
        torch.manual_seed(index)
        losses.append(float(task.losses(task.batch(1000 + index, 0, 1), 0)["loss"].detach()))
    return float(np.mean(losses))


def test_the_loss_falls_and_the_weights_are_a_refiner(clips: dict[str, Path], tmp_path: Path) -> None:
    task = make_task(plan(clips, "2x-space", first_look_share=1.0))
    before = loss_of(task)
    train(task, task.recipe, tmp_path / "run", progress=False)
    assert loss_of(task) < 0.9 * before
    assert any((tmp_path / "run" / "samples").iterdir())
    refiner = Refiner.from_pretrained(tmp_path / "run" / "weights", "cpu")
    assert refiner.config.edm.sigma_max == 0.8
    assert refiner(Cine(np.zeros((1, 32, 32), np.uint8), np.zeros(1))).frames.shape == (1, 64, 64)


@pytest.mark.parametrize("kind", ["2x-time", "2x-space"])
def test_the_first_look_does_not_see_the_answer(clips: dict[str, Path], kind: str) -> None:
    """What is predicted at the first look is the same whatever the fine frames are, so the loss is quadratic in them."""
    task = make_task(plan(clips, kind, first_look_share=1.0))
    batch = task.batch(0, 0, 1)
    assert set(batch) == {"video", "lowres", "hidden", "seeds"}
    with torch.no_grad():
        task.network.out.weight.normal_(std=0.1)
    losses = []
    for share in (-1.0, 0.0, 1.0, 2.0):
        torch.manual_seed(0)
        video = torch.lerp(batch["lowres"], batch["video"], share)
        losses.append(float(task.losses({**batch, "video": video}, 0)["loss"].detach()))
    assert np.abs(np.diff(losses, n=3)) < 1e-3 * max(losses)
    assert losses[1] > 0


def test_wrong_stages_are_one_sentence(clips: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="four channels"):
        make_task(replace(plan(clips, "2x-time"), network={**NETWORK, "channels": 1}))
    with pytest.raises(InputError, match="multiple of 2 pixels, not 33"):
        make_task(plan(clips, "2x-time", crop=33))


@pytest.mark.parametrize("name", ["phantom-refine-time", "phantom-refine-space"])
def test_the_recipes_fit_the_task(clips: dict[str, Path], name: str) -> None:
    kind = "2x-time" if name.endswith("time") else "2x-space"
    task = make_task(load_recipe(name, [f"data.source={clips[kind]}"]))
    assert sum(weight.numel() for weight in task.network.parameters()) < 1_000_000
