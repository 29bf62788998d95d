"""`echogen train`: a run from a recipe, stopped and continued."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from echogen.datasets.clip_store import render_clips
from echogen.training.recipe import RECIPES

Run = Callable[..., Any]
SHIPPED = sorted(path.stem for path in RECIPES.glob("*.yaml"))


def test_a_shipped_recipe_trains_and_continues(echogen: Run, tmp_path: Path) -> None:
    render_clips(tmp_path / "clips", 1, frames=17, processes=1, clips_per_shard=1)
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
        (["phantom-128-segmenter", "--set", "network.widht=3"], "no setting network.widht; did you mean network.width"),
        (["phantom-128-decoder", "--set", "network.cavity_cell=3"], "did you mean network.cavity_cells"),
        (["phantom-128-tokenizer", "--set", "network.quantizer.level=[5]"], "did you mean network.quantizer.levels"),
        (["phantom-128-tokenizer", "--set", "network.dim=wide"], "network.dim must be a whole number, not 'wide'"),
        (["phantom-identity", "--set", "options.temprature=1"], "did you mean options.temperature"),
    ],
)
def test_mistakes_start_nothing(echogen: Run, tmp_path: Path, arguments: list[str], says: str) -> None:
    outcome = echogen("train", *arguments, "-o", tmp_path / "run")
    assert outcome.code == 2
    assert says in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_run_needs_a_folder(echogen: Run) -> None:
    outcome = echogen("train", "phantom-128-segmenter")
    assert outcome.code == 2
    assert "-o DIR" in outcome.err


def test_there_are_shipped_recipes() -> None:
    assert len(SHIPPED) >= 18


@pytest.mark.parametrize("name", SHIPPED)
def test_every_setting_of_a_shipped_recipe_is_listed(echogen: Run, name: str) -> None:
    outcome = echogen("train", "--show", name, "--set", "steps=7")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    starts = [index for index, line in enumerate(lines) if not line.startswith(" ")]
    assert "steps = 7  [whole number, no default]" in lines
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        setting, _, rest = lines[start].partition(" = ")
        assert setting.replace(".", "").replace("_", "").isalnum()
        assert rest.endswith("]")
        assert "default" in rest
        meaning = " ".join(line.strip() for line in lines[start + 1 : end])
        assert meaning[:1].isupper(), f"{setting} has no meaning"
        assert meaning.endswith("."), f"the meaning of {setting} is no sentence: {meaning}"


def test_the_list_says_what_a_recipe_changes_and_what_follows_from_files(echogen: Run) -> None:
    text = echogen("train", "--show", "echopulse-transformer-small").out
    assert "network.vocabulary = (follows from the files in data)  [whole number, default 8192]" in text
    assert "network.dim = 128  [whole number, default 512]" in text
    assert "network.ecg = null  [settings or null, default null]" in text
    assert "network.ecg.rate_hz = (unused)  [number, default 128.0]" in text
    text = echogen("train", "--show", "phantom-128-decoder").out
    assert "network.dim = (as in init_from)  [whole number, default 160]" in text
    assert "network.cavity_cells = 64" in text


def test_the_list_refuses_a_wrong_setting(echogen: Run) -> None:
    outcome = echogen("train", "--show", "phantom-128-tokenizer", "--set", "network.dimm=3")
    assert outcome.code == 2
    assert "did you mean network.dim" in outcome.err
