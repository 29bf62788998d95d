"""`echogen render`: clips for training, continued where they were."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echogen.datasets.clip_store import ClipStore
from echogen.testing.clip_stores import small_store

Run = Callable[..., Any]


def test_clips_are_rendered_as_training_reads_them(echogen: Run, tmp_path: Path) -> None:
    command = ["render", "--frames", 9, "--per-shard", 1, "--processes", 1, "--look", "varied", "-o", tmp_path / "sub" / "clips"]
    made = echogen(*command, "--clips", 1)
    assert made.code == 0, made.err
    assert "1 clip to" in made.out
    first = tmp_path / "sub" / "clips" / "shard_0000" / "frames.npy"
    at = first.stat().st_mtime_ns
    assert echogen(*command, "--clips", 2).code == 0
    assert first.stat().st_mtime_ns == at
    store = ClipStore(tmp_path / "sub" / "clips")
    assert [store[index].heart["seed"] for index in range(len(store))] == [1_000_000, 1_000_001]
    plain = ClipStore(small_store(tmp_path / "plain"))
    assert store[0].frames.shape == plain[0].frames.shape
    assert not np.array_equal(store[0].frames, plain[0].frames)


@pytest.mark.parametrize("arguments", [["--fps", "0"], ["--clips", "0"], ["--look", "ugly"], ["--finer", "9"]])
def test_mistakes_write_nothing(echogen: Run, tmp_path: Path, arguments: list[str]) -> None:
    outcome = echogen("render", *arguments, "-o", tmp_path / "clips")
    assert outcome.code == 2
    assert outcome.err
    assert not (tmp_path / "clips").exists()
