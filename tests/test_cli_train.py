"""`echogen train`: a run from a recipe, stopped and continued."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from echogen.datasets.clip_store import render_clips

Run = Callable[..., Any]


def test_a_shipped_recipe_trains_and_continues(echogen: Run, tmp_path: Path) -> None:
    render_clips(tmp_path / "clips", 1, frames=17, processes=1)
    out = tmp_path / "run"
    settings = [f"data.clips={tmp_path / 'clips'}", "batch_size=1", "warmup_steps=1", "sample_every=0", "precision=fp32"]
    command = ["train", "phantom-128-segmenter", "-o", out, *(word for one in settings for word in ("--set", one))]
    first = echogen(*command, "--set", "steps=2")
    assert first.code == 0, first.err
    assert list((out / "weights").rglob("model.safetensors"))
    refused = echogen(*command, "--set", "steps=3")
    assert refused.code == 2
    assert "resume" in refused.err
    continued = echogen(*command, "--set", "steps=3", "--resume")
    assert continued.code == 0, continued.err
    assert (out / "metrics.csv").read_text().splitlines()[-1].startswith("3,")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no-such-recipe"], "no-such-recipe"),
        (["phantom-128-segmenter", "--set", "stepz=3"], "steps"),
        (["phantom-128-segmenter", "--set", "steps"], "key=value"),
        (["phantom-128-segmenter", "--set", "data.clips=nowhere"], "nowhere"),
    ],
)
def test_mistakes_start_nothing(echogen: Run, tmp_path: Path, arguments: list[str], says: str) -> None:
    outcome = echogen("train", *arguments, "-o", tmp_path / "run")
    assert outcome.code == 2
    assert says in outcome.err
    assert not (tmp_path / "run").exists()
