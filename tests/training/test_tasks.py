"""The shipped tasks learn: each overfits one tiny store of clips, and starts again from saved weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echogen import InputError
from echogen.datasets import clip_store
from echogen.ecg_window.features import FEATURES
from echogen.records import STRUCTURES
from echogen.testing.clip_stores import small_store
from echogen.training import Recipe, Task, load_recipe, train
from echogen.training.tasks import TASKS, make_task

TOKENIZER = {
    "dim": 48, "heads": 2, "patch": 32, "spatial_depth_encoder": 1, "temporal_depth_encoder": 1, "temporal_depth_decoder": 1,
    "spatial_depth_decoder": 1, "smooth_head_channels": 8, "quantizer": {"kind": "fsq", "levels": [5, 5, 5]},
}  # fmt: skip
TRANSFORMER = {
    "vocabulary": 125, "spatial_positions": 16, "dim": 48, "depth": 2, "heads": 2, "ecg": {"dim": 32, "depth": 1, "heads": 2},
}  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of one shard with one clip of 41 frames."""
    return small_store(tmp_path_factory.mktemp("clips"), frames=41)


def plan(task: str, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "task": task,
        "steps": 40,
        "batch_size": 2,
        "learning_rate": 5e-3,
        "warmup_steps": 5,
        "ema_decay": 0.8,
    }
    values |= {
        "warmup_steps": 5,
        "save_every": 1000,
        "sample_every": 0,
        "log_every": 1000,
        "schedule": "constant",
        "precision": "fp32",
    }
    return Recipe(**(values | changes))


def loss_of(task: Task, seed: int = 999) -> float:
    torch.manual_seed(seed)
    with torch.no_grad():
        return float(task.losses(task.batch(seed, 0, 1), 0)["loss"])


def tokenizer_plan(clips: Path, **changes: Any) -> Recipe:
    return plan("tokenizer", data={"source": str(clips), "frames": 9}, network=TOKENIZER, **changes)


@pytest.fixture(scope="module")
def tokenizer(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float, float]:
    """A trained tokenizer's folder, and the loss before and after."""
    folder = tmp_path_factory.mktemp("tokenizer")
    task = make_task(tokenizer_plan(clips, steps=150))
    before = loss_of(task)
    train(task, task.recipe, folder / "run", progress=False)
    return folder / "run" / "weights", before, loss_of(task)


def test_the_tokenizer_overfits_one_clip(tokenizer: tuple[Path, float, float]) -> None:
    _, before, after = tokenizer
    assert after < 0.4 * before


def test_training_starts_again_from_saved_weights(clips: Path, tokenizer: tuple[Path, float, float]) -> None:
    folder, before, after = tokenizer
    again = make_task(tokenizer_plan(clips, init_from=str(folder)))
    assert loss_of(again) < 0.5 * (before + after)
    with pytest.raises(InputError, match="init_from"):
        make_task(tokenizer_plan(clips, init_from="nowhere"))


def test_a_decoder_trained_alone_leaves_the_ids(clips: Path, tokenizer: tuple[Path, float, float], tmp_path: Path) -> None:
    plain = tokenizer_plan(clips, init_from=str(tokenizer[0]), options={"decoder_only": True}, steps=8)
    task = make_task(plain)
    video = task.batch(0, 0, 1)["frames"].float() / 255.0
    network = task.networks()["tokenizer"]
    ids, drawn = network.tokenize(video), network.decode_ids(network.tokenize(video))
    train(task, plain, tmp_path, progress=False)
    assert torch.equal(network.tokenize(video), ids)
    assert not torch.allclose(network.decode_ids(ids), drawn)


def test_a_trained_decoder_learns_to_say_where_the_cavity_is(
    clips: Path, tokenizer: tuple[Path, float, float], tmp_path: Path
) -> None:
    options = {"decoder_only": True, "wrong_codes": 0.3, "cavity": 1.0}
    plain = tokenizer_plan(clips, init_from=str(tokenizer[0]), options=options, steps=30)
    plain = replace(plain, network={**plain.network, "cavity_cells": 64})
    task = make_task(plain)
    batch = task.batch(0, 0, 1)

    def told() -> float:
        torch.manual_seed(0)
        return float(task.losses(batch, 0)["cavity"].detach())

    before = told()
    train(task, plain, tmp_path, progress=False)
    assert told() < 0.5 * before


