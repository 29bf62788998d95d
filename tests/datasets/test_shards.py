"""Shards: what is written comes back exactly, a stopped run leaves what a whole one does, a stream loses and repeats nothing."""

from __future__ import annotations

import json
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from echogen import Beat, Cine, Ecg, InputError, Study, read_cine, read_ecg
from echogen.datasets.shard_stream import ShardStream
from echogen.datasets.shard_writing import Origin, Plan, begin, finish, key_of, plan_for, write_shard
from echogen.datasets.shards import Sample, ShardFolder, decode, encode, sample_of


@dataclass
class Numbered:
    """Samples that are told apart by their first pixel; those whose number is in `broken` cannot be read."""

    count: int
    broken: frozenset[int] = frozenset()
    stop_at: int | None = None
    made: list[int] = field(default_factory=list)

    @property
    def names(self) -> Sequence[str]:
        return [f"clip {index}.avi" for index in range(self.count)]

    def origin(self, index: int) -> Origin:
        return Origin(self.names[index], f"{index:064x}")

    def sample(self, index: int, key: str) -> Sample:
        if index == self.stop_at:
            raise KeyboardInterrupt
        self.made.append(index)
        if index in self.broken:
            raise InputError("It is damaged.") if index % 2 else RuntimeError("strange\nfile")
        frames = np.full((2, 3, 4), index % 256, dtype=np.uint8)
        return Sample(key, Cine(frames, np.arange(2) / 25), labels={"number": index})


def write_all(folder: Path, samples: Numbered, plan: Plan) -> None:
    for shard in begin(folder, plan):
        write_shard(folder, plan, samples, shard)
    finish(folder, plan)


def shards_of(folder: Path, count: int, per_shard: int, broken: frozenset[int] = frozenset()) -> Path:
    samples = Numbered(count, broken)
    write_all(folder, samples, plan_for({}, samples.names, per_shard))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


numbers = st.floats(-5, 5, width=32)


@given(
    frames=arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5))),
    signal=st.none() | arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 9)), elements=numbers),
    pixel=st.none() | st.floats(0.01, 2),
    view=st.sampled_from([None, "A4C", "A2C"]),
    beats=st.lists(st.builds(Beat, numbers, numbers, st.none() | numbers, st.none() | numbers, st.none() | numbers), max_size=3),
    compress=st.booleans(),
    masked=st.booleans(),
)
def test_a_study_comes_back_as_it_was(frames, signal, pixel, view, beats, compress, masked):
    cine = Cine(frames, -0.3 + np.arange(len(frames)) / 37.0, pixel, view)
    ecg = None if signal is None else Ecg(signal, 250.5, tuple(f"lead {n}" for n in range(len(signal))), -1.25)
    study = Study(ecg, cine, 55.5, "f", tuple(beats), frames % 6 if masked else None)
    again = decode("key", encode(sample_of("key", study, source="a.avi"), compress=compress))
    assert again.labels["source"] == "a.avi"
    found = again.study
    np.testing.assert_array_equal(found.cine.frames, frames)
    np.testing.assert_array_equal(found.cine.times_s, cine.times_s)
    assert (found.cine.mm_per_pixel, found.cine.view, found.sex, found.ef_percent) == (pixel, view, "f", 55.5)
    assert found.beats == study.beats
    assert (found.ecg is None, found.masks is None) == (signal is None, not masked)
    if ecg is not None and found.ecg is not None:
        np.testing.assert_array_equal(found.ecg.signal_mv, signal)
        assert (found.ecg.rate_hz, found.ecg.start_s, found.ecg.lead_names) == (ecg.rate_hz, ecg.start_s, ecg.lead_names)
    if masked:
        np.testing.assert_array_equal(found.masks, frames % 6)


def test_clocks_that_differ_are_never_joined():
    cine, ecg = Cine(np.zeros((1, 2, 2), np.uint8), np.zeros(1)), Ecg(np.ones((1, 9)), 100.0, ("I",))
    assert Sample("a", cine, ecg).study.ecg is ecg
    assert Sample("a", cine, ecg, labels={"synchronous": False}).study.ecg is None
    with pytest.raises(InputError, match="no cine"):
        _ = Sample("a", ecg=ecg).study


def test_what_a_tar_holds_any_program_reads(tmp_path: Path):
    webdataset = pytest.importorskip("webdataset")
    cine = Cine(np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.arange(2) / 25, 0.4, "A2C")
    ecg = Ecg(np.linspace(-1, 1, 40, dtype=np.float32).reshape(2, 20), 100.0, ("I", "II"), -0.1)

    class One(Numbered):
        def sample(self, index: int, key: str) -> Sample:
            return sample_of(key, Study(ecg, cine, 60.0))

    write_all(tmp_path / "out", One(1), plan_for({}, One(1).names, 1))
    (shard,) = (tmp_path / "out").glob("*.tar")
    (found,) = list(webdataset.WebDataset(str(shard), shardshuffle=False).decode())
    assert found["__key__"] == key_of(0, "clip 0.avi")
    np.testing.assert_array_equal(found["cine.npz"]["frames"], cine.frames)
    assert found["json"]["ef_percent"] == 60.0
    with tarfile.open(shard) as tar:
        tar.extractall(tmp_path, filter="data")
    again = read_cine(next(tmp_path.glob("*.cine.npz")))
    assert (again.mm_per_pixel, again.view) == (0.4, "A2C")
    np.testing.assert_array_equal(read_ecg(next(tmp_path.glob("*.ecg.npz"))).signal_mv, ecg.signal_mv)


