"""`echogen evaluate`, end to end on simulated clips."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echogen.cine import read_cine, write
from echogen.commands.simulate import simulate
from echogen.ecg import read_ecg
from echogen.errors import InputError
from echogen.metrics.evaluation import run as evaluation
from echogen.metrics.evaluation.clips import Clip, find_clips, same_moments
from echogen.metrics.evaluation.run import METRICS, chosen_metrics

Run = Callable[..., Any]
ROW = {"value", "low", "high", "n"}
OWN = "mse,mae,psnr,ssim,speckle,ef,rlvef,timing,ed,es,curve"
FIGURES = {"mse", "mae", "psnr", "ssim", "ed", "ed_frames", "es", "es_frames", "curve", "clips"}
FIGURES |= {"ef", "ef_r2", "ef_rmse", "ef_bias", "ef_limits", "rlvef", "rlvef_sd", "rlvef_points", "rlvef_area_points"}
FIGURES |= {"timing", "timing_median_ms", "timing_mean_ms", "cycle_correlation", "stroke_rr_correlation", "r_to_ed_ms"}
FIGURES |= {"r_to_es_ms", "speckle", "speckle_axial_px", "speckle_lateral_px", "speckle_frame_correlation"}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three simulated clips of 2 s with EF 30, 50 and 70, as `simulate` leaves them."""
    folder = tmp_path_factory.mktemp("real")
    for seed, ef in enumerate((30.0, 50.0, 70.0)):
        simulate(output=folder, heart_rate=80.0 + 10 * seed, ef=ef, seconds=2.0, fps=24.0, seed=seed, device="cpu")
    return folder


