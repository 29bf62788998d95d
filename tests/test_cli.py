"""The command line as a user meets it: what it says about files, and what it says to mistakes."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

INFO_KEYS = {"format", "kind", "leads", "lead_names", "rate_hz", "duration_s", "heart_rate_bpm", "quality"}
INFO_KEYS |= {"frames", "height", "width", "fps", "view", "mm_per_pixel"}
Run = Callable[..., Any]


def is_one_sentence(text: str) -> bool:
    return text.endswith(".\n") and text.count("\n") == 1 and "Traceback" not in text and "Error" not in text


@pytest.fixture
def ecg_csv(tmp_path: Path) -> Callable[[np.ndarray, str], Path]:
    """Writes samples in mV as a one-column table."""

    def make(values: np.ndarray, name: str) -> Path:
        path = tmp_path / name
        path.write_text("II\n" + "\n".join(f"{value:.5f}" for value in values) + "\n")
        return path

    return make


def beating(seconds: float = 8.0, rate_hz: float = 250.0) -> np.ndarray:
    """A plain ECG: a narrow QRS and a T wave, 75 a minute."""
    phase = (np.arange(round(seconds * rate_hz)) / rate_hz + 0.3) % 0.8
    return np.exp(-(((phase - 0.2) / 0.012) ** 2)) + 0.25 * np.exp(-(((phase - 0.45) / 0.05) ** 2))


def test_help_names_every_verb(echogen: Run) -> None:
    outcome = echogen("--help")
    assert outcome.code == 0
    for verb in ("generate", "simulate", "measure", "info", "train"):
        assert verb in outcome.out
    assert echogen("--version").out.startswith("echogen ")


def test_info_of_a_dicom_ecg(echogen: Run, dicom_ecg_path: Path) -> None:
    outcome = echogen("info", dicom_ecg_path, "--json")
    facts = json.loads(outcome.out)
    assert outcome.code == 0
    assert set(facts) >= INFO_KEYS
    assert (facts["kind"], facts["format"], facts["leads"], facts["rate_hz"], facts["duration_s"]) == (
        "ecg",
        "DICOM",
        12,
        1000,
        10,
    )
    assert facts["heart_rate_bpm"] == pytest.approx(61, abs=1)
    assert facts["quality"] == "good"
    assert facts["frames"] is None
    assert "aVR" in echogen("info", dicom_ecg_path).out


def test_info_of_a_dicom_echo(echogen: Run) -> None:
    from pydicom.data import get_testdata_file

    path = get_testdata_file("examples_ybr_color.dcm", download=False)
    if path is None:
        pytest.skip("this pydicom ships no echo cine")
    facts = json.loads(echogen("info", path, "--json").out)
    assert set(facts) >= INFO_KEYS
    assert (facts["kind"], facts["format"], facts["frames"], facts["height"], facts["width"]) == ("echo", "DICOM", 30, 240, 320)
    assert facts["fps"] == pytest.approx(30, abs=0.5)
    assert facts["lead_names"] is None


def test_info_of_real_files(echogen: Run, test_data: Path) -> None:
    entries = json.loads((test_data / "MANIFEST.json").read_text())["files"]
    checked = [entry for entry in entries if "hr_bpm" in entry.get("checked", {}) and entry["format"] in ("WFDB", "EDF")]
    assert len(checked) >= 3
    for entry in checked:
        outcome = echogen("info", test_data / entry["file"], "--json")
        assert outcome.code == 0, outcome.err
        facts = json.loads(outcome.out)
        assert (facts["kind"], facts["format"]) == ("ecg", entry["format"])
        assert facts["heart_rate_bpm"] == pytest.approx(entry["checked"]["hr_bpm"], abs=6)


def test_info_asks_for_a_rate_and_takes_it(echogen: Run, ecg_csv: Callable[..., Path]) -> None:
    path = ecg_csv(beating(), "ecg.csv")
    refused = echogen("info", path)
    assert refused.code == 2
    assert "--ecg-rate" in refused.err
    facts = json.loads(echogen("info", path, "--ecg-rate", 250, "--json").out)
    assert facts["duration_s"] == pytest.approx(8)
    assert facts["heart_rate_bpm"] == pytest.approx(75, abs=1)


class Bomb:
    """Makes a folder when unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return (os.mkdir, (str(self.folder),))


def bad_ecg(kind: str, folder: Path, good_dicom: Path) -> Path:
    path = folder / f"{kind}.bin"
    if kind == "empty":
        path.touch()
    elif kind == "truncated":
        content = good_dicom.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    elif kind == "directory":
        path.mkdir()
    elif kind == "picture":
        from PIL import Image

        Image.fromarray(np.zeros((32, 32), np.uint8)).save(path, format="PNG")
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Bomb(folder / "executed")))
    elif kind == "npy-pickle":
        np.save(folder / "objects.npy", np.array([Bomb(folder / "executed")], dtype=object), allow_pickle=True)
        path = folder / "objects.npy"
    elif kind == "text":
        path.write_text("Dear colleague, please find the ECG attached.\n")
    elif kind == "missing":
        pass
    return path


