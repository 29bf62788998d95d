"""Tasks train on each kind of source that they take: the loss falls, and a resumed training is exact."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from echogen.config import config_from_dict
from echogen.errors import InputError
from echogen.networks.config import save_network
from echogen.networks.st_mem import StMem, StMemConfig
from echogen.networks.video_tokenizer import VideoTokenizer, VideoTokenizerConfig
from echogen.testing.data_sets import FakePatient, FakeVideo, make_camus, make_echonet_dynamic
from echogen.training import Recipe, load_recipe, train
from echogen.training.recipe import recipe_values
from echogen.training.tasks import make_task

ST_MEM: dict[str, Any] = {
    "encoder": {"seq_len": 300, "patch_size": 50, "width": 32, "depth": 1, "heads": 2, "head_dim": 16, "mlp_dim": 64},
    "decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2, "decoder_head_dim": 16, "decoder_mlp_dim": 64,
    "mask_ratio": 0.25,
}  # fmt: skip
TOKENIZER: dict[str, Any] = {
    "image_size": 32, "patch": 8, "dim": 32, "heads": 2, "spatial_depth_encoder": 1, "temporal_depth_encoder": 1,
    "temporal_depth_decoder": 1, "spatial_depth_decoder": 1, "quantizer": {"kind": "fsq", "levels": [5, 5, 5]},
}  # fmt: skip
UNET: dict[str, Any] = {
    "channels": 1, "dim": 8, "widths": [1, 2], "blocks": [1, 1], "cross_attention": [False, True], "heads": 2, "head_dim": 8,
    "middle_heads": 2, "middle_head_dim": 8, "context": 8, "ef_latents": 4, "ef_averages": 1, "ef_depth": 1, "stem": [3, 5],
}  # fmt: skip
REFINER: dict[str, Any] = {
    "channels": 4, "dim": 16, "widths": [1], "blocks": [0], "cross_attention": [False], "middle_attention": False, "heads": 1,
    "head_dim": 4, "middle_heads": 1, "middle_head_dim": 4, "context": 4, "ef_latents": 1, "ef_averages": 1, "ef_depth": 1,
    "stem": [3], "over_time": False,
}  # fmt: skip
CLOCK_TOKENIZER: dict[str, Any] = {
    "dim": 32, "heads": 2, "patch": 32, "spatial_depth_encoder": 1, "temporal_depth_encoder": 1, "temporal_depth_decoder": 1,
    "spatial_depth_decoder": 1, "smooth_head_channels": 4, "quantizer": {"kind": "fsq", "levels": [5, 5]}, "cavity_cells": 64,
}  # fmt: skip
EDM = {"sigma_data": 0.06, "sigma_max": 0.8, "ln_sigma_mean": -2.6, "threshold": None}
TRANSFORMER = {
    "vocabulary": 25,
    "spatial_positions": 16,
    "dim": 32,
    "depth": 1,
    "heads": 2,
    "ecg": {"dim": 16, "depth": 1, "heads": 2},
}
#: Tiny networks, and what they need of a source: task, data, network, options. "TOKENIZER" and "ST_MEM" are folders.
TASKS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "st-mem": ("st-mem", {}, ST_MEM, {}),
    "echopulse-tokenizer": (
        "echopulse-tokenizer",
        {"frames": 5},
        TOKENIZER,
        {"perceptual": 0.0, "adversarial": 0.0, "collapse_from": 1000},
    ),
    "echopulse-transformer": (
        "echopulse-transformer",
        {"tokenizer": "TOKENIZER", "ecg_encoder": "ST_MEM", "frames": 5, "frame_step": 2},
        {"dim": 32, "depth": 1, "heads": 2},
        {"drop": 0.1},
    ),
    "tokenizer": ("tokenizer", {"frames": 9}, CLOCK_TOKENIZER, {"speckle": True}),
    "masked-video": ("masked-video", {"tokenizer": "TOKENIZER", "latents": 4, "lead_in": 2}, TRANSFORMER, {}),
    "echodiffusion": ("echodiffusion", {"frame_step": 2}, UNET, {"size": 16, "frames": 4, "steps": 3}),
    "segmenter": ("segmenter", {}, {"widths": [8, 16, 24]}, {}),
    "ef-regressor": (
        "ef-regressor",
        {},
        {"frames": 24, "size": 32, "widths": [8, 12], "blocks": [1, 1], "stem_width": 6, "stem_stride": [2, 4]},
        {"pad": 2, "outline_steps": 6, "outline_frames": 12, "normalisation_batches": 2},
    ),
    "identity": ("identity", {}, {"fps": 8.0, "steps": 3, "shrink": 4, "widths": [8, 16], "place_channels": 4, "dims": 16}, {}),
    "echo-features": ("echo-features", {}, {"steps": 6, "stride": 4, "image_size": 48, "widths": [8, 16, 16], "dims": 32}, {}),
    "refiner": (
        "refiner",
        {},
        REFINER,
        {"kind": "2x-space", "crop": 64, "first_look_share": 1.0, "edm": EDM},
    ),
}
#: Tasks that need what a plain video does not have, each with the part that it misses first.
MISSING = {
    "echopulse-transformer": "ecg", "masked-video": "ecg", "echodiffusion": "ef", "segmenter": "masks", "ef-regressor": "ef",
}  # fmt: skip


#: Changes to the networks for sequences of half a beat.
NARROW = {"identity": {"steps": 2}, "echo-features": {"steps": 2}}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def echogen(*arguments: object) -> None:
    """Run a command in a process of its own."""
    subprocess.run([sys.executable, "-m", "echogen", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips as `echogen simulate` writes them, with ECG, masks and EF."""
    folder = tmp_path_factory.mktemp("simulated")
    echogen("simulate", "--seconds", "2", "-n", "3", "-o", folder)
    return folder


