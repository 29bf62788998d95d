"""`echogen simulate`: folders of ECG, echo, masks and truth that agree with each other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echogen import read_cine, read_ecg
from echogen.ecg import find_landmarks

Run = Callable[..., Any]
FILES = {"cine.npz", "cine.mp4", "ecg.npz", "masks.npz", "truth.json"}


def test_a_clip_comes_with_its_truth(echogen: Run, tmp_path: Path) -> None:
    outcome = echogen(
        "simulate", "-o", tmp_path / "set", "--seconds", 2.5, "--ef", 45, "--heart-rate", 80, "--view", "A2C", "--seed", 3
    )
    assert outcome.code == 0, outcome.err
    clip = tmp_path / "set" / "clip-00003"
    assert {path.name for path in clip.iterdir()} == FILES
    truth = json.loads((clip / "truth.json").read_text())
    assert (truth["rhythm"], truth["view"], truth["seed"], truth["fps"]) == ("sinus", "A2C", 3, 32)
    assert truth["ef_percent"] == pytest.approx(45)
    assert set(truth["beats"][0]) == {"r_s", "ed_s", "es_s", "edv_ml", "esv_ml", "ef_percent"}
    assert [beat["ef_percent"] for beat in truth["beats"]] == pytest.approx([45] * len(truth["beats"]), abs=6)
    cine, ecg = read_cine(clip / "cine.npz"), read_ecg(clip / "ecg.npz")
    masks = np.load(clip / "masks.npz")["masks"]
    assert cine.frames.shape == masks.shape == (80, 128, 128)
    assert cine.view == "A2C"
    assert ecg.duration_s == pytest.approx(2.5, abs=0.01)
    assert read_cine(clip / "cine.mp4").fps == pytest.approx(32)
    # The ECG beats when the truth says, and the ventricle is smallest near end-systole.
    r_s = find_landmarks(ecg).r_s
    for beat in truth["beats"]:
        assert np.abs(r_s - beat["r_s"]).min() < 0.03
    area = (masks == 1).sum(axis=(1, 2))
    ed, es = (np.interp([beat[key] for beat in truth["beats"]], cine.times_s, area) for key in ("ed_s", "es_s"))
    assert (es < 0.9 * ed).all()


def test_the_seed_decides_and_nothing_is_overwritten(echogen: Run, tmp_path: Path) -> None:
    short = ("--seconds", 1, "--rhythm", "af")
    assert echogen("simulate", "-o", tmp_path / "a", "-n", 2, *short).code == 0
    assert echogen("simulate", "-o", tmp_path / "b", "--seed", 1, *short).code == 0
    one, same, other = (
        read_cine(tmp_path / name / "cine.npz").frames for name in ("a/clip-00001", "b/clip-00001", "a/clip-00000")
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    refused = echogen("simulate", "-o", tmp_path / "a", *short)
    assert refused.code == 2
    assert "there already" in refused.err


def test_the_heart_follows_a_recorded_ecg(echogen: Run, tmp_path: Path, dicom_ecg_path: Path) -> None:
    assert echogen("simulate", dicom_ecg_path, "-o", tmp_path / "set", "--seconds", 3).code == 0
    clip = tmp_path / "set" / "clip-00000"
    truth = json.loads((clip / "truth.json").read_text())
    assert truth["rhythm"] == "recorded"
    recorded = find_landmarks(read_ecg(dicom_ecg_path))
    for beat in truth["beats"]:
        assert np.abs(recorded.r_s - beat["r_s"]).min() < 0.02
    assert len(truth["beats"]) >= 2
    saved = read_ecg(clip / "ecg.npz")
    np.testing.assert_allclose(saved.signal_mv, read_ecg(dicom_ecg_path).between(0, 3).signal_mv, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--seconds", -1], "--seconds"),
        (["--fps", 1000], "--fps"),
        (["--ef", 99], "ejection"),
        (["--heart-rate", 900], "heart rate"),
    ],
)
def test_mistakes_leave_nothing_behind(echogen: Run, tmp_path: Path, arguments: list[object], says: str) -> None:
    outcome = echogen("simulate", "-o", tmp_path / "set", *arguments)
    assert outcome.code == 2
    assert says in outcome.err
    assert not list(tmp_path.rglob("*.npz"))
