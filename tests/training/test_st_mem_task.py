"""ST-MEM learns from simulated ECGs, resumes exactly, and leaves an encoder that loads."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from echogen.errors import InputError
from echogen.networks.config import load_network
from echogen.networks.st_mem import StMem, StMemConfig
from echogen.networks.st_mem_pretraining import StMemPretrainingConfig
from echogen.training import Recipe, load_recipe, train
from echogen.training.tasks import make_task
from echogen.training.tasks.st_mem import StMemTask

NETWORK = {
    "encoder": {"seq_len": 600, "patch_size": 50, "width": 32, "depth": 1, "heads": 2, "head_dim": 16, "mlp_dim": 64},
    "decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2, "decoder_head_dim": 16, "decoder_mlp_dim": 64,
    "mask_ratio": 0.25,
}  # fmt: skip
RECIPE = Recipe(
    task="st-mem",
    steps=200,
    batch_size=4,
    learning_rate=5e-3,
    warmup_steps=5,
    schedule="constant",
    precision="fp32",
    ema_decay=0.8,
    save_every=1000,
    sample_every=0,
    log_every=1000,
    network=NETWORK,
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe(**changes: Any) -> Recipe:
    return replace(RECIPE, **changes)


class SameHearts(StMemTask):
    """The same ECGs at every step, each time with other patches hidden."""

    def batch(self, step: int, rank: int, world: int) -> dict[str, torch.Tensor]:
        return super().batch(0, 0, 1)


def loss_of(task: StMemTask) -> float:
    torch.manual_seed(999)
    with torch.no_grad():
        return float(task.losses(task.batch(0, 0, 1), 0)["loss"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float, float]:
    folder = tmp_path_factory.mktemp("st_mem")
    task = SameHearts(RECIPE)
    before = loss_of(task)
    train(task, RECIPE, folder, progress=False)
    strip = task.sample(0)
    assert strip is not None
    assert (strip.shape, strip.dtype) == ((512, 600), np.uint8)
    return folder, before, loss_of(task)


def test_hidden_patches_of_known_hearts_are_drawn(trained: tuple[Path, float, float]) -> None:
    _, before, after = trained
    assert before > 1.0  # drawing nothing gives 1, the variance of a normalised patch
    assert after < 0.7


def test_what_is_left_is_an_encoder(trained: tuple[Path, float, float]) -> None:
    folder, *_ = trained
    encoder = load_network(StMem, folder / "weights" / "st_mem")
    assert encoder.config == StMemConfig(**NETWORK["encoder"])
    assert encoder(torch.randn(1, 2, 600), leads=(0, 1)).values.shape == (1, 24, 32)
    again = make_task(recipe(init_from=str(folder / "weights")))
    assert torch.equal(again.network.encoder.lead, encoder.lead)
    larger = {**NETWORK, "encoder": {**NETWORK["encoder"], "depth": 2}}
    with pytest.raises(InputError, match="another size"):
        make_task(recipe(init_from=str(folder / "weights"), network=larger))


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    plan = recipe(steps=6)
    train(make_task(plan), plan, tmp_path / "whole", progress=False)
    train(make_task(plan), recipe(steps=3), tmp_path / "broken", progress=False)
    train(make_task(plan), plan, tmp_path / "broken", resume=True, progress=False)
    one, other = (load_file(tmp_path / name / "weights" / "st_mem" / "model.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_batch_depends_on_its_step_alone() -> None:
    task, again = make_task(RECIPE), make_task(RECIPE)
    first = task.batch(5, 0, 1)
    assert first["ecg"].shape == (4, 12, 600)
    for name, values in first.items():
        assert torch.equal(values, again.batch(5, 0, 1)[name])
        assert not torch.equal(values, task.batch(5, 1, 2)[name])
        assert not torch.equal(values, task.batch(6, 0, 1)[name])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"rhythms": ["flutter"]}}, "'flutter'"),
        ({"data": {"rhythms": []}}, "at least one rhythm"),
        ({"data": {"heart_rate_bpm": [90, 60]}}, "lowest, highest"),
        ({"data": {"heart_rate_bpm": [10, 60]}}, "heart rate"),
        ({"network": {"encoder": {"num_leads": 3}}}, "num_leads"),
        ({"network": {"widths": 3}}, "widths"),
        ({"network": {"encoder": {"patch_size": 77}}}, "77"),
    ],
)
def test_a_wrong_setting_is_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_task(recipe(**changes))


def test_the_shipped_recipe_and_the_papers_size() -> None:
    small = make_task(load_recipe("st-mem-phantom-small"))
    assert small.network.config.encoder.seq_len == 2250  # type: ignore[attr-defined]
    assert load_recipe("st-mem-phantom-small", ["network={}"]).network == {}
    assert StMemPretrainingConfig.paper() == StMemPretrainingConfig()
