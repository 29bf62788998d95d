"""Published protocols on fake copies of their data sets: real clips against themselves, a generator, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from echogen import Generator, InputError
from echogen.cine.writing import write
from echogen.datasets.camus import Camus
from echogen.datasets.echonet_dynamic import EchoNetDynamic
from echogen.ecg import find_landmarks
from echogen.metrics.evaluation.figures import Figure, Row
from echogen.metrics.evaluation.run import METRICS
from echogen.metrics.published.protocol_clips import FolderSource, ModelSource, as_pictures, cut_clip, heart_clock, simulated_ecg
from echogen.metrics.published.protocols import SCRIPT_METRICS, Judged, judge, metrics_of, published_beside
from echogen.metrics.published.rows import CAMUS, PROTOCOLS, Cut, Protocol, rows_of
from echogen.records import Cine, Study
from echogen.testing import data_sets as fakes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both data sets, and a folder of generated clips that are the real ones."""
    folder = tmp_path_factory.mktemp("data")
    videos = [fakes.FakeVideo(f"0X{seed}{split}", split, seed) for split in ("TEST", "VAL") for seed in (1, 2)]
    fakes.make_echonet_dynamic(folder / "echonet-dynamic", videos)
    fakes.make_camus(folder / "camus", [fakes.FakePatient(f"patient000{seed}", "testing", seed) for seed in (1, 2)])
    (folder / "same").mkdir()
    for protocol in PROTOCOLS:
        for name, study in clips(folder, protocol):
            write(study.cine, folder / "same" / f"{name}.npz")
    return folder


def clips(folder: Path, protocol: Protocol) -> Iterator[tuple[str, Study]]:
    place = folder / protocol.dataset
    if protocol.dataset == CAMUS:
        sequences = Camus(place, protocol.split, views=(protocol.view,))
        return zip(sequences.names, sequences, strict=True)
    videos = EchoNetDynamic(place, protocol.split)
    return zip(videos.names, videos, strict=True)


def named(name: str) -> Protocol:
    return next(protocol for protocol in PROTOCOLS if protocol.name == name)


#: What a real clip scores against itself.
PERFECT = {"mse": 0, "mae": 0, "ssim": 1, "ssim_best": 1, "ed": 0, "es": 0, "rlvef": 1, "rlvef_points": 0, "ef_area": 0}


def check(judged: Judged) -> None:
    assert judged.n == 2
    assert judged.left_out == ()
    for name, value in PERFECT.items():
        if name in judged.figures:
            assert judged.figures[name].generated.value == pytest.approx(value, abs=1e-6), name
            assert judged.figures[name].generated.n >= 2
    for name in ("fid", "fvd", "lpips", "fid_per_clip"):
        if name in judged.figures:
            assert "needs the published weights file" in judged.figures[name].note
    if "ef" in judged.figures:  # the labels' EF, as the real clips show it
        assert judged.figures["ef"].truth == judged.figures["ef"].generated
        assert judged.figures["ef"].generated.value < 10
    json.dumps(judged.to_json())