def test_a_discriminator_of_frames_learns_beside_a_decoder_with_noise(
    clips: Path, tokenizer: tuple[Path, float, float], tmp_path: Path
) -> None:
    judge = {"widths": [8, 16, 16], "attention_after": [], "learning_rate_share": 1.0}
    options = {"decoder_only": True, "speckle": True, "adversarial": 1.0, "discriminator": judge}
    wanted = tokenizer_plan(clips, init_from=str(tokenizer[0]), options=options, steps=30, learning_rate=1e-3)
    task = make_task(replace(wanted, network={**wanted.network, "noise_channels": 4}))
    network, discriminator = (task.networks()[name] for name in ("tokenizer", "discriminator"))
    real = task.batch(0, 0, 1)["frames"].float() / 255.0
    ids = network.tokenize(real)

    @torch.inference_mode()
    def drawn(seed: int) -> torch.Tensor:
        features = network.decode_features(network.quantizer.decode_ids(ids))
        picture: torch.Tensor = network.picture(features, random=torch.Generator().manual_seed(seed))[:, :, 0]
        return picture

    @torch.inference_mode()
    def told_apart(fake: torch.Tensor) -> float:
        on_real, on_fake = (discriminator(frames.flatten(0, 1)[:, None]).mean() for frames in (real, fake))
        return float(on_real - on_fake)

    smooth = drawn(0)
    before = told_apart(smooth)
    train(task, task.recipe, tmp_path / "run", progress=False)
    assert told_apart(smooth) > before + 0.2
    assert float((drawn(1) - drawn(2)).abs().max()) > 0.01
    assert torch.equal(network.tokenize(real), ids)
    assert {"adversarial", "gradient_penalty"} <= set((tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(","))
    assert [path.name for path in (tmp_path / "run" / "weights").iterdir()] == ["tokenizer"]
    with pytest.raises(InputError, match="looked_at must be between 1"):
        make_task(replace(wanted, options=options | {"looked_at": 0}))


def token_data(clips: Path, weights: Path, folder: Path) -> dict[str, Any]:
    return {"source": str(clips), "tokenizer": str(weights / "tokenizer"), "latents": 6}


def test_the_masked_transformer_overfits_one_clip(clips: Path, tokenizer: tuple[Path, float, float], tmp_path: Path) -> None:
    data = {
        "source": str(clips),
        "tokenizer": str(tokenizer[0] / "tokenizer"),
        "latents": 6,
    }
    task = make_task(plan("masked-video", data=data, network=TRANSFORMER, steps=80, batch_size=4))
    before = loss_of(task)
    train(task, task.recipe, tmp_path / "run", progress=False)
    assert loss_of(task) < 0.5 * before
    strip = task.sample(0)
    assert strip is not None
    assert strip.dtype == np.uint8


def test_conditions_are_hidden_as_often_as_asked(clips: Path, tokenizer: tuple[Path, float, float], tmp_path: Path) -> None:
    data = {
        "source": str(clips),
        "tokenizer": str(tokenizer[0] / "tokenizer"),
        "latents": 6,
    }
    options = {"drop_all": 0.2, "drop_ecg": 0.0, "drop_features": 0.5, "drop_ef": 1.0}
    task = make_task(plan("masked-video", data=data, network=TRANSFORMER, options=options, batch_size=400))
    batch = task.batch(0, 0, 1)
    assert float(batch["ecg_keep"].float().mean()) == pytest.approx(0.8, abs=0.07)
    assert float(batch["features_keep"].float().mean()) == pytest.approx(0.4, abs=0.08)
    assert bool(torch.isnan(batch["ef_percent"]).all())
    assert bool((batch["hidden"].flatten(1).sum(1) >= 1).all())


def test_the_cavity_size_is_told_unless_it_or_the_ef_is_hidden(
    clips: Path, tokenizer: tuple[Path, float, float], tmp_path: Path
) -> None:
    data = token_data(clips, tokenizer[0], tmp_path / "ids")
    shown = {"drop_all": 0.0, "drop_ef": 0.0, "drop_outline": 0.0}

    def known(**options: float) -> float:
        task = make_task(plan("masked-video", data=data, network=TRANSFORMER, options=shown | options, batch_size=200))
        return float(task.batch(0, 0, 1)["features"][..., FEATURES - 1].mean())

    assert known() == 1.0
    assert known(drop_outline=0.3) == pytest.approx(0.7, abs=0.1)
    assert known(drop_ef=1.0) == 0.0


def test_a_heart_of_which_nothing_is_shown_is_one_that_can_be_seen_well(
    tokenizer: tuple[Path, float, float], tmp_path: Path
) -> None:
    store = small_store(tmp_path / "clips", 3, 25)
    clips = clip_store.ClipStore(store)
    contrast = []
    for index in range(3):
        picture, labels = clips[index].structure[0].astype(float), clips[index].labels[0]
        contrast.append(
            np.percentile(picture[labels == STRUCTURES["myocardium"]], 25) - picture[labels == STRUCTURES["lv"]].mean()
        )
    efs = [clips[index].heart["ef_percent"] for index in range(3)]

    def shown(first_given: float) -> set[float]:
        options = {"drop_all": 0.0, "drop_ef": 0.0, "first_share": 1.0, "first_given": first_given, "clearest": 0.05}
        data = token_data(store, tokenizer[0], tmp_path / "ids")
        task = make_task(plan("masked-video", data=data, network=TRANSFORMER, options=options, batch_size=40))
        return {round(float(ef), 3) for ef in task.batch(0, 0, 1)["ef_percent"]}

    assert shown(0.0) == {round(efs[int(np.argmax(contrast))], 3)}
    assert shown(1.0) == {round(ef, 3) for ef in efs}


def test_the_segmenter_overfits_one_clip(clips: Path, tmp_path: Path) -> None:
    task = make_task(plan("segmenter", data={"source": str(clips)}, network={"widths": [8, 16, 24]}, steps=40, batch_size=4))
    before = loss_of(task)
    train(task, task.recipe, tmp_path / "run", progress=False)
    assert loss_of(task) < 0.5 * before


def test_an_unknown_task_and_a_missing_store_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training task 'tokeniser'"):
        make_task(plan("tokeniser"))
    with pytest.raises(InputError, match="no echo video"):
        make_task(plan("segmenter", data={"source": str(tmp_path)}))


@pytest.mark.parametrize("name", ["phantom-128-tokenizer", "phantom-128-transformer", "phantom-128-segmenter"])
def test_shipped_recipes_name_tasks_that_exist(name: str) -> None:
    assert load_recipe(name).task in TASKS
