"""A stage of EchoDiffusion learns, is told what is true of its clips, and stages join into a generator."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echogen import InputError
from echogen.generators import EchoDiffusion, Generator
from echogen.generators.echodiffusion.assemble import assemble_cascade
from echogen.generators.echodiffusion.cascade import paper_cascade
from echogen.networks.video_unet import VideoUnetConfig
from echogen.records import Cine
from echogen.testing.clip_stores import small_store
from echogen.training import Recipe, load_recipe, train
from echogen.training.tasks import make_task

NETWORK = {
    "channels": 1, "dim": 8, "widths": [1, 2], "blocks": [1, 1], "cross_attention": [False, True], "heads": 2, "head_dim": 8,
    "middle_heads": 2, "middle_head_dim": 8, "context": 8, "ef_latents": 4, "ef_averages": 1, "ef_depth": 1, "stem": [3, 5],
}  # fmt: skip
OPTIONS = {"size": 16, "frames": 4, "steps": 3, "churn": 2.0}
SECOND = {"size": 32, "frames": 8, "steps": 2, "churn": 1.0, "before": {"size": 16, "frames": 4}, "crop": 16}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two clips of 20 frames."""
    return small_store(tmp_path_factory.mktemp("clips"), 2, 20)


def plan(clips: Path, *, frame_step: int = 4, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "task": "echodiffusion", "steps": 40, "batch_size": 4, "learning_rate": 4e-3, "warmup_steps": 5, "ema_decay": 0.8,
        "schedule": "constant", "precision": "fp32", "weight_decay": 0.0, "save_every": 1000, "sample_every": 1000,
        "log_every": 1000, "data": {"source": str(clips), "frame_step": frame_step}, "network": NETWORK, "options": OPTIONS,
    }  # fmt: skip
    return Recipe(**(values | changes))


def second(clips: Path, **options: Any) -> Recipe:
    return plan(clips, frame_step=2, steps=2, network={**NETWORK, "memory_saving": True}, options={**SECOND, **options})


def loss_of(task: Any) -> float:
    """The loss over some batches, with noise that does not depend on what was drawn before."""
    losses = []
    for index in range(6):
        torch.manual_seed(index)
        losses.append(float(task.losses(task.batch(1000 + index, 0, 1), 1000 + index)["loss"].detach()))
    return float(np.mean(losses))


def test_the_loss_falls_and_trained_stages_make_a_generator(clips: Path, tmp_path: Path) -> None:
    first = make_task(plan(clips))
    before = loss_of(first)
    train(first, first.recipe, tmp_path / "one", progress=False)
    assert loss_of(first) < 0.6 * before
    assert any((tmp_path / "one" / "samples").iterdir())
    other = make_task(second(clips))
    train(other, other.recipe, tmp_path / "two", progress=False)
    assemble_cascade([tmp_path / "one", tmp_path / "two"], tmp_path / "heart", guidance=2.0)
    heart = Generator.from_pretrained(tmp_path / "heart", "cpu")
    assert isinstance(heart, EchoDiffusion)
    assert (heart.native_fps, heart.window_s, heart.config.cascade.guidance) == (16.0, 0.5, 2.0)
    image = Cine(np.zeros((1, 64, 64), np.uint8), np.zeros(1))
    assert heart(None, seconds=0.5, reference=image, ef_percent=50).frames.shape == (8, 32, 32)
    started = make_task(plan(clips, init_from=str(tmp_path / "one" / "weights")))
    saved = heart.cascade.networks[0].token_norm.weight
    assert torch.equal(started.network.token_norm.weight, saved)
    with pytest.raises(InputError, match="wrong order"):
        assemble_cascade([tmp_path / "two", tmp_path / "one"], tmp_path / "upside-down")
    with pytest.raises(InputError, match="no stage of EchoDiffusion"):
        assemble_cascade([tmp_path], tmp_path / "none")


def test_a_batch_is_a_pure_function_of_its_step(clips: Path) -> None:
    task = make_task(second(clips, ef_dropout=0.5))
    one, two, other = task.batch(3, 0, 1), task.batch(3, 0, 1), task.batch(4, 0, 1)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["video"], other["video"])
    assert one["video"].shape == one["lowres"].shape == (4, 1, 8, 16, 16)
    assert one["frame"].shape == (4, 1, 16, 16)
    assert all(0 <= float(one[name].min()) <= float(one[name].max()) <= 1 for name in ("video", "lowres", "frame"))
    assert 0.1 < float(one["ef"].min()) <= float(one["ef"].max()) < 0.9
    kept = torch.cat([task.batch(step, 0, 1)["keep"] for step in range(12)]).float().mean()
    assert 0.2 < float(kept) < 0.8
    # the smaller video is the same heart at the same place
    centred = [part - part.mean((2, 3, 4), keepdim=True) for part in (one["video"], one["lowres"])]
    agreement = (centred[0] * centred[1]).sum() / (centred[0].norm() * centred[1].norm())
    assert float(agreement) > 0.7


def test_frames_stand_alone_in_a_quarter_of_the_steps(clips: Path) -> None:
    task, again = make_task(plan(clips)), make_task(plan(clips))
    never = make_task(plan(clips, options={**OPTIONS, "still_share": 0.0}))
    still = [task._still(step) for step in range(400)]
    assert 0.18 < np.mean(still) < 0.32
    assert still == [again._still(step) for step in range(400)]
    assert not any(never._still(step) for step in range(50))


def test_wrong_settings_are_one_sentence(clips: Path) -> None:
    with pytest.raises(InputError, match=r"lasts 0\.59 s, but a window needs 0\.75 s"):
        make_task(plan(clips, options={**OPTIONS, "frames": 7}))
    with pytest.raises(InputError, match=r"takes a smaller video needs options\.before"):
        make_task(plan(clips, network={**NETWORK, "lowres": True}))
    with pytest.raises(InputError, match="4 frames of 16 pixels, which cannot become 6 of 32"):
        make_task(second(clips, frames=6))
    with pytest.raises(InputError, match="multiple of 4 pixels, not 18"):
        make_task(second(clips, crop=18))


def test_the_recipes_make_the_networks_of_the_paper_and_a_small_one(clips: Path) -> None:
    recipe = load_recipe("echodiffusion-base", [f"data.source={clips}", "data.frame_step=1"])
    with torch.device("meta"):
        task = make_task(replace(recipe, options={**recipe.options, "frames": 8}))
    assert task.network.config == VideoUnetConfig.paper()
    stage = paper_cascade("2SCM")[0].stages[0]
    assert [recipe.options[name] for name in ("size", "frames", "steps", "churn")] == [56, 16, 32, 80]
    assert (stage.size, stage.frames) == (56, 16)
    small = load_recipe("phantom-echodiffusion-small", [f"data.source={clips}", "data.frame_step=1"])
    task = make_task(small)
    assert sum(weights.numel() for weights in task.network.parameters()) < 6e6
    assert task.stage.size == 32