@pytest.fixture(scope="module")
def generated(real: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same clips as a generator might leave them: one frame (42 ms) late, noisier, with NAME.json and no truth."""
    folder = tmp_path_factory.mktemp("generated")
    for name, file in find_clips(real).items():
        clip = Clip(file)
        late = np.maximum(np.arange(len(clip.cine.frames)) - 1, 0)
        frames = np.clip(clip.cine.frames[late] + np.random.default_rng(0).normal(0, 3, clip.cine.frames.shape), 0, 255)
        write(replace(clip.cine, frames=frames.astype(np.uint8), times_s=clip.cine.times_s + 4.0), folder / f"{name}.npz")
        asked = {"settings": {"ef_percent": clip.known_ef_percent}, "r_s": [*(clip.r_s + 4.0)], "video_start_s": 4.0}
        (folder / f"{name}.json").write_text(json.dumps(asked))
    return folder


def test_a_folder_against_itself(echogen: Run, real: Path, tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    outcome = echogen("evaluate", "--real", real, "--generated", real, "--metrics", OWN, "--json", output)
    assert outcome.code == 0, outcome.err
    assert "3 real and 3 generated clips, 3 of one name" in outcome.out
    found = json.loads(output.read_text())
    assert set(found) == FIGURES
    assert found.pop("clips") == {"real": 3, "generated": 3, "paired": 3}
    for figure in found.values():
        assert set(figure) == ROW | {"unit", "truth", "control", "measuring_error", "note"}
        for row in ("truth", "control"):
            assert figure[row] is None or set(figure[row]) == ROW
    value = {name: figure["value"] for name, figure in found.items()}
    assert [value[name] for name in ("mse", "mae", "ed", "es", "es_frames", "rlvef_points", "rlvef_sd")] == [0] * 7
    assert [value[name] for name in ("ssim", "rlvef", "curve")] == pytest.approx([1, 1, 1])
    assert value["psnr"] is None  # infinite
    # What was asked is the truth here, so the row of the truth is the same; the controls are much worse.
    for name in ("ef", "ef_r2", "timing", "timing_median_ms", "speckle", "r_to_es_ms"):
        assert found[name]["truth"]["value"] == value[name]
    assert found["ef"]["n"] == 3
    assert value["ef"] < 6 < found["ef"]["control"]["value"]
    assert value["ef_r2"] > 0.7 > found["ef_r2"]["control"]["value"]
    assert value["timing"] > 0.8 > 0.6 > found["timing"]["control"]["value"]
    assert found["ssim"]["control"]["n"] == 2
    assert found["ssim"]["control"]["value"] < 0.9
    assert found["ef"]["measuring_error"] > 0
    assert 250 < value["r_to_es_ms"] < 450


def test_what_was_asked_is_read_from_the_json_beside_a_video(echogen: Run, generated: Path, real: Path, tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    outcome = echogen("evaluate", "--real", real, "--generated", generated, "--metrics", "ef,timing", "--json", output)
    assert outcome.code == 0, outcome.err
    found = json.loads(output.read_text())
    assert found["ef"]["n"] == 3
    assert found["ef"]["value"] < 10
    # One frame (42 ms) late on R peaks, from which only the heart's clock tells when systole should end.
    late = found["r_to_es_ms"]["value"] - found["r_to_es_ms"]["truth"]["value"]
    assert late == pytest.approx(42, abs=15)
    # Both clocks are known and have no moment in common: that is said, not papered over.
    apart = echogen("evaluate", "--real", real, "--generated", generated, "--metrics", "ssim")
    assert apart.code == 2
    assert "no moment" in apart.err


def test_processes_share_the_clips_and_find_the_same(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "CLIPS_PER_PROCESS", 1)
    monkeypatch.setattr(evaluation, "_BLOCK", 2)
    names, seen = ["ssim", "timing", "curve"], []
    alone = evaluation.evaluate(real, real, names)
    shared = evaluation.evaluate(real, real, names, lambda done, total: seen.append((done, total)), processes=2)
    assert shared.to_json() == alone.to_json()
    assert alone.figures["ssim"].control.n == 2  # the clip before may have been another process's
    assert seen[-1] == (3, 3)


def test_sets_of_other_names_and_what_cannot_be_had(echogen: Run, generated: Path, real: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    cine = read_cine(generated / "clip-00000.npz")
    write(replace(cine, frames=cine.frames[:4], times_s=cine.times_s[:4]), other / "short.mp4")
    output = tmp_path / "figures.json"
    outcome = echogen("evaluate", "--real", generated, "--generated", other, "--json", output)
    assert outcome.code == 0, outcome.err
    found = json.loads(output.read_text())
    assert found["clips"] == {"real": 3, "generated": 1, "paired": 0}
    assert set(METRICS) <= set(found)
    assert "no name in common" in found["ssim"]["note"]
    assert (found["ssim"]["value"], found["ssim"]["n"]) == (None, 0)
    # Too short for a beat, and without anything asked of it.
    assert (found["ef"]["value"], found["timing"]["value"], found["speckle"]["n"]) == (None, None, 0)


def test_mistakes_are_one_sentence(echogen: Run, real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECHOGEN_WEIGHTS", raising=False)
    empty, broken, others = (tmp_path / name for name in ("empty", "broken", "others"))
    for folder in (empty, broken, others):
        folder.mkdir()
    (broken / "clip-00000.mp4").write_bytes((real / "clip-00000" / "cine.mp4").read_bytes()[:3000])
    write(read_cine(real / "clip-00000" / "cine.npz"), others / "another.npz")
    for generated, metrics, says in [
        (empty, "mse", "no echo video"),
        (tmp_path / "missing", "mse", "does not exist"),
        (real / "clip-00000" / "truth.json", "mse", "is a file"),
        (broken, "mse", "clip-00000.mp4"),
        (others, "mse", "no name in common"),
        (real, "sim", "did you mean ssim?"),
        (real, "frechet", "mse, mae"),
        (real, ",", "No metric"),
        (real, "fid", "weights file"),
    ]:
        outcome = echogen("evaluate", "--real", real, "--generated", generated, "--metrics", metrics)
        assert outcome.code == 2, (says, outcome)
        assert says in outcome.err
        assert len(outcome.err.strip().splitlines()) == 1
    refused = echogen("evaluate", "--real", real, "--generated", real, "--json", tmp_path / "figures.txt")
    assert refused.code == 2
    assert ".json" in refused.err


def test_clips_of_a_folder(real: Path, tmp_path: Path) -> None:
    one = find_clips(real / "clip-00001")
    assert list(one) == ["clip-00001"]
    cine = read_cine(one["clip-00001"].video)
    for name in ("b.gif", "b.npz", "a.mp4"):
        write(replace(cine, frames=cine.frames[:6], times_s=cine.times_s[:6] + 1.0), tmp_path / name)
    (tmp_path / "a.json").write_text('{"video_start_s": 1.0, "r_s": [1.1, 0.3]}')
    (tmp_path / "b.json").write_text("{")
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / ".hidden.npz").write_bytes(b"")
    found = find_clips(tmp_path)
    assert {name: file.video.name for name, file in found.items()} == {"a": "a.mp4", "b": "b.npz"}
    a, b = Clip(found["a"]), Clip(found["b"])
    assert a.cine.times_s == pytest.approx(read_cine(tmp_path / "b.npz").times_s)
    assert list(a.r_s) == [0.3, 1.1]
    assert (a.known_ef_percent, a.has_truth, a.true_beats, a.ef_percent) == (None, False, (), None)
    with pytest.raises(InputError, match=r"b\.json is damaged"):
        _ = b.r_s
    write(cine, tmp_path / "c.dcm", ecg=read_ecg(real / "clip-00001" / "ecg.npz"))
    assert (tmp_path / "c_ecg.dcm").is_file()
    assert list(find_clips(tmp_path)) == ["a", "b", "c"]
    later = replace(cine, frames=cine.frames[3::2], times_s=cine.times_s[3::2])
    own, theirs = same_moments(cine, later)
    assert np.abs(cine.times_s[own] - later.times_s[theirs]).max() <= 0.5 / later.fps + 1e-9
    assert own[0] == 2


def test_metrics_are_named_in_one_table() -> None:
    assert chosen_metrics("timing, SSIM,ssim") == ["ssim", "timing"]
    assert chosen_metrics(["es"]) == ["es"]