@pytest.fixture(scope="module")
def shards(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same clips as shards."""
    folder = tmp_path_factory.mktemp("prepared") / "shards"
    echogen("prepare", simulated, "-o", folder)
    return folder


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a random tokenizer and a random ST-MEM."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    save_network(VideoTokenizer(config_from_dict(VideoTokenizerConfig, CLOCK_TOKENIZER)), folder / "tokenizer")
    save_network(StMem(config_from_dict(StMemConfig, ST_MEM["encoder"])), folder / "st_mem")
    return {"TOKENIZER": folder / "tokenizer", "ST_MEM": folder / "st_mem"}


@pytest.fixture
def recipe(networks: dict[str, Path]) -> Callable[..., Recipe]:
    """recipe(name, source, **changes): the recipe of a tiny training of one of the `TASKS`."""

    def made(name: str, source: Any, **changes: Any) -> Recipe:
        task, data, network, options = TASKS[name]
        data = {key: str(networks.get(value, value)) if isinstance(value, str) else value for key, value in data.items()}
        values: dict[str, Any] = {
            "task": task, "steps": 20, "batch_size": 2, "learning_rate": 5e-3, "warmup_steps": 2, "schedule": "constant",
            "precision": "fp32", "ema_decay": 0.5, "weight_decay": 0.0, "save_every": 1000, "sample_every": 0, "log_every": 1,
            "data": data | {"source": source}, "network": network, "options": options,
        }  # fmt: skip
        return Recipe(**(values | changes))

    return made


def run(made: Recipe, folder: Path, **options: Any) -> None:
    train(make_task(made), made, folder, **options)


def losses(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted((folder / "weights").rglob("*.safetensors"))
    assert files
    return {f"{path.parent.name}.{name}": value for path in files for name, value in load_file(path).items()}


def loss_over(task: Any) -> float:
    """Mean loss over the same eight batches."""
    found = []
    for step in range(1000, 1008):
        torch.manual_seed(step)
        with torch.no_grad():
            found.append(float(task.losses(task.batch(step, 0, 1), 1000)["loss"]))
    return sum(found) / len(found)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("kind", ["simulated", "shards", "phantom", "mixture"])
def test_the_loss_falls_on_every_kind_of_source(
    name: str, kind: str, tmp_path: Path, recipe: Callable[..., Recipe], request: pytest.FixtureRequest
) -> None:
    phantom = {"source": "phantom", "seconds": 1.5, "hearts": 3}
    sources: dict[str, Callable[[], Any]] = {
        "simulated": lambda: str(request.getfixturevalue("simulated")),
        "shards": lambda: str(request.getfixturevalue("shards")),
        "phantom": lambda: [phantom],
        "mixture": lambda: [str(request.getfixturevalue("shards")), phantom | {"weight": 0.5}],
    }
    made = recipe(name, sources[kind]())
    task = make_task(made)
    before = loss_over(task)
    train(task, made, tmp_path / "run", progress=False)
    assert loss_over(task) < before


@pytest.mark.parametrize("name", TASKS)
def test_a_resumed_training_is_exact(name: str, recipe: Callable[..., Recipe], shards: Path, tmp_path: Path) -> None:
    whole = recipe(name, str(shards), steps=8, save_every=4)
    run(whole, tmp_path / "whole")
    run(replace(whole, steps=4), tmp_path / "parts")
    run(whole, tmp_path / "parts", resume=True)
    once, twice = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[key], twice[key]) for key in once)


@pytest.mark.parametrize("name", TASKS)
def test_rows_do_not_depend_on_the_number_of_processes(name: str, recipe: Callable[..., Recipe], shards: Path) -> None:
    alone = make_task(recipe(name, str(shards), batch_size=4)).batch(5, 0, 1)
    shared = make_task(recipe(name, str(shards), batch_size=2))
    parts = [shared.batch(5, rank, 2) for rank in range(2)]
    for key, values in alone.items():
        if key == "frames" and len({part[key].shape[1] for part in parts}) > 1:
            continue  # padded at the end to the longest row of a process
        assert torch.equal(values.nan_to_num(9.0), torch.cat([part[key] for part in parts]).nan_to_num(9.0)), key


@pytest.mark.parametrize(("name", "part"), MISSING.items())
def test_a_source_without_what_a_task_needs_is_refused_with_the_way_to_get_it(
    name: str, part: str, recipe: Callable[..., Recipe], test_data: Path
) -> None:
    with pytest.raises(InputError, match=f"has no {part}.*prepare it with `echogen prepare --"):
        make_task(recipe(name, str(test_data / "real" / "echodiffusion_gif")))


@pytest.mark.parametrize("name", ["segmenter", "echo-features", "identity"])
def test_outlined_sequences_feed_tasks(name: str, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    make_camus(tmp_path / "camus", [FakePatient("patient0001"), FakePatient("patient0002", seed=1)])
    data = {"source": str(tmp_path / "camus")}
    run(recipe(name, "", steps=3, data=data, network=TASKS[name][2] | NARROW.get(name, {})), tmp_path / "run")
    assert len(losses(tmp_path / "run")) >= 2


@pytest.mark.parametrize("name", ["segmenter", "ef-regressor", "echodiffusion"])
def test_traced_videos_feed_tasks(name: str, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    videos = [FakeVideo(f"0X{seed}", seed=seed) for seed in range(3)]
    make_echonet_dynamic(tmp_path / "echonet", videos)
    run(recipe(name, str(tmp_path / "echonet"), steps=3), tmp_path / "run")
    assert len(losses(tmp_path / "run")) >= 2


def test_real_ecgs_feed_st_mem(recipe: Callable[..., Recipe], test_data: Path, tmp_path: Path) -> None:
    made = recipe("st-mem", str(test_data), steps=3, data={"source": str(test_data), "damaged": "skip"})
    run(made, tmp_path / "run")
    assert len(losses(tmp_path / "run")) >= 2


def test_real_cines_feed_the_tokenizer(recipe: Callable[..., Recipe], test_data: Path, tmp_path: Path) -> None:
    data = {"source": str(test_data / "real" / "echodiffusion_gif"), "frames": 5, "frame_step": 2}
    run(recipe("echopulse-tokenizer", "", steps=3, data=data), tmp_path / "run")
    assert len(losses(tmp_path / "run")) >= 2


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (3, "data.source must be text or a mapping or a list or null"),
        ([{"source": "phantom", "wieght": 2}], "did you mean .*weight"),
        ([], "names no source"),
    ],
)
def test_a_source_of_another_form_is_one_sentence(recipe: Callable[..., Recipe], source: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_task(recipe("st-mem", source))


def test_recorded_echo_makes_a_generator_that_draws_its_own_speckle(shards: Path, tmp_path: Path) -> None:
    """The recipes clock-128-*: from the shipped weights to a generator of one's own."""
    short = [f"data.source={shards}", "steps=2", "batch_size=1", "sample_every=0"]
    kept = ["options.decoder_only=true", "options.features_steps=1"]
    first = load_recipe("clock-128-tokenizer", [*short, *kept, "data.frames=17"])
    run(first, tmp_path / "tokenizer")
    codes = [f"data.tokenizer={tmp_path / 'tokenizer' / 'weights' / 'tokenizer'}", "data.latents=9"]
    run(load_recipe("clock-128-transformer", [*short, *codes]), tmp_path / "transformer")
    echogen("assemble", tmp_path / "tokenizer", tmp_path / "transformer", "-o", tmp_path / "own")
    echogen("generate", "--model", tmp_path / "own", "--seconds", "1", "-o", tmp_path / "own.npz")
    settings = json.loads((tmp_path / "own" / "generator.json").read_text())
    assert settings["speckle"] is None
    assert settings["latents"] == 9
    frames = np.load(tmp_path / "own.npz")["frames"]
    assert frames.shape == (32, 128, 128)
    assert frames.std() > 10


#: Tasks whose loss is a mean over the rows of a batch, so that equal parts of a batch make the same step as all of it.
BY_ROW = ("st-mem", "echopulse-tokenizer")


@pytest.mark.parametrize("name", BY_ROW)
def test_parts_one_after_the_other_make_the_step_of_the_whole(
    name: str, recipe: Callable[..., Recipe], shards: Path, tmp_path: Path
) -> None:
    whole = recipe(name, str(shards), batch_size=4, steps=10)
    run(whole, tmp_path / "whole")
    run(replace(whole, batch_size=2, accumulate=2), tmp_path / "parts")
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)


