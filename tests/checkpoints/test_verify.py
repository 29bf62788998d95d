"""The table of errors on recorded components, with small stand-ins for the networks."""

import json
from pathlib import Path

import numpy as np
import pytest

from echogen.checkpoints import verify as module
from echogen.checkpoints.comparison import Comparison, largest_error, wrong_ids
from echogen.checkpoints.verify import check_for, main, verify
from echogen.errors import InputError


def doubled(path: Path) -> list[Comparison]:
    recorded = np.load(path)
    return [Comparison("output", largest_error(2 * recorded["input"], recorded["output"]))]


def ids_only(path: Path) -> list[Comparison]:
    recorded = np.load(path)
    return [Comparison("ids", wrong_ids(recorded["input"], recorded["output"], recorded["margin"]), 0.0)]


CHECKS = {"net": doubled, "net_ids": ids_only}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "manifest.json").write_text(json.dumps({"files": {}}))
    (tmp_path / "net.safetensors").write_bytes(b"weights are no component")
    np.savez(tmp_path / "net_forward.npz", input=np.ones(3), output=np.full(3, 2.0))
    np.savez(tmp_path / "net_ids.npz", input=[1, 2, 3], output=[1, 2, 4], margin=[1.0, 1.0, 1e-5])
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(module, "known_checks", lambda: CHECKS)
    return main([str(each) for each in arguments])


def test_the_longest_prefix_wins() -> None:
    assert check_for("net_ids_2.npz", CHECKS) is ids_only
    assert check_for("net_2.npz", CHECKS) is doubled
    assert check_for("another.npz", CHECKS) is None


def test_a_folder_within_tolerance(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, folder) == 0
    out = capsys.readouterr().out
    assert [line.split()[:2] for line in out.splitlines()[1:3]] == [["net_forward.npz", "output"], ["net_ids.npz", "ids"]]
    assert "2 components, 2 outputs: all within tolerance" in out


@pytest.mark.parametrize("wrong", [np.full(3, 2.001), np.full(3, np.nan), np.full(4, 2.0)])
def test_an_output_above_tolerance_fails(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: np.ndarray
) -> None:
    np.savez(folder / "net_forward.npz", input=wrong / 2 if len(wrong) == 3 else np.ones(3), output=np.full(len(wrong), 2.0))
    assert run(monkeypatch, folder) == 1
    assert "ABOVE TOLERANCE" in capsys.readouterr().out


def test_an_id_that_was_sure_and_differs_fails(folder: Path) -> None:
    np.savez(folder / "net_ids.npz", input=[1, 2, 3], output=[1, 2, 4], margin=[1.0, 1.0, 1.0])
    assert [each.passes for each in verify(folder, checks=CHECKS)] == [True, False]


def test_a_kind_that_is_not_supported_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(folder / "unet.npz", output=np.ones(1))
    assert run(monkeypatch, folder) == 1
    assert "1 failed (unet.npz)" in capsys.readouterr().out
    assert run(monkeypatch, folder, "--only", "net_f", "net_i") == 0
    assert run(monkeypatch, folder, "--only", "net", "--only", "unet") == 1


def test_a_check_that_breaks_does_not_stop_the_others(folder: Path) -> None:
    np.savez(folder / "net_a.npz", input=np.ones(3))
    (folder / "net_b.npz").write_bytes(b"not an archive")
    results = {each.file: each for each in verify(folder, checks={**CHECKS, "net_c": lambda path: []})}
    assert "output" in str(results["net_a.npz"].error)
    assert results["net_b.npz"].error
    assert results["net_forward.npz"].passes
    np.savez(folder / "net_c.npz", input=np.ones(3))
    empty = verify(folder, ["net_c"], {"net_c": lambda path: []})
    assert [each.passes for each in empty] == [False]


def test_nothing_to_check_is_a_failure(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, folder, "--only", "nothing") == 1
    assert "Nothing" in capsys.readouterr().err


def test_a_folder_that_cannot_be_used(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, folder / "none") == 2
    (folder / "manifest.json").write_text("{")
    assert run(monkeypatch, folder) == 2
    (folder / "manifest.json").unlink()
    assert run(monkeypatch, folder) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3
    with pytest.raises(InputError, match=r"manifest\.json"):
        verify(folder, checks=CHECKS)


def test_recorded_components_of_another_system_are_named(fixtures_folder: Path) -> None:
    results = verify(fixtures_folder / "echodiffusion", ["ed_unet"], CHECKS)
    assert [each.file for each in results] == [
        "ed_unet_base.io.safetensors",
        "ed_unet_sr_memeff.io.safetensors",
        "ed_unet_ssr.io.safetensors",
    ]
    assert all("not supported" in str(each.error) for each in results)