@pytest.mark.parametrize(
    "name", ["echopulse-1", "echopulse-2-echonet", "echopulse-3", "echopulse-2-camus-a4c", "echopulse-3-camus"]
)
def test_a_real_clip_scores_best_against_itself(data: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECHOGEN_WEIGHTS", raising=False)
    protocol = named(name)
    if name == "echopulse-3":  # all that looks at hearts, at once
        protocol = replace(protocol, metrics=("ef", "rlvef", "ed", "es", "ef_area"))
    check(judge(protocol, clips(data, protocol), FolderSource(data / "same")))


@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
def test_every_published_figure_has_one_beside_it(protocol: Protocol, as_published: bool) -> None:
    figures: dict[str, Figure] = {}
    for metric in metrics_of(protocol, as_published=as_published):
        try:
            figures |= (SCRIPT_METRICS[metric] if metric in SCRIPT_METRICS else METRICS[metric].make)().figures()
        except InputError:  # its weights are not here
            figures[metric] = Figure(Row(), "1")
    judged = Judged(protocol, figures, 0, (), as_published, False)
    assert rows_of(protocol)
    for row in rows_of(protocol):
        asked = row.values.keys() - {"sampling_s", "parameters"}
        assert len(published_beside(judged, row.values)) == len(asked) > 0


@pytest.mark.parametrize("name", ["echopulse-2-echonet", "echodiffusion-generation", "echopulse-2-camus-a2c"])
def test_as_published(data: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECHOGEN_WEIGHTS", raising=False)
    of_pictures = tuple(metric for metric in named(name).metrics if not metric.startswith("ef"))
    protocol = replace(named(name), metrics=of_pictures)
    judged = judge(protocol, clips(data, protocol), FolderSource(data / "same"), as_published=True)
    check(judged)
    assert set(judged.figures) >= set(metrics_of(protocol, as_published=True))
    assert (judged.protocol.cut.frames, judged.protocol.cut.fps) == ((64, 32.0) if "diffusion" in name else (11, None))


def test_the_best_of_three_samples_is_kept_only_as_published(data: Path, tmp_path: Path) -> None:
    protocol = replace(named("echodiffusion-generation"), metrics=("ef",), published={})
    hearts = dict(clips(data, protocol))
    asked, other = hearts["0X1VAL"], hearts["0X2VAL"]
    for number, shown in enumerate((other, asked), start=1):
        write(shown.cine, tmp_path / f"0X1VAL_{number}.npz")
        (tmp_path / f"0X1VAL_{number}.json").write_text(json.dumps({"settings": {"ef_percent": asked.ef_percent}}))
    every, best = (judge(protocol, [("0X1VAL", asked)], FolderSource(tmp_path), as_published=how) for how in (False, True))
    assert (every.figures["ef"].generated.n, best.figures["ef"].generated.n) == (2, 1)
    assert best.figures["ef"].generated.value == best.figures["ef"].truth.value < every.figures["ef"].generated.value


def test_a_generator_is_given_the_first_frame_and_an_ecg(data: Path, tmp_path: Path) -> None:
    protocol = replace(named("echopulse-2-camus-a4c"), metrics=("ssim",))
    source = ModelSource(Generator.from_pretrained("phantom-128"), tmp_path)
    study = next(clips(data, protocol))
    judged = judge(protocol, [study], source)
    assert 0.3 < judged.figures["ssim"].generated.value < 1
    assert judged.figures["sampling_s"].generated.value == source.seconds[0] > 0
    assert judged.figures["parameters"].generated.value == pytest.approx(13.0, abs=0.2)  # with its student
    (facts,) = tmp_path.rglob("*.json")
    assert json.loads(facts.read_text())["settings"]["ef_percent"] == study[1].ef_percent
    again = ModelSource(source.generator, tmp_path)
    judge(protocol, [study], again)
    assert again.seconds == source.seconds  # found again, not made again
    with pytest.raises(InputError, match="reconstruction is judged from clips that a tokenizer made"):
        judge(named("echopulse-1"), clips(data, named("echopulse-1")), source)


def test_the_simulated_ecg_keeps_the_rate_and_phase_of_the_heart(data: Path) -> None:
    whole = next(study for _, study in clips(data, named("echopulse-2-echonet")))
    half = next(study for _, study in clips(data, named("echopulse-2-camus-a4c")))
    assert heart_clock(whole).how == "measured"
    assert heart_clock(whole).rate_bpm == pytest.approx(70, abs=4)
    assert heart_clock(half).how == "labelled"
    assert heart_clock(half).rate_bpm == pytest.approx(70, abs=25)
    unknown = Study(None, Cine(half.cine.frames[:3], half.cine.times_s[:3]))
    assert heart_clock(unknown).how == "assumed"
    generator = Generator.from_pretrained("phantom-128")
    ecg = simulated_ecg(whole, 2.0, generator)
    assert ecg.start_s == -generator.ecg_past_s
    assert ecg.end_s == pytest.approx(2.0 + generator.ecg_future_s)
    r_s = find_landmarks(ecg).r_s
    true_r = fakes.heart(1).beats[0].r_s
    assert np.abs(r_s - true_r).min() < 0.05
    assert 60 / np.median(np.diff(r_s)) == pytest.approx(heart_clock(whole).rate_bpm, abs=1)


def test_cuts_and_pictures() -> None:
    cine = Cine(np.full((30, 64, 64), 99, dtype=np.uint8), 5.0 + np.arange(30) / 60.0)
    cut = Cut(32, 32.0, 16, border=20, fill=True)
    part = cut_clip(cine, cut)
    assert part.frames.shape == (16, 64, 64)
    assert part.times_s[:2].tolist() == [0.0, 1 / 32]
    pictures = as_pictures(part, cut)
    assert pictures.frames.shape == (32, 20, 20)
    assert pictures.frames[:16, 2:-2, 2:-2].min() == 99
    assert not pictures.frames[16:].any()
    assert not pictures.frames[:, :2].any()
    assert cut_clip(cine, Cut(11, None, 16)).frames.shape == (11, 64, 64)


def test_generated_clips_of_other_names_are_refused(data: Path, tmp_path: Path) -> None:
    write(Cine(np.zeros((20, 32, 32), dtype=np.uint8), np.arange(20) / 32), tmp_path / "other.npz")
    protocol = named("echopulse-1")
    with pytest.raises(InputError, match=r"None of the real clips has a generated one.*0X1TEST"):
        judge(protocol, clips(data, protocol), FolderSource(tmp_path))


def test_a_generated_clip_without_a_sector_still_counts(data: Path, tmp_path: Path) -> None:
    protocol = replace(named("echopulse-3-camus"), metrics=("ssim", "ef_area"))
    name, study = next(clips(data, protocol))
    write(Cine(np.full((64, 90, 90), 7, dtype=np.uint8), np.arange(64) / 32.0), tmp_path / f"{name}.npz")
    judged = judge(protocol, [(name, study)], FolderSource(tmp_path))
    assert (judged.n, judged.left_out) == (1, ())
    assert judged.figures["ssim"].generated.value < 0.6
