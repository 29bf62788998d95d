"""The option --fps of verbs that take folders of clips, where the clock of real clips is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from echogen.cine import read_cine, write

Run = Callable[..., Any]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Real clips whose GIFs say 10 s a frame, and generated ones of the same names with a right clock."""
    from echogen import simulate

    real, generated = tmp_path / "real", tmp_path / "generated"
    for folder in (real, generated):
        folder.mkdir()
    for seed in range(2):
        cine = simulate(seconds=1.5, seed=seed, fps=25.0).cine
        write(cine, generated / f"heart{seed}.npz")
        first, *rest = [Image.fromarray(frame) for frame in cine.frames]
        first.save(real / f"heart{seed}.gif", save_all=True, append_images=rest, duration=10_000)
    return real, generated


def test_evaluate_takes_the_frame_rate_of_real_clips(echogen: Run, folders: tuple[Path, Path]) -> None:
    real, generated = folders
    refused = echogen("evaluate", "--real", real, "--generated", generated, "--metrics", "mae")
    assert (refused.code, "--fps" in refused.err) == (2, True)
    judged = echogen("evaluate", "--real", real, "--generated", generated, "--metrics", "mae", "--fps", "25")
    assert judged.code == 0, judged.err
    assert "2 of one name" in judged.out


def test_a_blind_test_takes_the_frame_rate_of_real_clips(folders: tuple[Path, Path]) -> None:
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    from echogen.app.blind_test.clips import encoded_clips, set_up
    from echogen.app.blind_test.session import Plan

    real, generated = folders
    plan = Plan(str(real), str(generated), 2, 0, 1.0, fps=25.0)
    test, notes = set_up(plan, lambda done, total: None)
    assert (test.fps, notes) == (25.0, [])
    assert len(encoded_clips(test, lambda done, total: None)) == 2


@pytest.mark.parametrize("verb", ["adapt", "evaluate", "blind-test"])
def test_a_senseless_rate_is_refused(echogen: Run, folders: tuple[Path, Path], tmp_path: Path, verb: str) -> None:
    real, generated = folders
    both = ("--real", real, "--generated", generated)
    pytest.importorskip("peft", reason="the extra adapt is not installed")
    given = {
        "adapt": (real / "heart0.gif", "-o", tmp_path / "out"),
        "evaluate": both,
        "blind-test": (*both, "-o", tmp_path / "answers"),
    }
    outcome = echogen(verb, *given[verb], "--fps", "0")
    assert (outcome.code, "--fps must lie between" in outcome.err) == (2, True)


def test_frames_stay_as_they_are(folders: tuple[Path, Path]) -> None:
    real, generated = folders
    given, stated = read_cine(real / "heart0.gif", fps=25.0), read_cine(generated / "heart0.npz")
    np.testing.assert_allclose(given.times_s - given.times_s[0], stated.times_s - stated.times_s[0], atol=1e-9)