@settings(max_examples=25)
@given(st.data())
def test_a_stopped_run_continues_and_leaves_what_a_whole_one_leaves(data: st.DataObject):
    count, per_shard = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 4))
    broken = data.draw(st.frozensets(st.integers(0, count - 1)))
    with tempfile.TemporaryDirectory() as place:
        whole, stopped = Path(place) / "whole", Path(place) / "stopped"
        shards_of(whole, count, per_shard, broken)
        samples = Numbered(count, broken, stop_at=data.draw(st.integers(0, count - 1)))
        plan = plan_for({}, samples.names, per_shard)
        with pytest.raises(KeyboardInterrupt):
            write_all(stopped, samples, plan)
        # What the kill tore: half a sample in the tar, half a line in the journal, or a journal ahead of its tar.
        first = list(samples.made)
        (journal,) = (path for path in (stopped / "unfinished").glob("*.jsonl") if not (stopped / f"{path.stem}.tar").exists())
        partial = journal.with_suffix(".tar")
        tear = data.draw(st.sampled_from(["nothing", "tar", "journal", "behind"]))
        if tear == "tar":
            partial.write_bytes(partial.read_bytes() + b"half a sample")
        elif tear == "journal":
            journal.write_bytes(journal.read_bytes() + b'{"index": 3, "end": 1')
        elif tear == "behind" and partial.stat().st_size:
            partial.write_bytes(partial.read_bytes()[:-1])
            # Those samples are lost, with all that was rejected after them.
            ends = [json.loads(line)["end"] for line in journal.read_bytes().splitlines()]
            lost = sum(end > partial.stat().st_size for end in ends)
            first = first[: len(first) - lost]
        again = Numbered(count, broken)
        write_all(stopped, again, plan)
        assert first + again.made == list(range(count))
        assert contents(stopped) == contents(whole)


def test_the_manifest_says_what_went_where_and_what_was_rejected(tmp_path: Path):
    folder = shards_of(tmp_path / "out", 5, 2, frozenset({1, 2}))
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == Numbered(5).names
    assert [line["shard"] for line in lines] == ["shard-000000.tar", None, None, "shard-000001.tar", "shard-000002.tar"]
    assert [line["rejected"] is None for line in lines] == [True, False, False, True, True]
    assert (lines[1]["rejected"], lines[2]["rejected"]) == ("It is damaged.", "It cannot be read (RuntimeError: strange file).")
    assert len({line["content_sha256"] for line in lines}) == 4
    assert lines[4]["sha256"] == f"{4:064x}"
    samples = ShardFolder(folder)
    assert [sample.labels["number"] for sample in (samples[index] for index in range(len(samples)))] == [0, 3, 4]


def test_where_nothing_can_be_used_no_data_set_appears(tmp_path: Path):
    samples = Numbered(3, frozenset(range(3)))
    plan = plan_for({}, samples.names, 2)
    for shard in begin(tmp_path / "out", plan):
        write_shard(tmp_path / "out", plan, samples, shard)
    written = finish(tmp_path / "out", plan)
    assert (written.samples, written.rejected) == (0, 3)
    assert "clip 0.avi" in str(written.first_reason)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.jsonl"]
    with pytest.raises(InputError, match="no finished shards"):
        ShardFolder(tmp_path / "out")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path):
    folder = shards_of(tmp_path / "out", 3, 2)
    before = contents(folder)
    assert begin(folder, plan_for({}, Numbered(3).names, 2)) == []
    for other in (
        plan_for({}, Numbered(4).names, 2),
        plan_for({}, Numbered(3).names, 3),
        plan_for({"a": 1}, Numbered(3).names, 2),
    ):
        with pytest.raises(InputError, match="something else"):
            begin(folder, other)
    assert contents(folder) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(InputError, match="not empty"):
        begin(tmp_path / "mine", plan_for({}, Numbered(3).names, 2))


