"""Which format of shards reads fastest, and how they scale: python benchmarks/shards.py --clips STORE -> docs/shards.md.

STORE: a folder of rendered clips (python -m echogen.datasets.clip_store STORE).
"""

from __future__ import annotations

import argparse
import json
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

from common import DOCS, table
from echogen.datasets.local_studies import PhantomStudies
from echogen.datasets.shard_stream import ShardStream, epoch_parts
from echogen.datasets.shard_writing import Origin, begin, finish, plan_for, shard_name, write_shard
from echogen.datasets.shards import SUMMARY, Sample, ShardFolder, sample_of
from echogen.metrics.processes import in_processes
from report import write_section

PER_SHARD = 100
FORMAT_CLIPS, REPEATS = 50, 3
KEPT = """
Tar is kept. Without compression a whole sample (with ECG, frame times and labels) is read from it for about what Zarr takes for
the frames alone; any program opens it, and a tar can be cut back to its last whole sample, so a stopped run loses none. Among the
compressed ones Zarr reads faster: its zstd unpacks faster than the deflate of an .npz, which needs nothing but numpy. Where
reading is what a training waits for, `prepare --uncompressed` is faster than either.
"""


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


def write(folder: Path, samples: FirstClips, per_shard: int, compress: bool = True) -> Path:
    plan = plan_for({}, samples.names, per_shard, compress)
    for shard in begin(folder, plan):
        write_shard(folder, plan, samples, shard)
    finish(folder, plan)
    return folder


def write_zarr(folder: Path, frames: np.ndarray, compress: bool, sharded: bool) -> Path:
    import zarr
    from zarr.codecs import ZstdCodec

    chunk = (1, *frames.shape[1:])
    shards = (len(frames) // 2, *frames.shape[1:]) if sharded else None
    array = zarr.create_array(
        folder,
        shape=frames.shape,
        dtype="uint8",
        chunks=chunk,
        shards=shards,
        compressors=ZstdCodec(level=1) if compress else None,
    )
    array[:] = frames
    return folder


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
    """One table: shards and Zarr, each compressed and not."""
    import zarr

    samples = FirstClips(studies, FORMAT_CLIPS)
    frames = np.stack([studies[index].cine.frames for index in range(FORMAT_CLIPS)])
    rows = []
    for name, compress in (("deflate", True), ("none", False)):
        folder = write(place / f"tar-{name}", samples, FORMAT_CLIPS // 2, compress)
        cpu, wall = cost(ShardFolder(folder).__getitem__, FORMAT_CLIPS)
        megabytes, files = size_mb(folder)
        what = "frames, times, ECG, labels"
        rows.append(["tar shards", name, what, f"{cpu:.1f}", f"{wall:.1f}", f"{megabytes / FORMAT_CLIPS:.2f}", str(files)])
    for sharded in (True, False):
        for name, compress in (("zstd 1", True), ("none", False)):
            folder = write_zarr(place / f"zarr-{name}-{sharded}", frames, compress, sharded)
            array = zarr.open_array(folder, mode="r")
            cpu, wall = cost(lambda index, array=array: array[index], FORMAT_CLIPS)
            megabytes, files = size_mb(folder)
            how = "Zarr, sharded" if sharded else "Zarr, a file a clip"
            rows.append([how, name, "frames", f"{cpu:.1f}", f"{wall:.1f}", f"{megabytes / FORMAT_CLIPS:.2f}", str(files)])
    head = ["format", "compression", "what is read", "CPU ms a clip", "wall ms a clip", "MB a clip", "files"]
    return table(head, rows)


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
        f"{clips:,} rendered clips (97 frames of 128 x 128, 12-lead ECG, labels; deflate) in shards of {PER_SHARD}, linked so "
        f"often that there are {keys:,} keys. The shuffled order of one epoch held {once}. Opening took {figures['open']:.2f} "
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
            text = note + formats(studies, place) + KEPT
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
