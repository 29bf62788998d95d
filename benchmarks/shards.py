"""Which format of shards reads fastest, and how they scale: python benchmarks/shards.py --clips STORE -> docs/shards.md.

STORE: a folder of rendered clips (echogen render -o STORE).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from common import DOCS
from echogen.benchmark.markdown import table, write_section
from echogen.datasets.local_studies import PhantomStudies
from echogen.datasets.shard_stream import ShardStream, epoch_parts
from echogen.datasets.shard_writing import Origin, begin, finish, plan_for, shard_name, write_shard
from echogen.datasets.shards import SUMMARY, Sample, ShardFolder, sample_of
from echogen.metrics.evaluation.processes import in_processes
from echogen.records import Cine, Ecg

PER_SHARD = 100
FORMAT_CLIPS, REPEATS = 50, 3
#: As `prepare` writes them unless told otherwise.
COMPRESSED = False


@dataclass(frozen=True)
class Measured:
    """What reading a clip of a format costs, and how large it is."""

    format: str
    compression: str
    cpu_ms: float
    wall_ms: float
    megabytes: float
    files: int

    def cells(self) -> list[str]:
        figures = [f"{value:.2f}" for value in (self.cpu_ms, self.wall_ms, self.megabytes)]
        return [self.format, self.compression, *figures, str(self.files)]


def conclusion(rows: list[Measured]) -> str:
    """What the figures say, and what `prepare` therefore writes."""

    def best(name: str, compressed: bool) -> Measured:
        fitting = [row for row in rows if row.format.startswith(name) and (row.compression != "none") == compressed]
        return min(fitting, key=lambda row: row.cpu_ms)

    tar, packed, zarr = best("tar", False), best("tar", True), best("Zarr", False)
    # Shards only: a data set of a file a clip is what shards are to avoid.
    zarr_packed = best("Zarr, sharded", True)
    if tar.cpu_ms <= zarr.cpu_ms:
        said = "Tar without compression reads fastest"
    else:
        said = "Zarr without compression reads fastest; tar is kept since any program opens it and a stopped run loses nothing"
    even = (tar.megabytes - packed.megabytes) / (packed.cpu_ms - tar.cpu_ms)
    return (
        f"Every row reads the same facts of a clip and makes the same `Sample` of them. {said}: {tar.cpu_ms:.2f} ms of processor"
        f" time a clip, where the fastest Zarr takes {zarr.cpu_ms:.2f} ms. So `prepare` writes tars without compression."
        f" With compression, sharded Zarr takes {zarr_packed.cpu_ms:.1f} ms and tar {packed.cpu_ms:.1f} ms: zstd unpacks faster"
        " than deflate, but deflate is what every program that reads an .npz has. `prepare --compress` saves"
        f" {100 * (1 - packed.megabytes / tar.megabytes):.0f} % of the space, and reads faster only from a disk or a network that"
        f" gives a process less than {1000 * even:.0f} MB/s; `generate --table` compresses, since what it makes is passed on.\n"
    )


@dataclass(frozen=True)
class FirstClips:
    """The first clips of a store as samples."""

    studies: PhantomStudies
    count: int

    @property
    def names(self) -> list[str]:
        return [f"clip {index}" for index in range(self.count)]

    def origin(self, index: int) -> Origin:
        return Origin(self.names[index])

    def sample(self, index: int, key: str) -> Sample:
        return sample_of(key, self.studies[index])


def write(folder: Path, samples: FirstClips, per_shard: int, compress: bool = COMPRESSED) -> Path:
    plan = plan_for({}, samples.names, per_shard, compress)
    for shard in begin(folder, plan):
        write_shard(folder, plan, samples, shard)
    finish(folder, plan)
    return folder


class ZarrFolder:
    """The same samples as rows of two Zarr arrays, a chunk each: the frames, and all else as bytes.

    Fewer arrays read faster, since each costs Zarr about a millisecond a row. For clips of one length and size only.
    """

    def __init__(self, folder: Path) -> None:
        import zarr

        group = zarr.open_group(folder, mode="r")
        self.frames, self.facts = group["frames"], group["facts"]

    @classmethod
    def write(cls, folder: Path, samples: list[Sample], compress: bool, sharded: bool) -> ZarrFolder:
        import zarr
        from zarr.codecs import ZstdCodec

        facts = [cls._facts(sample) for sample in samples]
        longest = max(map(len, facts))
        group = zarr.create_group(folder)
        for name, values in (
            ("frames", np.stack([sample.cine.frames for sample in samples if sample.cine is not None])),
            ("facts", np.stack([np.frombuffer(one.ljust(longest), np.uint8) for one in facts])),
        ):
            array = group.create_array(
                name,
                shape=values.shape,
                dtype="uint8",
                chunks=(1, *values.shape[1:]),
                shards=(len(values) // 2, *values.shape[1:]) if sharded else None,
                compressors=ZstdCodec(level=1) if compress else None,
            )
            array[:] = values
        return cls(folder)

    @staticmethod
    def _facts(sample: Sample) -> bytes:
        """Frame times, signal, and a line of JSON that says the rest."""
        cine, ecg = sample.cine, sample.ecg
        assert cine is not None
        assert ecg is not None
        about = {"labels": sample.labels, "mm_per_pixel": cine.mm_per_pixel, "view": cine.view, "shape": ecg.signal_mv.shape}
        about |= {"rate_hz": ecg.rate_hz, "lead_names": ecg.lead_names, "start_s": ecg.start_s}
        return cine.times_s.tobytes() + ecg.signal_mv.tobytes() + json.dumps(about).encode()

    def __getitem__(self, index: int) -> Sample:
        frames, facts = self.frames[index], self.facts[index].tobytes()
        text = facts.index(b'{"labels"')
        about = json.loads(facts[text:])
        times = np.frombuffer(facts, np.float64, len(frames))
        signal = np.frombuffer(facts, np.float32, offset=times.nbytes, count=math.prod(about["shape"])).reshape(about["shape"])
        cine = Cine(frames, times, about["mm_per_pixel"], about["view"])
        ecg = Ecg(signal, about["rate_hz"], tuple(about["lead_names"]), about["start_s"])
        return Sample(str(index), cine, ecg, labels=about["labels"])


def cost(read: Callable[[int], Any], count: int) -> tuple[float, float]:
    """CPU and wall ms a clip, shuffled, the best of several passes; the first pass also fills the disk cache."""
    runs = []
    for seed in range(REPEATS + 1):
        cpu, wall = time.process_time(), time.perf_counter()
        for index in np.random.default_rng(seed).permutation(count).tolist():
            read(index)
        runs.append((1000 * (time.process_time() - cpu) / count, 1000 * (time.perf_counter() - wall) / count))
    return min(runs[1:])


def size_mb(folder: Path) -> tuple[float, int]:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(sizes) / 1e6, len(sizes)


def formats(studies: PhantomStudies, place: Path) -> str:
    """One table: shards and Zarr, each compressed and not; each row reads the same facts, and all of them agree."""
    samples = FirstClips(studies, FORMAT_CLIPS)
    given = [samples.sample(index, str(index)) for index in range(FORMAT_CLIPS)]
    rows: list[Measured] = []

    def measure(name: str, compression: str, folder: Path, found: Any) -> None:
        for index, sample in enumerate(given):
            assert np.array_equal(found[index].cine.frames, sample.cine.frames)
            assert np.array_equal(found[index].ecg.signal_mv, sample.ecg.signal_mv)
            assert found[index].labels["beats"] == sample.labels["beats"]
        megabytes, files = size_mb(folder)
        rows.append(Measured(name, compression, *cost(found.__getitem__, FORMAT_CLIPS), megabytes / FORMAT_CLIPS, files))

    for compress in (False, True):
        folder = write(place / f"tar-{compress}", samples, FORMAT_CLIPS // 2, compress)
        measure("tar shards", "deflate" if compress else "none", folder, ShardFolder(folder))
    for sharded in (True, False):
        for compress in (False, True):
            folder = place / f"zarr-{compress}-{sharded}"
            found = ZarrFolder.write(folder, given, compress, sharded)
            measure("Zarr, sharded" if sharded else "Zarr, a file a row", "zstd 1" if compress else "none", folder, found)
    head = ["format", "compression", "CPU ms a clip", "wall ms a clip", "MB a clip", "files"]
    return table(head, [row.cells() for row in rows]) + "\n" + conclusion(rows)


@contextmanager
def measured(figures: dict[str, float], name: str) -> Iterator[None]:
    began = time.process_time()
    yield
    figures[name] = time.process_time() - began


def resident_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


def link_shards(folder: Path, linked: Path, times: int) -> Path:
    """A folder whose shards are those of another, again and again: each of its keys is one more name for a clip."""
    linked.mkdir()
    summary = json.loads((folder / SUMMARY).read_text())
    shards = []
    for _ in range(times):
        for shard in summary["shards"]:
            name = shard_name(len(shards))
            os.link(folder / shard["file"], linked / name)
            shards.append({**shard, "file": name})
    summary |= {"samples": summary["samples"] * times, "shards": shards}
    (linked / SUMMARY).write_text(json.dumps(summary))
    return linked


def stream_keys(linked: Path, keys: int, streamed: int) -> tuple[dict[str, float], dict[str, float], bool]:
    """CPU seconds by what they went to, resident MB by when, and whether an epoch's order holds each key once."""
    figures: dict[str, float] = {}
    memory = {"0, before the folder is opened": resident_mb()}
    with measured(figures, "open"):
        stream = ShardStream(linked, seed=1)
    with measured(figures, "stream"):
        for number, sample in enumerate(stream, start=1):
            assert sample.cine is not None
            if number % (streamed // 5) == 0:
                memory[f"{number:,}"] = resident_mb()
            if number == streamed:
                break
    state = stream.state_dict()
    again = ShardStream(linked, seed=1)
    again.load_state_dict({**state, "position": keys - 1})
    with measured(figures, "resume"):
        assert len(list(again)) == 1
    with measured(figures, "order"):
        order = np.concatenate(list(epoch_parts(stream.samples.lengths, 1, 0, stream.mixed_shards, 0)))
    return figures, memory, len(order) == keys and len(np.unique(order)) == keys


def scale(studies: PhantomStudies, place: Path, clips: int, keys: int, streamed: int) -> str:
    """Clips under many keys: what streaming them costs, and whether the memory grows."""
    figures: dict[str, float] = {}
    with measured(figures, "write"):
        folder = write(place / "clips", FirstClips(studies, clips), PER_SHARD)
    linked = link_shards(folder, place / "keys", keys // clips)
    # In a process of its own, since this one has mapped the clips that it read.
    (more, memory, complete) = next(in_processes(stream_keys, [(linked, keys, streamed)], 1))
    figures |= more
    size = sum(path.stat().st_size for path in folder.glob("*.tar")) / clips
    line = (folder / "manifest.jsonl").stat().st_size / clips
    entry = (linked / SUMMARY).stat().st_size / (keys / PER_SHARD)
    read_s, write_s, place_s = figures["stream"] / streamed, figures["write"] / clips, figures["order"] / keys
    grown = table(["samples streamed", "resident MB"], [[number, f"{value:.0f}"] for number, value in memory.items()])

    def row(count: int, clips: int) -> list[str]:
        shards = -(-count // PER_SHARD)
        return [
            f"{count:,}",
            f"{clips:,}",
            f"{shards:,}",
            f"{size * clips / 1e9:,.1f}",
            f"{line * count / 1e6:,.1f}",
            f"{entry * shards / 1e6:.2f}",
            f"{write_s * clips / 3600:.2f}",
            f"{read_s * count / 3600:.2f}",
            f"{place_s * count:.2f}",
        ]

    head = [
        "keys",
        "different clips",
        "shards",
        "GB",
        "manifest MB",
        "shards.json MB",
        "writing, CPU h",
        "an epoch, CPU h",
        "order, CPU s",
    ]
    once = "each key once" if complete else "NOT each key once"
    return (
        f"{clips:,} rendered clips (97 frames of 128 x 128, 12-lead ECG, labels; not compressed) in shards of {PER_SHARD},"
        f" linked so often that there are {keys:,} keys. The shuffled order of one epoch held {once}. Opening took"
        f" {figures['open']:.2f} "
        f"CPU s, a sample {1000 * read_s:.1f} CPU ms ({streamed:,} streamed in shuffled order, one process), going on at the "
        f"last key of the epoch {figures['resume']:.2f} CPU s. The memory is that of the process, Python and torch included. "
        f"Disk cache warm; no GPU.\n\n{grown}\nOn paper, from these figures (the last row was not run):\n\n"
        f"{table(head, [row(keys, clips), row(1_000_000, 1_000_000)])}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", required=True, help="a folder of rendered clips")
    parser.add_argument("--count", type=int, default=1000, help="how many of them")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--streamed", type=int, default=2500)
    parser.add_argument("--only", choices=["formats", "scale"])
    options = parser.parse_args()
    studies = PhantomStudies(options.clips)
    load = os.getloadavg()[0]
    said = f"Load average before: {load:.2f}{'' if load < 0.3 else ' (NOT idle: look at the CPU times)'}."
    place = Path(tempfile.mkdtemp())
    try:
        if options.only != "scale":
            note = (
                f"{FORMAT_CLIPS} rendered clips of 97 frames of 128 x 128, read one by one in shuffled order from a warm disk "
                f"cache, one process, best of {REPEATS} passes. {said} Command: `python benchmarks/shards.py --clips STORE`.\n\n"
            )
            text = note + formats(studies, place)
            print(text)
            write_section(DOCS / "shards.md", "Tar or Zarr", text)
        if options.only != "formats":
            text = scale(studies, place, options.count, options.keys, options.streamed)
            text = f"{said} Command: `python benchmarks/shards.py --clips STORE`.\n\n{text}"
            print(text)
            write_section(DOCS / "shards.md", "A hundred thousand keys", text)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
