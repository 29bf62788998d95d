"""`echogen generate` and `echogen measure`, end to end with the shipped weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echogen import read_cine, read_ecg
from echogen.ecg import find_landmarks

Run = Callable[..., Any]

DOCUMENT_KEYS = {"model", "weights_hash", "seed", "settings", "r_s", "beats", "ef_percent", "heart_rate_bpm", "wall_time_s"}
DOCUMENT_KEYS |= {"video_start_s", "fps", "native_fps", "resampled", "measuring_error"}
MEASURE_KEYS = {
    "numbers",
    "ef_percent",
    "heart_rate_bpm",
    "beats",
    "matched_fraction",
    "notes",
    "es_error_ms",
    "ef_regressor_percent",
    "measuring_error",
}


def test_a_video_from_the_recording_inside_pydicom(echogen: Run, tmp_path: Path, dicom_ecg_path: Path) -> None:
    outcome = echogen("generate", "-o", tmp_path / "beat.mp4", "--ef", 55, "--view", "A4C", "--seconds", 3)
    assert outcome.code == 0, outcome.err
    assert {path.name for path in tmp_path.iterdir()} == {"beat.mp4", "beat.json"}
    document = json.loads((tmp_path / "beat.json").read_text())
    assert set(document) >= DOCUMENT_KEYS
    assert (document["model"], document["seed"], document["settings"]["ef_percent"]) == ("phantom-128", 0, 55)
    assert document["privacy"] is None
    cine = read_cine(tmp_path / "beat.mp4")
    assert cine.fps == pytest.approx(document["native_fps"])
    assert cine.duration_s == pytest.approx(3, abs=0.05)
    r_s = find_landmarks(read_ecg(dicom_ecg_path)).r_s
    np.testing.assert_allclose(document["r_s"], r_s[r_s < 3], atol=0.02)
    assert set(document["beats"][0]) >= {"ed_s", "es_s", "ef_percent"}

    measured = echogen("measure", tmp_path / "beat.mp4", "--ecg", dicom_ecg_path, "--json")
    assert measured.code == 0, measured.err
    reading = json.loads(measured.out)
    assert set(reading) == MEASURE_KEYS
    assert set(reading["es_error_ms"]) == {"median", "mean", "sd"}
    assert reading["measuring_error"]
    table = echogen("measure", tmp_path / "beat.mp4")
    assert "Ejection fraction" in table.out
    assert "error on truth clips" in table.out


def test_the_seed_decides_and_another_frame_rate_is_said(echogen: Run, tmp_path: Path) -> None:
    for name, more in {"a": (), "b": (), "c": ("--seed", 1), "d": ("--fps", 50)}.items():
        assert echogen("generate", "-o", tmp_path / f"{name}.npz", "--seconds", 1, *more).code == 0
    a, b, c, d = (read_cine(tmp_path / f"{name}.npz") for name in "abcd")
    np.testing.assert_array_equal(a.frames, b.frames)
    assert (a.frames != c.frames).any()
    assert len(d.frames) == 50
    documents = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in "ad"}
    assert (documents["a"]["resampled"], documents["d"]["resampled"]) == (False, True)
    assert documents["d"]["fps"] == pytest.approx(50)


@pytest.mark.parametrize("suffix", [".gif", ".avi", ".png"])
def test_every_format_can_be_read_again(echogen: Run, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"beat{suffix}"
    assert echogen("generate", "-o", output, "--seconds", 1).code == 0
    assert len(read_cine(output).frames) == (1 if suffix == ".png" else 32)


def test_with_an_image_the_video_starts_at_the_first_r_peak(echogen: Run, tmp_path: Path, dicom_ecg_path: Path) -> None:
    assert echogen("simulate", "-o", tmp_path / "set", "--seconds", 1).code == 0
    still = tmp_path / "set" / "clip-00000" / "cine.npz"
    first_r = find_landmarks(read_ecg(dicom_ecg_path)).r_s[0]
    for name, more, start in [("a", (), first_r), ("b", ("--ecg-start", 2), 2.0)]:
        outcome = echogen("generate", "-o", tmp_path / f"{name}.npz", "--image", still, "--seconds", 1, *more)
        assert outcome.code == 0, outcome.err
        assert json.loads((tmp_path / f"{name}.json").read_text())["video_start_s"] == pytest.approx(start, abs=0.02)
        assert read_cine(tmp_path / f"{name}.npz").times_s[0] == pytest.approx(start, abs=0.02)


def test_a_flat_line_gives_a_heart_when_it_is_allowed(echogen: Run, tmp_path: Path) -> None:
    ecg = tmp_path / "flat.npy"
    np.save(ecg, np.full(2000, 0.1))
    outcome = echogen("generate", ecg, "--ecg-rate", 250, "--allow-flat", "-o", tmp_path / "beat.npz", "--seconds", 2)
    assert outcome.code == 0, outcome.err
    assert json.loads((tmp_path / "beat.json").read_text())["r_s"] == []
    assert read_cine(tmp_path / "beat.npz").frames.std() > 5


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [("--ef", 99, "99"), ("--device", "abacus", "abacus"), ("--text", "A weak heart.", "does not take the condition text")],
)
def test_what_the_model_does_not_know_is_refused(echogen: Run, tmp_path: Path, setting: str, value: object, says: str) -> None:
    outcome = echogen("generate", "-o", tmp_path / "beat.mp4", setting, value)
    assert outcome.code == 2
    assert says in outcome.err
    assert outcome.err.endswith(".\n")
    assert outcome.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_private_video_says_how_it_passed(echogen: Run, tmp_path: Path) -> None:
    assert echogen("generate", "-o", tmp_path / "a.npz", "--private", "--seconds", 1, "--ef", 60, "--view", "A4C").code == 0
    document = json.loads((tmp_path / "a.json").read_text())
    privacy = document["privacy"]
    assert set(privacy) == {"similarity", "threshold", "tries", "seed"}
    assert -1 <= privacy["similarity"] <= privacy["threshold"] < 1
    assert privacy["seed"] == document["seed"] + privacy["tries"] - 1


def test_private_without_a_bank_is_one_sentence(echogen: Run, tmp_path: Path) -> None:
    from echogen.generators.base import SHIPPED

    shutil.copytree(SHIPPED / "phantom-128", tmp_path / "mine", ignore=shutil.ignore_patterns("bank.npz"))
    outcome = echogen("generate", "-o", tmp_path / "a.npz", "--model", tmp_path / "mine", "--private")
    assert outcome.code == 2
    assert "The generator mine has no bank" in outcome.err
    assert "python -m echogen.metrics.memorisation.bank" in outcome.err
    assert not (tmp_path / "a.npz").exists()


def test_a_clip_from_one_frame_and_an_ejection_fraction(echogen: Run, tmp_path: Path) -> None:
    made = echogen("simulate", "--rhythm", "sinus", "--heart-rate", 60, "--ef", 60, "--seconds", 1, "-o", tmp_path / "heart")
    assert made.code == 0, made.err
    image = next((tmp_path / "heart").rglob("cine.npz"))
    small = ["generate", "--model", "echodiffusion-small", "--image", image]
    measured = {}
    for ef in (20, 70):
        outcome = echogen(*small, "--ef", ef, "-o", tmp_path / f"{ef}.npz")
        assert outcome.code == 0, outcome.err
        document = json.loads((tmp_path / f"{ef}.json").read_text())
        assert (document["frames"], document["fps"], document["ecg"]) == (64, pytest.approx(32.0), None)
        assert read_cine(tmp_path / f"{ef}.npz").frames.shape == (64, 64, 64)
        measured[ef] = document["ef_percent"]
    assert measured[70] > measured[20] + 5

    for refused, word in (
        (echogen("generate", "--model", "echodiffusion-small", "-o", tmp_path / "no.npz"), "image"),
        (echogen(*small, "--ef", 5, "-o", tmp_path / "no.npz"), "15"),
        (echogen(*small, "--seconds", 9, "-o", tmp_path / "no.npz"), "2"),
    ):
        assert refused.code == 2
        assert word in refused.err
    assert not (tmp_path / "no.npz").exists()


def test_a_still_keeps_its_own_pixels_unless_it_is_to_be_drawn(echogen: Run, tmp_path: Path) -> None:
    assert echogen("simulate", "-o", tmp_path / "set", "--seconds", 2, "--seed", 5).code == 0
    still = next((tmp_path / "set").rglob("cine.npz"))
    given = read_cine(still).frames[0]
    asked = ("--image", still, "--seconds", 1, "--ef", 50)
    for name, more in {"own": (), "es": ("--from-phase", "es", "--fps", 25), "drawn": ("--texture", "drawn")}.items():
        outcome = echogen("generate", "-o", tmp_path / f"{name}.npz", *asked, *more)
        assert outcome.code == 0, outcome.err
    documents = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in ("own", "es", "drawn")}
    assert [documents[name]["model"] for name in documents] == ["own-pixels", "own-pixels", "phantom-128"]
    assert documents["own"]["still"] == {"texture": "own", "phase": "ed", "phase_is_guess": True, "outlined_by": "reader"}
    assert (documents["es"]["still"]["phase"], documents["es"]["still"]["phase_is_guess"]) == ("es", False)
    assert documents["es"]["video_start_s"] > documents["own"]["video_start_s"] + 0.2
    assert (documents["es"]["native_fps"], documents["es"]["resampled"]) == (25, False)
    assert "still" not in documents["drawn"]
    own, es = (read_cine(tmp_path / f"{name}.npz") for name in ("own", "es"))
    np.testing.assert_array_equal(own.frames[0], given)
    np.testing.assert_array_equal(es.frames[0], given)
    assert (len(own.frames), len(es.frames)) == (32, 25)


def test_a_still_of_a_patient_keeps_its_size(echogen: Run, tmp_path: Path, test_data: Path) -> None:
    still = test_data / "real" / "cines" / "vitalab_a4c_sequence.nii.gz"
    outcome = echogen("generate", "-o", tmp_path / "beat.npz", "--image", still, "--size", "native", "--seconds", 0.5, "--ef", 60)
    assert outcome.code == 0, outcome.err
    frames = read_cine(tmp_path / "beat.npz").frames
    assert frames.shape == (16, 480, 560)
    np.testing.assert_array_equal(frames[:, :, 450:], frames[:1, :, 450:].repeat(16, 0))
    assert (frames[10] != frames[0]).mean() > 0.05


def test_a_still_that_is_no_apical_view_is_drawn_or_refused(echogen: Run, tmp_path: Path, test_data: Path) -> None:
    still = test_data / "real" / "cines" / "godicom_I_000007_PLAX.dcm"
    drawn = echogen("generate", "-o", tmp_path / "beat.npz", "--image", still, "--seconds", 0.5)
    assert drawn.code == 0, drawn.err
    assert "is drawn anew" in drawn.err
    assert json.loads((tmp_path / "beat.json").read_text())["model"] == "phantom-128"
    refused = echogen("generate", "-o", tmp_path / "other.npz", "--image", still, "--seconds", 0.5, "--texture", "own")
    assert refused.code == 2
    assert "apical" in refused.err
    assert not (tmp_path / "other.npz").exists()


@pytest.mark.parametrize("more", [("--size", "native"), ("--from-phase", "es"), ("--texture", "own")])
def test_options_of_a_still_need_one(echogen: Run, tmp_path: Path, more: tuple[str, str]) -> None:
    outcome = echogen("generate", "-o", tmp_path / "beat.npz", *more)
    assert outcome.code == 2
    assert "--image" in outcome.err
