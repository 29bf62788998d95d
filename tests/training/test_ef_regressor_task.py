"""The EF regressor learns, and what it is asked is true of what it sees."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echogen import InputError
from echogen.networks.config import load_network
from echogen.networks.ef_regressor import EfRegressor, EfRegressorConfig
from echogen.records import Beat
from echogen.training import Recipe, load_recipe, train
from echogen.training.source import Window
from echogen.training.source.window import shown_ef_percent
from echogen.training.tasks import make_task
from echogen.training.tasks.ef_regressor import recompute_batch_norm, varied

NETWORK = {"frames": 24, "size": 32, "widths": [8, 12], "blocks": [1, 1], "stem_width": 6, "stem_stride": [2, 4]}


@pytest.fixture(scope="module")
def clips(small_store: Callable[[int, int], Path]) -> Path:
    return small_store(3, 30)


def plan(clips: Path, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "task": "ef-regressor", "steps": 30, "batch_size": 6, "learning_rate": 1e-2, "warmup_steps": 5, "ema_decay": 0.8,
        "schedule": "constant", "precision": "fp32", "save_every": 1000, "sample_every": 0, "log_every": 1000,
        "clip_norm": 100.0, "data": {"source": str(clips)}, "network": NETWORK,
        "options": {"pad": 2, "short_share": 0.0, "outline_steps": 10, "outline_frames": 12, "normalisation_batches": 4},
    }  # fmt: skip
    return Recipe(**(values | changes))


def losses_of(task: Any) -> dict[str, float]:
    batches = [task.losses(task.batch(1000 + index, 0, 1), 1000) for index in range(3)]
    return {name: float(np.mean([float(parts[name].detach()) for parts in batches])) for name in batches[0]}


def test_the_loss_falls_and_the_average_is_saved(clips: Path, tmp_path: Path) -> None:
    task = make_task(plan(clips))
    task.network.train()
    before = losses_of(task)
    train(task, task.recipe, tmp_path / "run", progress=False)
    after = losses_of(task)
    assert after["ef_loss"] < 0.5 * before["ef_loss"]
    assert after["outline_loss"] < 0.5 * before["outline_loss"]
    assert [path.name for path in (tmp_path / "run" / "weights").iterdir()] == ["ef-regressor"]
    saved = load_network(EfRegressor, tmp_path / "run" / "weights" / "ef-regressor")
    assert saved.config == task.network.config
    started = make_task(plan(clips, init_from=str(tmp_path / "run" / "weights")))
    assert torch.equal(started.network.fc.weight, saved.fc.weight)


def test_a_batch_is_a_pure_function_of_its_step(clips: Path) -> None:
    task = make_task(plan(clips, options={"pad": 2, "short_share": 0.5, "outline_steps": 3, "outline_frames": 8}))
    one, two, other = task.batch(3, 0, 1), task.batch(3, 0, 1), task.batch(4, 0, 1)
    assert all(torch.equal(one[name].nan_to_num(9.0), two[name].nan_to_num(9.0)) for name in one)
    assert not torch.equal(one["videos"], other["videos"])
    assert one["videos"].shape == (6, 24, 32, 32)
    assert task.batch(2, 0, 1)["videos"].shape == (18, 8, 32, 32)  # as many frames, of more hearts
    assert 0 <= float(one["videos"].min()) < float(one["videos"].max()) <= 1
    lit = (torch.cat([one["videos"], other["videos"]]).amax((2, 3)) > 0).sum(1)
    assert 12 <= lit.min() < lit.max() == 24
    assert float(one["ef_percent"].min()) > 10
    blank = ~torch.isfinite(one["outlines"]).all(2)
    assert (blank.sum(1) > 0).tolist() == ((one["videos"].amax((2, 3)) > 0).sum(1) < 24).tolist()
    assert one["outlines"][~blank].abs().max() < 4


def test_the_truth_is_that_of_the_beats_shown() -> None:
    beats = tuple(Beat(float(ed), ed + 0.3, 100.0, esv) for ed, esv in enumerate((70.0, 50.0, 40.0)))

    def shown(start_s: float, end_s: float, beats: tuple[Beat, ...] = beats) -> float | None:
        return shown_ef_percent(Window("a", np.array([start_s, end_s]), beats=beats, ef_percent=57.0))

    assert shown(-0.1, 2.5) == 50
    assert shown(0.9, 2.5) == 55
    assert shown(1.9, 2.5) == 60
    assert shown(0.2, 0.7) == 30  # none whole: the nearest
    assert shown(0.2, 0.7, ()) == 57


def test_variation_keeps_the_heart_and_moves_it() -> None:
    rng = np.random.default_rng(0)
    plain = np.zeros((4, 64, 64), np.uint8)
    plain[:, 24:40, 24:40] = 200
    made = [varied(plain, plain, 32, 4, rng) for _ in range(12)]
    assert all(torch.equal(video[0], video[3]) for video in made)
    places = {tuple(int(v[0]) for v in torch.nonzero(video[0] > 0.3, as_tuple=True)) for video in made}
    assert len(places) > 5
    sizes = [int((video[0] > 0.3).sum()) for video in made]
    assert min(sizes) > 40
    assert len({round(float(video.max()), 3) for video in made}) > 5


def test_wrong_settings_are_one_sentence_and_the_recipe_makes_the_small_network(clips: Path) -> None:
    with pytest.raises(InputError, match=r"lasts 0\.91 s, but a window needs 1\.97 s"):
        make_task(plan(clips, network={}))
    recipe = load_recipe("phantom-ef-regressor")
    assert recipe.task == "ef-regressor"
    assert recipe.network == {}
    assert EfRegressorConfig.small().channels == 1


def test_batch_norms_are_recomputed_over_the_given_batches() -> None:
    torch.manual_seed(0)
    network = EfRegressor(EfRegressorConfig(frames=8, size=16, channels=1, widths=(4,), blocks=(1,), stem_width=4)).eval()
    videos = torch.rand(6, 8, 16, 16)
    before = network(videos)
    recompute_batch_norm(network, [videos])
    assert not network.training
    after = network(videos)
    network.train()
    torch.testing.assert_close(after, network(videos), atol=0.5, rtol=0)
    assert (after - before).abs().max() > 1
    assert all(module.momentum == 0.1 for module in network.modules() if isinstance(module, torch.nn.BatchNorm3d))