def test_damage_is_one_sentence(tmp_path: Path):
    folder = shards_of(tmp_path / "out", 4, 2)
    shard = folder / "shard-000001.tar"
    content = bytearray(shard.read_bytes())
    content[700:900] = bytes(200)
    shard.write_bytes(content)
    assert ShardFolder(folder)[0].labels["number"] == 0
    with pytest.raises(InputError, match=r"shard-000001.tar is damaged"):
        ShardFolder(folder)[2]
    shard.unlink()
    with pytest.raises(InputError, match=r"lacks 1 of its shards \(shard-000001.tar"):
        ShardFolder(folder)
    listed = '{"format": 1, "shards": [{"file": "shard-000000.tar", "samples": %s}]}'
    for summary in (
        "{",
        "[]",
        "{}",
        '{"format": 1}',
        '{"format": 1e999}',
        *(listed % count for count in ("-1", "9" * 30, "1e999")),
    ):
        (folder / "shards.json").write_text(summary)
        with pytest.raises(InputError, match="damaged"):
            ShardFolder(folder)


@pytest.mark.parametrize("labels", ['["a"]', '{"beats": [1]}', '{"beats": 3}', "nothing"])
def test_labels_of_another_form_are_damage(tmp_path: Path, labels: str):
    folder = shards_of(tmp_path / "out", 1, 1)
    (shard,) = folder.glob("*.tar")
    content = shard.read_bytes()
    at = content.index(b'{"name"')
    end = content.index(b"\n", at)
    shard.write_bytes(content[:at] + labels.encode().ljust(end - at) + content[end:])
    with pytest.raises(InputError, match="damaged"):
        ShardFolder(folder)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """23 samples in shards of 5, 4, 5, 0, 5, 4 of them."""
    return shards_of(tmp_path_factory.mktemp("shards") / "out", 30, 5, frozenset({6, 15, 16, 17, 18, 19, 29}))


def number(sample: Any) -> int:
    return int(sample.labels["number"])


ORDER = {"seed": st.none() | st.integers(0, 99), "mixed_shards": st.integers(1, 7)}


@settings(max_examples=20)
@given(world=st.integers(1, 40), epochs=st.integers(1, 3), **ORDER)
def test_every_epoch_gives_every_sample_once(folder: Path, world: int, epochs: int, seed: int | None, mixed_shards: int):
    parts = [
        [
            number(sample)
            for sample in ShardStream(folder, rank=rank, world=world, epochs=epochs, seed=seed, mixed_shards=mixed_shards)
        ]
        for rank in range(world)
    ]
    joined = [parts[place % world][place // world] for place in range(epochs * 23)]
    assert sum(map(len, parts)) == epochs * 23
    passes = [joined[first : first + 23] for first in range(0, len(joined), 23)]
    assert all(sorted(one) == sorted(passes[0]) and len(set(one)) == 23 for one in passes)
    if seed is None:
        assert passes[0] == sorted(passes[0])
    else:
        assert passes[0] != sorted(passes[0])
        assert len({tuple(one) for one in passes}) == epochs


@settings(max_examples=20)
@given(world=st.integers(1, 4), stop=st.integers(0, 60), later=st.integers(1, 5), **ORDER)
def test_a_stream_goes_on_exactly_where_it_was(
    folder: Path, world: int, stop: int, later: int, seed: int | None, mixed_shards: int
):
    def stream(rank: int, world: int) -> ShardStream:
        return ShardStream(folder, rank=rank, world=world, epochs=None, seed=seed, mixed_shards=mixed_shards)

    def take(stream: ShardStream, count: int) -> list[int]:
        return [number(sample) for _, sample in zip(range(count), stream, strict=False)] if count else []

    begun = stream(0, world)
    take(begun, stop)
    state = json.loads(json.dumps(begun.state_dict()))
    assert state == {**state, "position": stop * world}
    again = stream(0, world)
    again.load_state_dict(state)
    assert take(again, 9) == take(stream(0, world), stop + 9)[stop:] == take(begun, 9)
    # With other hosts, all together go on where all together were.
    everything = take(stream(0, 1), stop * world + 3 * later)
    hosts = [stream(rank, later) for rank in range(later)]
    for host in hosts:
        host.load_state_dict(state)
    rest = np.array([take(host, 3) for host in hosts]).T.ravel().tolist()
    assert rest == everything[stop * world :]


def test_workers_change_nothing_and_leave_torchs_randomness_alone(folder: Path):
    import torch

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    alone = ShardStream(folder, seed=5, epochs=2, transform=number)
    shared = ShardStream(folder, seed=5, epochs=2, transform=number, workers=2)
    one, two = iter(alone), iter(shared)
    assert [next(one) for _ in range(10)] == [next(two) for _ in range(10)]
    assert alone.state_dict() == shared.state_dict()
    two.close()
    assert list(shared) == list(one)
    assert list(alone) == []
    torch.testing.assert_close(torch.rand(2), expected)


def test_another_order_or_rank_is_refused(folder: Path, tmp_path: Path):
    state = ShardStream(folder, seed=1).state_dict()
    for other in (ShardStream(folder, seed=2), ShardStream(shards_of(tmp_path / "a", 8, 4), seed=1)):
        with pytest.raises(InputError, match="continue it with the same"):
            other.load_state_dict(state)
    with pytest.raises(InputError, match="no number 2"):
        ShardStream(folder, rank=2, world=2)
