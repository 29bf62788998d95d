"""Echo gets the labels and the ECG that it lacks: `echogen prepare --labels measured` and `echogen pair`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import echogen as package
from echogen.datasets.pairing import GROUPS, EcgArchive, Pairing, echo_beats, with_paired_ecg
from echogen.datasets.patients import BUCKETS, group_of, hash_of
from echogen.datasets.shards import Sample, ShardFolder, sample_of
from echogen.datasets.video_folder import VideoFolder
from echogen.ecg import find_landmarks
from echogen.errors import InputError
from echogen.measurement.sample_labels import with_measured_labels
from echogen.records import STRUCTURES
from echogen.testing.data_sets import FakePatient, FakeVideo, make_camus, make_echonet_dynamic


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three simulated videos of 3 s without anything beside them."""
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(3):
        package.write(package.simulate(seconds=3.0, heart_rate_bpm=70, ef_percent=60, seed=seed).cine, folder / f"{seed}.avi")
    return folder


def beats_found(sample: Sample) -> np.ndarray:
    """Distances in s of the R peaks that belong to a sample's beats to those found in its ECG, but for what is alike in all.

    The highest deflection of a QRS complex, which counts as found, may be its S wave.
    """
    assert sample.ecg is not None
    found = find_landmarks(sample.ecg).r_s
    asked = echo_beats(Sample(sample.key, sample.cine, labels=sample.labels)).r_s
    asked = asked[(asked > sample.ecg.start_s + 0.2) & (asked < sample.ecg.end_s - 0.2)]
    distances = np.array([found[np.abs(found - time).argmin()] - time for time in asked])
    assert abs(np.median(distances)) < 0.040
    return np.asarray(np.abs(distances - np.median(distances)))


def test_measured_labels_are_near_the_truth_and_marked(videos: Path, tmp_path: Path, echogen: Callable[..., Any]) -> None:
    done = echogen("prepare", videos, "-o", tmp_path / "shards", "--labels", "measured", "--workers", "1")
    assert done.code == 0
    for seed, sample in enumerate(ShardFolder(tmp_path / "shards")):
        study = package.simulate(seconds=3.0, heart_rate_bpm=70, ef_percent=60, seed=seed)
        assert sample.labels["measured"] == ["masks", "beats", "ef_percent"]
        assert sample.labels["measured_by"] == "reader"
        assert sample.masks is not None
        assert study.masks is not None
        assert sample.masks.shape == study.masks.shape
        found, true = sample.masks == STRUCTURES["lv"], study.masks == STRUCTURES["lv"]
        assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.85
        assert sample.labels["ef_percent"] == pytest.approx(60, abs=8)
        ends = np.array([beat["es_s"] for beat in sample.labels["beats"]])
        shown = [beat.es_s for beat in study.beats if 0.5 < beat.es_s < 2.7]
        assert all(np.abs(ends - time).min() < 0.08 for time in shown)


def test_what_a_data_set_states_is_not_measured_again() -> None:
    study = package.simulate(seconds=2.0, seed=5)
    stated = sample_of("a", study)
    assert with_measured_labels(stated) is stated
    partly = with_measured_labels(Sample("a", study.cine, labels={"ef_percent": 12.5}))
    assert partly.labels["ef_percent"] == 12.5
    assert partly.labels["measured"] == ["masks", "beats"]


def test_a_parasternal_view_gets_no_labels(test_data: Path) -> None:
    cine = package.read_study(test_data / "real" / "cines" / "godicom_I_000001_PLAX.dcm").cine
    other = with_measured_labels(Sample("a", cine))
    assert "apical" in other.labels["not_measured"]
    assert other.masks is None
    assert "ef_percent" not in other.labels
    with pytest.raises(InputError, match="beats of this video are not known: This does not look like an apical"):
        with_paired_ecg(other, Pairing())


def test_a_clip_too_short_to_measure_says_so() -> None:
    study = package.simulate(seconds=0.4, seed=5)
    short = with_measured_labels(Sample("a", study.cine))
    assert short.masks is not None
    assert short.labels["not_measured"]
    with pytest.raises(InputError, match="beats of this video are not known"):
        with_paired_ecg(short, Pairing())


@pytest.mark.parametrize("archive", [False, True])
def test_pairs_are_in_time_and_never_called_simultaneous(
    videos: Path, tmp_path: Path, echogen: Callable[..., Any], archive: bool, test_data: Path
) -> None:
    ecg = test_data / "ecg_scp" if archive else "simulated"
    done = echogen("pair", videos, "--ecg", ecg, "-o", tmp_path / "shards", "--workers", "1")
    assert done.code == 0, done.err
    again = echogen("pair", videos, "--ecg", ecg, "-o", tmp_path / "again", "--workers", "1")
    assert again.code == 0
    assert [path.read_bytes() for path in sorted((tmp_path / "shards").glob("*.tar"))] == [
        path.read_bytes() for path in sorted((tmp_path / "again").glob("*.tar"))
    ]
    for sample in ShardFolder(tmp_path / "shards"):
        assert sample.labels["paired_by"] == "time"
        assert (sample.labels["ecg_of"] == "simulated") is not archive
        assert sample.ecg is not None
        assert sample.cine is not None
        assert sample.ecg.start_s <= sample.cine.times_s[0] - 2.0
        assert sample.ecg.end_s >= sample.cine.times_s[-1] + 1.0
        distances = beats_found(sample)
        assert len(distances) >= 5
        assert np.mean(distances < 0.020) > 0.85


