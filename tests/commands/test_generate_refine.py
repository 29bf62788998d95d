"""`echogen generate --refine`, end to end with the shipped weights."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echogen import read_cine
from echogen.generators.wrappers.refined import Refiner

Run = Callable[..., Any]


def in_time(folder: Path) -> Path:
    """A refiner of the frame rate that knows nothing."""
    refiner = Refiner.from_pretrained("refine-2x-space", "cpu")
    Refiner(replace(refiner.config, refine="2x-time"), refiner.network).save_pretrained(folder)
    return folder


def test_a_video_gets_twice_the_frames_and_the_size(echogen: Run, tmp_path: Path) -> None:
    asked = ("--seconds", 0.25, "--seed", 2)
    assert echogen("generate", "-o", tmp_path / "plain.npz", *asked).code == 0
    outcome = echogen(
        "generate", "-o", tmp_path / "fine.npz", "--refine", "2x-space", "--refine", in_time(tmp_path / "mine"), *asked
    )
    assert outcome.code == 0, outcome.err
    plain, fine = (read_cine(tmp_path / f"{name}.npz") for name in ("plain", "fine"))
    assert fine.frames.shape == (2 * len(plain.frames) - 1, 256, 256)
    assert fine.fps == pytest.approx(2 * plain.fps)
    np.testing.assert_allclose(fine.times_s[::2], plain.times_s)
    averaged = fine.frames[::2].reshape(len(plain.frames), 128, 2, 128, 2).mean((2, 4))
    assert np.abs(averaged - plain.frames).mean() < 2
    document = json.loads((tmp_path / "fine.json").read_text())
    assert [each["refine"] for each in document["refined"]] == ["2x-time", "2x-space"]
    assert all(len(each["weights_hash"]) == 16 for each in document["refined"])
    assert (document["frames"], document["resampled"], document["native_fps"]) == (len(fine.frames), False, 32)
    assert document["fps"] == pytest.approx(64)
    before = json.loads((tmp_path / "plain.json").read_text())
    assert before["refined"] == []
    assert before["beats"] == document["beats"]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--refine", "2x-space", "--refine", "2x-space"), "only once"),
        (("--refine", "3x-time"), "3x-time"),
        (("--refine", "2x-space", "--table", "cases.csv"), "leave --refine out"),
    ],
)
def test_what_cannot_be_refined_is_one_sentence(
    echogen: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = echogen("generate", "-o", tmp_path / "a.npz", *more)
    assert outcome.code == 2
    assert says in outcome.err
    assert not list(tmp_path.iterdir())
