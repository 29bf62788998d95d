"""The trainer on a small real task: it learns, resumes exactly, survives being killed, and leaves what it promises."""

import csv
import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from echogen.errors import InputError
from echogen.training import OptimizerGroup, Recipe, Task, TrainingStopped, train
from echogen.training.checkpoint import checkpoint_files, load_checkpoint
from echogen.training.ema import Ema, ema_decay_at
from echogen.training.trainer import learning_rate_factor

RECIPE = Recipe(
    task="sine",
    steps=24,
    batch_size=16,
    learning_rate=1e-2,
    warmup_steps=4,
    precision="fp32",
    ema_decay=0.9,
    ema_every=2,
    save_every=6,
    sample_every=12,
    log_every=6,
)


class Sine(Task):
    """An MLP with dropout fits a sine."""

    pauses = False

    def __init__(self, recipe):
        super().__init__(recipe)
        self.network = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Dropout(0.05), nn.Linear(16, 1))

    def networks(self):
        return {"curve": self.network}

    def batch(self, step, rank, world):
        if self.pauses:
            time.sleep(0.05 if step < 20 else 60)
        x = self.random(step, 0).uniform(-2, 2, (self.recipe.batch_size, 1)).astype(np.float32)[rank::world]
        return {"x": torch.from_numpy(x), "y": torch.from_numpy(np.sin(2 * x))}

    def losses(self, batch, step):
        error = self.network(batch["x"]) - batch["y"]
        return {"loss": error.square().mean(), "absolute_error": error.abs().mean()}

    def sample(self, step):
        heights = self.network(torch.linspace(-2, 2, 40, device=self.device)[:, None]).float().cpu().numpy()[:, 0]
        return np.repeat((127 + 100 * np.clip(heights, -1, 1)).astype(np.uint8)[None], 8, axis=0)


class NoDropout(Sine):
    def __init__(self, recipe):
        super().__init__(recipe)
        self.network[2] = nn.Identity()


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    train(Sine(RECIPE), RECIPE, folder, progress=False)
    return folder