def test_outlined_and_traced_data_sets_are_paired_on_the_beats_that_they_state(
    tmp_path: Path, echogen: Callable[..., Any]
) -> None:
    make_camus(tmp_path / "camus", [FakePatient("patient0001"), FakePatient("patient0002", seed=1)])
    make_echonet_dynamic(tmp_path / "echonet", [FakeVideo("0X1", seed=1), FakeVideo("0X2", seed=2)])
    for name in ("camus", "echonet"):
        done = echogen("pair", tmp_path / name, "-o", tmp_path / f"{name}-pairs", "--workers", "1")
        assert done.code == 0, done.err
        samples = list(ShardFolder(tmp_path / f"{name}-pairs"))
        assert samples
        for sample in samples:
            assert "beats" not in sample.labels.get("measured", [])
            assert np.mean(beats_found(sample) < 0.020) > 0.85


def test_a_file_beside_a_video_is_its_ecg_and_its_folder_its_patient(tmp_path: Path) -> None:
    for seed in range(3):
        study = package.simulate(seconds=1.5, seed=seed)
        assert study.ecg is not None
        folder = tmp_path / f"patient{seed}"
        folder.mkdir()
        package.write(study.cine, folder / "a.avi")
        lead = study.ecg.between(0.0, 1.5)
        columns = np.column_stack([np.arange(lead.signal_mv.shape[1]) / lead.rate_hz, lead.lead("II")])
        np.savetxt(folder / "a.csv", columns, delimiter=",", header="time (s),II (mV)", comments="")
    (tmp_path / "patient0" / "a.csv").write_text("name,age\nx,3\n")
    records = VideoFolder(tmp_path)
    ecgs = [records[index].ecg for index in range(3)]
    assert ecgs[0] is None
    for ecg in ecgs[1:]:
        assert ecg is not None
        assert ecg.start_s == 0.0
        assert ecg.duration_s == pytest.approx(1.5, abs=0.05)
    assert [records.labels(index)["patient"] for index in range(3)] == ["patient0", "patient1", "patient2"]


def test_an_ecg_that_was_recorded_with_its_video_stays() -> None:
    sample = sample_of("a", package.simulate(seconds=2.0, seed=5))
    assert with_paired_ecg(sample, Pairing()) is sample


@pytest.mark.parametrize(
    ("beats", "words"),
    [
        ([{"ed_s": 0.0, "es_s": 0.9}], "A systole of 0.90 s"),
        ([{"ed_s": 0.0, "es_s": 0.3}, {"ed_s": 0.2, "es_s": 0.5}], "300 times a minute"),
        ([{"ed_s": t, "es_s": t + 0.3} for t in (0.0, 0.8, 1.6, 4.0)], "missing"),
        ([{"ed_s": 3.0, "es_s": 3.3}], "outside of those"),
    ],
)
def test_beats_that_no_heart_has_are_refused(beats: list[dict[str, float]], words: str) -> None:
    cine = package.simulate(seconds=4.0, seed=1).cine
    with pytest.raises(InputError, match=words):
        with_paired_ecg(Sample("a", cine, labels={"beats": beats}), Pairing())


def test_patients_of_other_groups_share_no_recording(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.csv").write_text("II\n0\n")
    archive = EcgArchive(folder)
    groups = [set(archive.group(number)) for number in range(GROUPS)]
    for number, group in enumerate(groups):
        own = {index for index, name in enumerate(archive.names) if group_of(name, GROUPS) == number}
        assert group == own or not own


def test_splits_of_a_data_set_share_no_recording(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.csv").write_text("II\n0\n")
    archive = EcgArchive(folder)
    of_split = {
        split: {index for number in range(GROUPS) for index in archive.group(number, split)} for split in ("TRAIN", "val", "TEST")
    }
    assert [len(found) for found in of_split.values()] == [48, 6, 6]
    assert set().union(*of_split.values()) == set(range(60))


def test_an_archive_too_small_for_a_split_is_refused(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.csv").write_text("II\n0\n")
    archive = EcgArchive(tmp_path)
    assert archive.group(0, "train")
    with pytest.raises(InputError, match="too few patients"):
        archive.group(0, "test")


def test_what_cannot_be_asked_for_is_one_sentence(videos: Path, tmp_path: Path, echogen: Callable[..., Any]) -> None:
    for arguments, words in (
        (("pair", videos, "--ecg", tmp_path / "nowhere"), "folder of an ECG archive"),
        (("pair", videos, "--ecg", videos), "no ECG file"),
        (("prepare", videos, "--labels", "guessed"), "--labels can only be measured"),
        (("prepare", videos, "--ecg", "paired"), "--ecg can only be drawn"),
    ):
        done = echogen(*arguments, "-o", tmp_path / "out")
        assert (done.code, words in done.err) == (2, True), done.err
        assert not (tmp_path / "out").exists()


def test_a_video_without_a_drawn_ecg_is_rejected_with_the_reason(
    videos: Path, tmp_path: Path, echogen: Callable[..., Any]
) -> None:
    done = echogen("prepare", videos, "--ecg", "drawn", "-o", tmp_path / "out", "--workers", "1")
    assert done.code == 2
    assert "No usable ECG is drawn" in done.err
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    assert all("No usable ECG" in json.loads(line)["rejected"] for line in lines)


@pytest.mark.parametrize("held_out_groups", [1, 2, 5])
def test_patients_held_out_share_no_group_of_recordings_with_others(held_out_groups: int):
    edge = held_out_groups / GROUPS * BUCKETS
    names = [f"patient {number}" for number in range(3000)]
    held_out = {name for name in names if hash_of(name) % BUCKETS < edge}
    groups = [{group_of(name, GROUPS) for name in names if (name in held_out) == inside} for inside in (True, False)]
    assert groups == [set(range(held_out_groups)), set(range(held_out_groups, GROUPS))]
