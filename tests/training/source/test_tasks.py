"""Tasks train on each kind of source that they take: the loss falls, and a resumed training is exact."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from echogen.errors import InputError
from echogen.training import Recipe, train
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
#: Tiny networks, and what they need of a source: task, data, network, options.
TASKS: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "st-mem": ("st-mem", {}, ST_MEM, {}),
    "tokenizer": (
        "echopulse-tokenizer",
        {"frames": 5},
        TOKENIZER,
        {"perceptual": 0.0, "adversarial": 0.0, "collapse_from": 1000},
    ),
    "diffusion": ("echodiffusion", {"frame_step": 2}, UNET, {"size": 16, "frames": 4, "steps": 3}),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def simulated(echogen: Callable[..., Any], tmp_path: Path) -> Path:
    """Three clips as `echogen simulate` writes them, with ECG, masks and EF."""
    folder = tmp_path / "simulated"
    folder.mkdir()
    assert echogen("simulate", "--seconds", "2", "-n", "3", "-o", folder).code == 0
    return folder


@pytest.fixture
def shards(echogen: Callable[..., Any], simulated: Path, tmp_path: Path) -> Path:
    """The same clips as shards."""
    assert echogen("prepare", simulated, "-o", tmp_path / "shards").code == 0
    return tmp_path / "shards"


def recipe(name: str, source: Any, **changes: Any) -> Recipe:
    task, data, network, options = TASKS[name]
    values: dict[str, Any] = {
        "task": task, "steps": 20, "batch_size": 2, "learning_rate": 5e-3, "warmup_steps": 2, "schedule": "constant",
        "precision": "fp32", "ema_decay": 0.5, "save_every": 1000, "sample_every": 0, "log_every": 1,
        "data": data | {"source": source}, "network": network, "options": options,
    }  # fmt: skip
    return Recipe(**(values | changes))


def run(made: Recipe, folder: Path, **options: Any) -> None:
    train(make_task(made), made, folder, **options)


def losses(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted((folder / "weights").rglob("*.safetensors"))
    assert files
    return {f"{path.parent.name}.{name}": value for path in files for name, value in load_file(path).items()}


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("kind", ["simulated", "shards", "phantom", "mixture"])
def test_the_loss_falls_on_every_kind_of_source(name: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    phantom = {"source": "phantom", "seconds": 1.5}
    sources: dict[str, Callable[[], Any]] = {
        "simulated": lambda: str(request.getfixturevalue("simulated")),
        "shards": lambda: str(request.getfixturevalue("shards")),
        "phantom": lambda: [phantom],
        "mixture": lambda: [str(request.getfixturevalue("shards")), phantom | {"weight": 0.5}],
    }
    run(recipe(name, sources[kind]()), tmp_path / "run")
    seen = losses(tmp_path / "run")
    assert len(seen) >= 19
    assert sum(seen[-5:]) < sum(seen[:5])


@pytest.mark.parametrize("name", TASKS)
def test_a_resumed_training_is_exact(name: str, shards: Path, tmp_path: Path) -> None:
    whole = recipe(name, str(shards), steps=8, save_every=4)
    run(whole, tmp_path / "whole")
    run(replace(whole, steps=4), tmp_path / "parts")
    run(whole, tmp_path / "parts", resume=True)
    once, twice = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert once.keys() == twice.keys()
    assert all(torch.equal(once[key], twice[key]) for key in once)


def test_real_ecgs_feed_st_mem(test_data: Path, tmp_path: Path) -> None:
    made = recipe("st-mem", str(test_data), steps=3, data={"source": str(test_data), "damaged": "skip"})
    run(made, tmp_path / "run")
    assert len(losses(tmp_path / "run")) >= 2


def test_real_cines_feed_the_tokenizer(test_data: Path, tmp_path: Path) -> None:
    data = {"source": str(test_data / "real" / "echodiffusion_gif"), "frames": 5, "frame_step": 2}
    run(recipe("tokenizer", "", steps=3, data=data), tmp_path / "run")
    assert len(losses(tmp_path / "run")) >= 2


def test_a_source_without_ef_is_refused_for_diffusion_with_the_way_to_get_it(test_data: Path) -> None:
    with pytest.raises(InputError, match="no ef; prepare it with `echogen prepare --labels measured`"):
        make_task(recipe("diffusion", str(test_data / "real" / "echodiffusion_gif")))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (3, "data.source must be text or a mapping or a list or null"),
        ([{"source": "phantom", "wieght": 2}], "did you mean .*weight"),
        ([], "names no source"),
    ],
)
def test_a_source_of_another_form_is_one_sentence(source: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_task(recipe("st-mem", source))