def table(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def assert_same_end(folder, other):
    one, two = load_checkpoint(folder), load_checkpoint(other)
    assert one["step"] == two["step"]
    for part in ("networks", "ema"):
        for name, tensor in one[part]["curve"].items():
            assert torch.equal(tensor, two[part]["curve"][name]), (part, name)
    shipped, also = (load_file(path / "weights" / "curve" / "model.safetensors") for path in (folder, other))
    assert all(torch.equal(shipped[name], also[name]) for name in shipped)
    assert [(row["step"], row["learning_rate"]) for row in table(folder)] == [
        (row["step"], row["learning_rate"]) for row in table(other)
    ]


def test_loss_falls(tmp_path):
    recipe = replace(RECIPE, steps=300, log_every=50, save_every=300, sample_every=0)
    task = Sine(recipe)
    train(task, recipe, tmp_path, progress=False)
    rows = table(tmp_path)
    assert float(rows[-1]["loss"]) < 0.3 * float(rows[0]["loss"])
    assert not (tmp_path / "samples").exists()


def test_what_a_run_leaves(whole):
    assert [path.name for path in checkpoint_files(whole)] == ["step_00000018.pt", "step_00000024.pt"]
    rows = table(whole)
    assert [int(row["step"]) for row in rows] == [1, 6, 12, 18, 24]
    assert set(rows[0]) == {"step", "seconds", "loss", "absolute_error", "gradient_norm", "learning_rate"}
    assert sorted(path.name for path in (whole / "samples").iterdir()) == ["step_000012.png", "step_000024.png"]
    with Image.open(whole / "samples" / "step_000024.png") as picture:
        assert picture.size == (40, 8)
    assert any((whole / "tensorboard").iterdir())
    average = load_checkpoint(whole)["ema"]["curve"]
    shipped = load_file(whole / "weights" / "curve" / "model.safetensors")
    assert all(torch.equal(shipped[name], average[name]) for name in average)


def test_a_sample_shows_the_averages_and_changes_nothing(whole, tmp_path):
    often = replace(RECIPE, sample_every=1)
    seen = []

    class Watched(Sine):
        def sample(self, step):
            seen.append({name: tensor.clone() for name, tensor in self.network.state_dict().items()})
            assert not self.network.training
            torch.rand(3)
            return None

    train(Watched(often), often, tmp_path, progress=False)
    assert_same_end(tmp_path, whole)
    average = load_checkpoint(tmp_path)["ema"]["curve"]
    assert all(torch.equal(seen[-1][name], average[name]) for name in average)


@pytest.mark.parametrize("damage", ["none", "half-written", "truncated"])
def test_resume_is_exact(whole, tmp_path, damage):
    """A stop request at step 9 saves and returns; the continuation ends where the uninterrupted run does."""

    class Interrupted(Sine):
        def losses(self, batch, step):
            if step == 8:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().losses(batch, step)

    train(Interrupted(RECIPE), RECIPE, tmp_path, progress=False)
    files = checkpoint_files(tmp_path)
    assert files[-1].name == "step_00000009.pt"
    if damage == "half-written":
        files[-1].with_name("step_00000012.partial").write_bytes(files[-1].read_bytes()[:300])
    if damage == "truncated":
        files[-1].write_bytes(files[-1].read_bytes()[:-300])
    train(Sine(RECIPE), RECIPE, tmp_path, resume=True, progress=False)
    if damage == "truncated":
        assert_same_end(tmp_path, whole)
    else:
        stops = [row for row in table(tmp_path) if row["step"] == "9"]
        assert len(stops) == 1
        rows = [row for row in table(tmp_path) if row["step"] != "9"]
        assert [row["step"] for row in rows] == [row["step"] for row in table(whole)]
        one, two = load_checkpoint(tmp_path), load_checkpoint(whole)
        assert all(
            torch.equal(one["networks"]["curve"][name], two["networks"]["curve"][name]) for name in one["networks"]["curve"]
        )
        assert all(torch.equal(one["ema"]["curve"][name], two["ema"]["curve"][name]) for name in one["ema"]["curve"])


def test_killed_run_resumes_exactly(tmp_path, whole):
    """kill -9 in the middle, wherever it falls, then resume."""
    process = subprocess.Popen([sys.executable, __file__, str(tmp_path)], env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 300
        while not checkpoint_files(tmp_path) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert load_checkpoint(tmp_path)["step"] < RECIPE.steps
    train(Sine(RECIPE), RECIPE, tmp_path, resume=True, progress=False)
    assert_same_end(tmp_path, whole)


def test_worker_processes_give_the_same_weights(tmp_path, whole):
    recipe = replace(RECIPE, workers=1)
    train(Sine(recipe), recipe, tmp_path, progress=False)
    assert_same_end(tmp_path, whole)


def test_more_steps_continue_a_finished_run(tmp_path):
    short = replace(RECIPE, steps=3)
    train(Sine(short), short, tmp_path, progress=False)
    train(Sine(short), short, tmp_path, resume=True, progress=False)
    assert load_checkpoint(tmp_path)["step"] == 3
    longer = replace(RECIPE, steps=5)
    train(Sine(longer), longer, tmp_path, resume=True, progress=False)
    assert load_checkpoint(tmp_path)["step"] == 5


def test_refuses_to_mix_runs(whole):
    with pytest.raises(InputError, match="--resume"):
        train(Sine(RECIPE), RECIPE, whole, progress=False)
    other = replace(RECIPE, options={"width": 3})
    with pytest.raises(InputError, match=r"options\.width"):
        train(Sine(other), other, whole, resume=True, progress=False)


def test_loss_that_is_not_finite_stops_the_run(tmp_path):
    class Broken(Sine):
        def losses(self, batch, step):
            losses = super().losses(batch, step)
            return {name: loss * (float("nan") if step == 7 else 1.0) for name, loss in losses.items()}

    with pytest.raises(TrainingStopped, match="step 8 because loss"):
        train(Broken(RECIPE), RECIPE, tmp_path, progress=False)
    assert load_checkpoint(tmp_path)["step"] == 6


def test_time_limit_anneals_and_stops(tmp_path):
    """The rate of each step follows the share of the minutes used before it; a used-up limit leaves nothing to resume."""
    recipe = replace(RECIPE, steps=10**7, minutes=0.01, log_every=1, save_every=10**7, sample_every=0)
    train(Sine(recipe), recipe, tmp_path, progress=False)
    rows = table(tmp_path)
    used = [0.0, *(float(row["seconds"]) / 0.6 for row in rows)]
    assert used[-1] >= 0.99
    assert used[-2] <= 1.01
    for step, row in enumerate(rows):
        expected = 1e-2 * learning_rate_factor(recipe, step, used[step])
        assert float(row["learning_rate"]) == pytest.approx(expected, abs=3e-4)  # seconds are written to 0.01
    reached = load_checkpoint(tmp_path)["step"]
    train(Sine(recipe), recipe, tmp_path, resume=True, progress=False)
    assert load_checkpoint(tmp_path)["step"] == reached


def test_two_optimizers_minimise_their_own_losses(tmp_path):
    """A minimax game a * b with both players' own losses: each network moves against its own gradient only."""
    recipe = replace(RECIPE, steps=1, warmup_steps=0, weight_decay=0.0, clip_norm=0.0, sample_every=0)

    class Game(Task):
        def __init__(self, recipe):
            super().__init__(recipe)
            self.players = {name: nn.Linear(1, 1, bias=False) for name in ("generator", "discriminator", "late")}
            for player in self.players.values():
                nn.init.constant_(player.weight, 0.5)

        def networks(self):
            return self.players

        def optimized(self):
            return (
                OptimizerGroup("g", ("generator",), "generator_loss"),
                OptimizerGroup("d", ("discriminator",), "discriminator_loss", learning_rate_share=2.0),
                OptimizerGroup("l", ("late",), "late_loss"),
            )

        def batch(self, step, rank, world):
            return torch.ones(1, 1)

        def losses(self, batch, step):
            value = self.players["discriminator"](self.players["generator"](batch)).sum()
            return {"generator_loss": value, "discriminator_loss": -value}

    task = Game(recipe)
    train(task, recipe, tmp_path, progress=False)
    moved = {name: player.weight.item() - 0.5 for name, player in task.players.items()}
    assert moved["generator"] == pytest.approx(-0.01, rel=1e-4)  # the first AdamW step is the learning rate
    assert moved["discriminator"] == pytest.approx(0.02, rel=1e-4)
    assert moved["late"] == 0.0


def test_weight_decay_is_on_matrices_only(tmp_path):
    recipe = replace(RECIPE, steps=1, warmup_steps=0, schedule="constant", weight_decay=0.5, sample_every=0)

    class Still(NoDropout):
        def losses(self, batch, step):
            return {"loss": 0.0 * self.network(batch["x"]).sum()}

    task = Still(recipe)
    before = {name: tensor.clone() for name, tensor in task.network.state_dict().items()}
    train(task, recipe, tmp_path, progress=False)
    for name, tensor in task.network.state_dict().items():
        torch.testing.assert_close(tensor, before[name] * (0.995 if name.endswith("weight") else 1.0))


def test_bf16_keeps_float32_weights(tmp_path):
    recipe = replace(RECIPE, steps=2, precision="bf16", sample_every=0)
    seen = []

    class Watched(Sine):
        def losses(self, batch, step):
            seen.append(self.network(batch["x"]).dtype)
            return super().losses(batch, step)

    task = Watched(recipe)
    train(task, recipe, tmp_path, progress=False)
    assert seen == [torch.bfloat16] * 2
    assert all(weight.dtype == torch.float32 for weight in task.network.parameters())


def test_average_follows_its_formula():
    torch.manual_seed(0)
    network = nn.BatchNorm1d(3)
    ema = Ema({"n": network}, decay=0.6)
    by_hand = network.weight.detach().clone()
    for update in range(20):
        with torch.no_grad():
            network.weight.add_(torch.randn(3))
            network.running_mean.add_(1.0)
        ema.update({"n": network})
        decay = min(0.6, (1 + update) / (10 + update))
        assert decay == ema_decay_at(update, 0.6)
        by_hand = decay * by_hand + (1 - decay) * network.weight.detach()
    torch.testing.assert_close(ema.networks["n"].weight, by_hand)
    assert torch.equal(ema.networks["n"].running_mean, network.running_mean)


def test_schedule_warms_up_and_comes_down():
    recipe = replace(RECIPE, steps=100, warmup_steps=10, final_learning_rate_share=0.1)
    factors = [learning_rate_factor(recipe, step, step / 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.1, rel=1e-3)
    assert int(np.argmax(factors)) in range(8, 11)
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[10:]))
    assert learning_rate_factor(recipe, 100, 1.0) == pytest.approx(0.1)
    assert learning_rate_factor(replace(recipe, schedule="constant"), 50, 0.5) == 1.0


@pytest.mark.slow
def test_two_processes_take_the_same_steps_as_one(tmp_path):
    """Half the batch on each of two processes gives the mean gradient of the whole batch."""
    recipe = replace(RECIPE, steps=8)
    train(NoDropout(recipe), recipe, tmp_path / "one", progress=False)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", __file__]
    subprocess.run([*launch, str(tmp_path / "two"), "two"], check=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"})
    one, two = (load_checkpoint(tmp_path / name)["networks"]["curve"] for name in ("one", "two"))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-4, atol=1e-6)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[2:] == ["two"]:
        recipe = replace(RECIPE, steps=8)
        train(NoDropout(recipe), recipe, Path(sys.argv[1]), progress=False)
    else:
        Sine.pauses = True
        train(Sine(RECIPE), RECIPE, Path(sys.argv[1]), progress=False)