@pytest.mark.parametrize(
    "kind", ["empty", "truncated", "directory", "picture", "noise", "pickle", "npy-pickle", "text", "missing"]
)
def test_generate_refuses_what_is_no_ecg(echogen: Run, tmp_path: Path, dicom_ecg_path: Path, kind: str) -> None:
    path = bad_ecg(kind, tmp_path, dicom_ecg_path)
    outcome = echogen("generate", path, "-o", tmp_path / "out.mp4", "--ecg-rate", 250)
    assert outcome.code == 2
    assert is_one_sentence(outcome.err), outcome.err
    assert not (tmp_path / "out.mp4").exists()
    assert not (tmp_path / "out.json").exists()
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("kind", ["nan", "flat", "noise", "short", "past the end", "wrong unit", "no values"])
def test_generate_refuses_signals_without_beats(echogen: Run, tmp_path: Path, ecg_csv: Callable[..., Path], kind: str) -> None:
    signal = beating()
    more: list[object] = []
    says = {"flat": "--allow-flat", "short": "at most 0.40 s", "past the end": "at most 8.00 s", "noise": "QRS"}
    if kind == "nan":
        signal[300:600] = np.nan
    elif kind == "no values":
        signal[:] = np.nan
    elif kind == "flat":
        signal[:] = 0.1
    elif kind == "noise":
        signal = np.random.default_rng(0).normal(0, 0.1, len(signal))
    elif kind == "short":
        signal = signal[:100]
    elif kind == "past the end":
        more = ["--seconds", 60]
    elif kind == "wrong unit":
        signal = signal * 1e6
    outcome = echogen("generate", ecg_csv(signal, "ecg.csv"), "-o", tmp_path / "out.mp4", "--ecg-rate", 250, *more)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert says.get(kind, "") in outcome.err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--seconds", 0], "--seconds"),
        (["--seconds", "nan"], "--seconds"),
        (["--fps", 500], "--fps"),
        (["--fps", 0], "--fps"),
        (["--ef", 0], "--ef"),
        (["--ef", 150], "--ef"),
        (["--ecg-start", 99], "10.00 s"),
        (["--ecg-start", -1], "start"),
        (["--guidance", -1], "--guidance"),
        (["--image", "nothing.png"], "nothing.png"),
        (["--model", "no-such-model"], "no-such-model"),
        (["--view", "PLAX"], "--view"),
        (["--seed", "x"], "--seed"),
        (["--colour", "red"], "--colour"),
    ],
)
def test_generate_refuses_impossible_settings(echogen: Run, tmp_path: Path, arguments: list[object], says: str) -> None:
    outcome = echogen("generate", "-o", tmp_path / "out.mp4", *arguments)
    assert outcome.code == 2
    assert says in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["out.txt", "out", "nowhere/out.mp4", "out.mp4.json"])
def test_generate_refuses_outputs_it_cannot_write_before_reading_anything(echogen: Run, tmp_path: Path, name: str) -> None:
    outcome = echogen("generate", tmp_path / "no-such-ecg.edf", "-o", tmp_path / name)
    assert outcome.code == 2
    assert is_one_sentence(outcome.err)
    assert "utput" in outcome.err


def test_generate_never_overwrites_its_input(echogen: Run, tmp_path: Path) -> None:
    ecg = tmp_path / "ecg.npz"
    np.savez(ecg, signal_mv=beating()[None], rate_hz=250.0, lead_names=["II"])
    before = ecg.read_bytes()
    outcome = echogen("generate", ecg, "-o", ecg)
    assert outcome.code == 2
    assert "overwrite" in outcome.err
    assert ecg.read_bytes() == before


@pytest.mark.parametrize("verb", ["measure", "info"])
def test_measure_and_info_refuse_what_is_no_echo(echogen: Run, tmp_path: Path, verb: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(200))
    outcome = echogen(verb, path)
    assert outcome.code == 2
    assert is_one_sentence(outcome.err), outcome.err


def test_the_installed_script_says_one_sentence_and_exits_with_2(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("echogen")
    result = subprocess.run([script, "info", tmp_path / "nothing.csv"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert is_one_sentence(result.stderr)


def test_a_fault_of_ours_is_told_without_a_traceback(echogen: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import echogen.commands.info as module

    def fails(*_: object) -> dict:
        raise RuntimeError("wires crossed")

    monkeypatch.setattr(module, "describe", fails)
    path = tmp_path / "x.csv"
    path.touch()
    outcome = echogen("info", path)
    assert outcome.code == 1
    assert "wires crossed" in outcome.err
    assert "Traceback" not in outcome.err
