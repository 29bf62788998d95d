"""`echogen import-weights`: what a user types, and each mistake."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Run = Callable[..., Any]


def test_released_files_become_a_generator(echogen: Run, fixtures_folder: Path, tmp_path: Path) -> None:
    recorded = fixtures_folder / "echopulse"
    files = [recorded / f"{name}.safetensors" for name in ("cvivit", "maskgit", "stmem")]
    outcome = echogen("import-weights", "echopulse", *files, "-o", tmp_path / "heart")
    assert outcome.code == 0, outcome.err
    assert "a generator" in outcome.out
    assert json.loads((tmp_path / "heart" / "generator.json").read_text())["system"] == "echopulse-published"
    for part in ("tokenizer", "transformer", "ecg"):
        assert (tmp_path / "heart" / part / "config.json").is_file()
        assert (tmp_path / "heart" / part / "model.safetensors").is_file()
    again = echogen("import-weights", "echopulse", *files, "-o", tmp_path / "heart")
    assert again.code == 2
    assert "exists already" in again.err


@pytest.mark.parametrize(
    ("system", "file", "output", "says"),
    [
        ("echo-pulse", "w.pt", "out", "echopulse, st-mem"),
        ("echopulse", "none.pt", "out", "none.pt"),
        ("echopulse", "w.pt", "out", "neither"),
        ("st-mem", "w.pt", "out", "ST-MEM"),
        ("st-mem", "words.bin", "out", "not a weights file"),
        ("st-mem", "w.pt", "nowhere/out", "nowhere does not exist"),
    ],
)
def test_mistakes_write_nothing(echogen: Run, tmp_path: Path, system: str, file: str, output: str, says: str) -> None:
    torch.save({"weight": torch.ones(1)}, tmp_path / "w.pt")
    (tmp_path / "words.bin").write_text("words")
    outcome = echogen("import-weights", system, tmp_path / file, "-o", tmp_path / output)
    assert outcome.code == 2
    assert says in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.pt", "words.bin"]
