"""The regressor's figures of an evaluation: their names, the truth's row, the shuffled control, and clips that are too short."""

from dataclasses import replace
from pathlib import Path

import pytest

from echogen.cine import read_cine, write
from echogen.commands.simulate import simulate
from echogen.measurement.regression import regressor_error
from echogen.metrics.evaluation.run import evaluate

NAMES = {"ef_regressor", "ef_regressor_r2", "ef_regressor_rmse", "ef_regressor_bias", "ef_regressor_limits"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated clips of 1.5 s with EF 25, 45 and 65."""
    folder = tmp_path_factory.mktemp("clips")
    for seed, ef in enumerate((25.0, 45.0, 65.0)):
        simulate(output=folder, heart_rate=80.0, ef=ef, seconds=1.5, fps=32.0, seed=seed, device="cpu")
    return folder


def test_clips_against_themselves(clips: Path) -> None:
    figures = evaluate(clips, clips, ["ef_regressor"]).figures
    assert set(figures) == NAMES
    found = figures["ef_regressor"]
    assert found.generated.n == 3
    assert found.truth == found.generated  # what is asked of simulated clips is their truth
    assert found.control is not None
    assert found.generated.value < found.control.value
    r2 = figures["ef_regressor_r2"]
    assert r2.control is not None
    assert r2.generated.value > 0.5 > r2.control.value
    low, high = figures["ef_regressor_limits"].generated.low, figures["ef_regressor_limits"].generated.high
    assert low < figures["ef_regressor_bias"].generated.value < high
    assert found.measuring_error == regressor_error()["ef_mae_percent"]


def test_what_was_asked_counts_and_short_clips_do_not(clips: Path, tmp_path: Path) -> None:
    cine = read_cine(clips / "clip-00002" / "cine.npz")
    for name, frames in {"a": 48, "b": 20, "c": 48}.items():
        write(replace(cine, frames=cine.frames[:frames], times_s=cine.times_s[:frames]), tmp_path / f"{name}.npz")
    for name in "ab":
        (tmp_path / f"{name}.json").write_text('{"settings": {"ef_percent": 20}}')
    figures = evaluate(clips, tmp_path, ["ef_regressor"]).figures
    assert figures["ef_regressor"].generated.n == 1  # b is too short, nothing was asked of c
    assert figures["ef_regressor_bias"].generated.value > 15
    assert figures["ef_regressor"].truth is not None
    assert figures["ef_regressor"].truth.n == 3
