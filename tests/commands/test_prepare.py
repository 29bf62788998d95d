"""`echogen prepare`: folders and data sets into shards, however often the run is killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echogen import Cine, Study, read_cine, write
from echogen.datasets.cluster import prepare_on_ray
from echogen.datasets.preparation import Job, prepare_plan, source_of
from echogen.datasets.registry import DATASETS, DatasetEntry
from echogen.datasets.shards import ShardFolder
from echogen.datasets.video_folder import VideoFolder
from echogen.errors import InputError
from echogen.testing.clip_stores import small_store

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven small videos below one another, a damaged one, and files that are no videos."""
    folder = tmp_path_factory.mktemp("videos") / "in"
    rng = np.random.default_rng(0)
    for number in range(7):
        place = folder / ("deep" if number % 2 else "")
        place.mkdir(parents=True, exist_ok=True)
        frames = rng.integers(0, 256, (3, 8, 9), dtype=np.uint8)
        write(Cine(frames, np.arange(3) / 25, 0.5 if number else None), place / f"heart {number}.npz")
    (folder / "damaged.avi").write_bytes(b"RIFF....AVI nothing")
    (folder / "notes.txt").write_text("no video")
    (folder / ".hidden.avi").write_bytes(b"RIFF....AVI nothing")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def manifest(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_a_folder_of_videos_and_what_was_rejected(echogen: Run, videos: Path, tmp_path: Path) -> None:
    outcome = echogen("prepare", videos, "-o", tmp_path / "out", "--per-shard", 3, "--workers", 1)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"Wrote 7 samples to {tmp_path / 'out'}; 1 rejected, see manifest.jsonl.\n"
    lines = manifest(tmp_path / "out")
    assert [line["source"] for line in lines] == [
        "damaged.avi", *(f"deep/heart {n}.npz" for n in (1, 3, 5)), *(f"heart {n}.npz" for n in (0, 2, 4, 6))
    ]  # fmt: skip
    assert all(len(line["sha256"]) == 64 for line in lines)
    assert lines[0]["rejected"].startswith("damaged.avi has no picture")
    samples = ShardFolder(tmp_path / "out")
    for place, line in enumerate(lines[1:]):
        cine = samples[place].study.cine
        original = read_cine(videos / line["source"])
        np.testing.assert_array_equal(cine.frames, original.frames)
        assert cine.mm_per_pixel == original.mm_per_pixel
        assert samples[place].labels["sha256"] == line["sha256"]
    assert str(videos) not in "".join(map(str, lines))
    before = contents(tmp_path / "out")
    assert echogen("prepare", videos, "-o", tmp_path / "out", "--per-shard", 3).out == outcome.out
    assert contents(tmp_path / "out") == before


def test_workers_change_nothing(echogen: Run, videos: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        outcome = echogen("prepare", videos, "-o", tmp_path / f"{workers}", "--per-shard", 2, "--workers", workers)
        assert outcome.code == 0, outcome.err
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def _killed(videos: Path, output: Path, reads: int) -> None:
    """Prepare in this process, and kill it with the read after the first `reads`."""
    from echogen.cli import main

    read, done = VideoFolder.__getitem__, []

    def counting(folder: VideoFolder, index: int) -> Study:
        done.append(index)
        if len(done) > reads:
            os.kill(os.getpid(), signal.SIGKILL)
        return read(folder, index)

    VideoFolder.__getitem__ = counting  # type: ignore[method-assign]
    sys.argv = ["echogen", "prepare", str(videos), "-o", str(output), "--per-shard", "3", "--workers", "1"]
    main()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_run_continues(echogen: Run, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert echogen("prepare", videos, "-o", tmp_path / "whole", "--per-shard", 3, "--workers", 1).code == 0
    for reads in (2, 3):
        process = multiprocessing.get_context("fork").Process(target=_killed, args=(videos, tmp_path / "killed", reads))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (tmp_path / "killed" / "shards.json").exists()
    again: list[int] = []
    read = VideoFolder.__getitem__
    monkeypatch.setattr(VideoFolder, "__getitem__", lambda folder, index: again.append(index) or read(folder, index))
    outcome = echogen("prepare", videos, "-o", tmp_path / "killed", "--per-shard", 3, "--workers", 1)
    assert outcome.out == f"Wrote 7 samples to {tmp_path / 'killed'}; 1 rejected, see manifest.jsonl.\n"
    assert again == [5, 6, 7]
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_what_simulate_wrote_keeps_its_truth(echogen: Run, tmp_path: Path) -> None:
    assert echogen("simulate", "-o", tmp_path / "clips", "--seconds", 1, "--ef", 41).code == 0
    outcome = echogen("prepare", tmp_path / "clips", "-o", tmp_path / "out", "--workers", 1, "--compress")
    assert outcome.out == f"Wrote 1 sample to {tmp_path / 'out'}.\n"
    truth = json.loads((tmp_path / "clips" / "clip-00000" / "truth.json").read_text())
    study = ShardFolder(tmp_path / "out")[0].study
    assert (study.ef_percent, study.cine.view, study.sex) == (truth["ef_percent"], "A4C", truth["sex"])
    assert [beat.es_s for beat in study.beats] == [beat["es_s"] for beat in truth["beats"]]
    assert study.ecg is not None
    assert study.masks is not None
    np.testing.assert_array_equal(study.masks, np.load(tmp_path / "clips" / "clip-00000" / "masks.npz")["masks"])


class Listed:
    """A data set as `registry` knows it, with labels that JSON does not know and a record that is not there."""

    def __init__(self, folder: Path, split: str | None = None, *, skip_missing: bool = False) -> None:
        self.folder, self.names, self.missing = folder, ["one", "two"], ["gone"]
        assert skip_missing
        assert split == "TEST"

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Study:
        return Study(None, Cine(np.full((2, 4, 4), index, np.uint8), np.arange(2) / 30), ef_percent=50.0)

    def labels(self, index: int) -> dict[str, Any]:
        return {"age_years": float("nan"), "place": self.folder, "statements": {"NORM": 100.0}, "leads": ("I", "II")}


def test_a_data_set_by_name(echogen: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DATASETS, "listed", DatasetEntry("a test", "here", f"{__name__}:Listed", ()))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one.dat").write_bytes(b"1")
    arguments = ("--name", "listed", "--split", "TEST", "--workers", 1)
    outcome = echogen("prepare", tmp_path / "in", "-o", tmp_path / "out", *arguments)
    assert outcome.out == f"Wrote 2 samples to {tmp_path / 'out'}; 1 rejected, see manifest.jsonl.\n", outcome.err
    lines = manifest(tmp_path / "out")
    assert [(line["name"], line["source"], line["sha256"] is not None) for line in lines] == [
        ("one", "one.dat", True),
        ("two", "two", False),
        ("gone", "gone", False),
    ]
    assert lines[2]["rejected"] == "The data set lists it, but it is not there."
    labels = ShardFolder(tmp_path / "out")[1].labels
    assert labels["dataset"] == "listed"
    assert labels["ef_percent"] == 50.0
    assert (labels["age_years"], labels["statements"], labels["leads"]) == (None, {"NORM": 100.0}, ["I", "II"])
    assert str(tmp_path) not in json.dumps(dict(labels))


def test_a_clip_store_is_recognised(echogen: Run, tmp_path: Path) -> None:
    small_store(tmp_path / "in", frames=8, first_seed=7)
    outcome = echogen("prepare", tmp_path / "in", "-o", tmp_path / "out", "--workers", 1)
    assert outcome.code == 0, outcome.err
    sample = ShardFolder(tmp_path / "out")[0]
    assert (sample.labels["dataset"], sample.labels["name"]) == ("phantom", "phantom_0000007")
    assert sample.study.ecg is not None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere", "-o", "out"), "There is no folder nowhere"),
        (("empty", "-o", "out"), "There is no echo video in"),
        (("bad", "-o", "out"), "None of the 2 sources could be used (a.avi: a.avi has no picture"),
        (("bad", "-o", "bad/out"), "lies inside the data set"),
        (("bad", "-o", "out", "--name", "imagenet"), "There is no data set 'imagenet'; known are echonet-dynamic"),
        (("bad", "-o", "out", "--split", "TEST"), "A folder of videos has no split"),
        (("bad", "-o", "far/out"), "The output folder far does not exist"),
        (("bad", "-o", "empty/out", "--fps", "0"), "--fps must lie between"),
    ],
)
def test_a_mistake_is_one_sentence(
    echogen: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    for name in ("a.avi", "b.avi"):
        (tmp_path / "bad" / name).write_bytes(b"RIFF....AVI nothing")
    outcome = echogen("prepare", *arguments, "--workers", 1)
    assert outcome.code == 2
    assert says in outcome.err
    assert outcome.err.count("\n") == 1
    assert not (tmp_path / "out" / "shards.json").exists()


@pytest.mark.slow
def test_a_local_ray_changes_nothing(echogen: Run, videos: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    for name, more in {"here": ("--workers", 1), "ray": ("--ray", "local", "--workers", 2)}.items():
        outcome = echogen("prepare", videos, "-o", tmp_path / name, "--per-shard", 3, *more)
        assert (outcome.code, outcome.err) == (0, "")
    assert contents(tmp_path / "ray") == contents(tmp_path / "here")


@pytest.mark.slow
def test_a_ray_cluster_changes_nothing(echogen: Run, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray.data")
    from ray.cluster_utils import Cluster

    for name, value in {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}.items():
        monkeypatch.setenv(name, value)
    small = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    try:
        cluster.add_node(**small)
        shards = ("--per-shard", 2)
        assert echogen("prepare", videos, "-o", tmp_path / "here", *shards, "--workers", 1).code == 0
        outcome = echogen("prepare", videos, "-o", tmp_path / "ray", *shards, "--ray", cluster.address)
        assert outcome.code == 0, outcome.err
        assert contents(tmp_path / "ray") == contents(tmp_path / "here")
        source = source_of(videos)
        job = Job(source, tmp_path / "gone", prepare_plan(source, 2, True), 0)
        with pytest.raises(InputError, match=r"does not see .*gone; every machine must"):
            list(prepare_on_ray([job], cluster.address))
    finally:
        cluster.shutdown()


def test_without_ray_it_says_so(echogen: Run, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = echogen("prepare", videos, "-o", tmp_path / "out", "--ray", "local")
    assert (outcome.code, outcome.err) == (
        2,
        "Ray is not installed; install it with: pip install 'echogen[cluster]', or leave --ray out.\n",
    )


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:10001", "nonsense"])
def test_a_ray_that_does_not_answer(echogen: Run, videos: Path, tmp_path: Path, address: str) -> None:
    pytest.importorskip("ray.data")
    outcome = echogen("prepare", videos, "-o", tmp_path / "out", "--ray", address)
    assert outcome.code == 2
    assert outcome.err.startswith(f"No Ray answers at '{address}'; start it there, or name local,")
    assert outcome.err.count("\n") == 1