#: Tasks whose loss is a mean over rows or tokens, so that it does not depend on how the rows of a step are divided.
DIVISIBLE = ("st-mem", "echopulse-transformer", "masked-video", "echodiffusion", "refiner")


@pytest.mark.parametrize("name", DIVISIBLE)
def test_parts_of_a_step_learn_what_it_learns_whole(
    name: str, recipe: Callable[..., Recipe], shards: Path, tmp_path: Path
) -> None:
    whole = recipe(name, str(shards), batch_size=4, steps=6, learning_rate=1e-3)
    run(whole, tmp_path / "whole")
    run(replace(whole, batch_size=1, accumulate=4), tmp_path / "parts")
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["st-mem", "masked-video", "echodiffusion"])
def test_processes_learn_what_one_does_and_resume_in_another_number(
    name: str, recipe: Callable[..., Recipe], shards: Path, tmp_path: Path
) -> None:
    """50 steps of one process, of two, and of two that two parts of one go on from: the same losses to 1e-5."""
    whole = recipe(name, str(shards), batch_size=4, steps=50, learning_rate=1e-3)
    run(whole, tmp_path / "one")
    path = tmp_path / "two.yaml"
    path.write_text(yaml.safe_dump(recipe_values(replace(whole, batch_size=2))))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "echogen"]
    command = [*launch, "train", str(path)]
    subprocess.run([*command, "-o", str(tmp_path / "two")], check=True, capture_output=True)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    run(replace(whole, steps=25, batch_size=1, accumulate=4), tmp_path / "parts")
    subprocess.run([*command, "-o", str(tmp_path / "parts"), "--resume"], check=True, capture_output=True)
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    with pytest.raises(InputError, match=r"began with 4 samples a step .* not 3"):
        run(replace(whole, batch_size=3), tmp_path / "one", resume=True)
