"""The shipped regressor on simulated hearts, and what it does with videos of other lengths and rates."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from echogen.cine import write
from echogen.measurement.regression import load_regressor, regressed_ef_percent, regressor_error
from echogen.networks.ef_regressor import EfRegressor, EfRegressorConfig
from echogen.phantom.simulate import simulate
from echogen.records import Cine


@pytest.fixture(scope="module")
def cine() -> Cine:
    return simulate(ef_percent=60, heart_rate_bpm=75, seconds=3.0, seed=11).cine


@pytest.mark.parametrize("view", ["A4C", "A2C"])
def test_low_middle_and_normal_hearts_come_in_order(view: str) -> None:
    seen = []
    for ef in (25.0, 45.0, 65.0):
        study = simulate(ef_percent=ef, heart_rate_bpm=70, view=view, seconds=2.0, seed=3)
        seen.append(regressed_ef_percent(study.cine, load_regressor()))
    assert seen == sorted(seen)
    assert np.diff(seen).min() > 8
    assert np.abs(np.subtract(seen, (25.0, 45.0, 65.0))).max() < 4 * regressor_error()["ef_mae_percent"]


def test_the_rate_of_the_video_hardly_matters(cine: Cine) -> None:
    every_other = Cine(cine.frames[::2], cine.times_s[::2] + 5.0, cine.mm_per_pixel, cine.view)
    one, other = (regressed_ef_percent(each, load_regressor()) for each in (cine, every_other))
    assert one == pytest.approx(other, abs=8)


def test_long_videos_are_averaged_and_short_ones_refused(cine: Cine) -> None:
    torch.manual_seed(0)
    config = EfRegressorConfig(frames=16, fps=32.0, size=32, channels=1, widths=(4,), blocks=(1,), stem_width=4)
    network = EfRegressor(config).eval()

    def part(first: int, count: int) -> float | None:
        chosen = slice(first, first + count)
        return regressed_ef_percent(replace(cine, frames=cine.frames[chosen], times_s=cine.times_s[chosen]), network)

    windows = [part(first, 16) for first in (0, 8, 16, 24)]
    assert part(0, 40) == pytest.approx(np.mean(windows), abs=1e-3)
    assert len(set(windows)) == 4
    assert part(0, 16) == windows[0]
    assert part(0, 8) is not None
    assert part(0, 7) is None
    assert part(0, 1) is None


def test_measure_prints_both_and_takes_an_imported_regressor(echogen: Callable[..., Any], cine: Cine, tmp_path: Path) -> None:
    write(cine, tmp_path / "beat.npz")
    outcome = echogen("measure", tmp_path / "beat.npz", "--generated", "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["ef_regressor_percent"] == pytest.approx(regressed_ef_percent(cine, load_regressor()), abs=0.1)
    assert found["measuring_error"]["ef_regressor_mae_percent"] == regressor_error()["ef_mae_percent"]
    config = EfRegressorConfig(frames=16, fps=25.0, size=32, widths=(4,), blocks=(1,), stem_width=4)
    network = EfRegressor(config).eval()
    torch.save({"state_dict": {f"module.{name}": w for name, w in network.state_dict().items()}}, tmp_path / "w.pt")
    assert echogen("import-weights", "ef-regressor", tmp_path / "w.pt", "-o", tmp_path / "other").code == 0
    table = echogen("measure", tmp_path / "beat.npz", "--regressor", tmp_path / "other")
    assert table.code == 0, table.err
    line = next(line for line in table.out.splitlines() if "by regression" in line)
    assert "unknown" in line
    missing = echogen("measure", tmp_path / "beat.npz", "--regressor", tmp_path / "none")
    assert missing.code == 2
    assert "There is no network" in missing.err
