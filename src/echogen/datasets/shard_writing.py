"""Writer of shards that continues a killed run and leaves the same bytes as an uninterrupted run.

The shard of a sample follows from the index of the sample alone, and no byte depends on the time or on the writing process. A
shard grows in FOLDER/unfinished beside a journal that gets one line after each finished sample; a run that continues cuts both
back to the last whole line. A finished shard is moved into FOLDER; shards.json comes last.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from echogen.datasets.shards import FORMAT, MANIFEST, SUMMARY, Sample, encode, read_summary
from echogen.errors import InputError
from echogen.files import whole_file

#: Folder of shards in progress, below the folder of shards.
UNFINISHED = "unfinished"
#: File of the plan, in the folder of shards in progress.
_PLAN = "plan.json"
#: Bytes to which each file in a tar is padded.
_BLOCK = tarfile.BLOCKSIZE
#: Longest key in characters: with a suffix it fits the 100 bytes that a tar header has for a name.
_LONGEST_KEY = 80


@dataclass(frozen=True)
class Origin:
    """Origin of a sample.

    source: Path of a file below the data set's folder, or another name.
    sha256: SHA-256 of that file; None without a file.
    """

    source: str
    sha256: str | None = None


class Samples(Protocol):
    """Samples to write, by index, each made on request."""

    @property
    def names(self) -> Sequence[str]:
        """Name of each sample, in order."""

    def origin(self, index: int) -> Origin:
        """Origin of the sample with this index."""

    def sample(self, index: int, key: str) -> Sample:
        """Make the sample with this index; raises `InputError` where it cannot be used."""


@dataclass(frozen=True)
class Plan:
    """Plan of a folder of shards: the same plan makes the same shards.

    of: Source of the samples and the way they are read, as plain values.
    names_sha256: SHA-256 of all names in order.
    samples: Number of samples in the source.
    per_shard: Number of samples in each shard.
    compress: True deflates frames and ECGs; see `shards.encode`.
    """

    of: dict[str, Any]
    names_sha256: str
    samples: int
    per_shard: int
    compress: bool = True

    @property
    def shards(self) -> int:
        """Number of shards of the finished folder."""
        return -(-self.samples // self.per_shard)


@dataclass(frozen=True)
class Written:
    """Outcome of a plan.

    samples: Number of samples written.
    rejected: Number of samples rejected.
    first_reason: Sentence about the first rejected sample; None without one.
    """

    samples: int
    rejected: int
    first_reason: str | None = None


def plan_for(of: dict[str, Any], names: Sequence[str], per_shard: int, compress: bool = True) -> Plan:
    """Make the plan for samples of these names. Raises `InputError` for an impossible number of samples per shard."""
    if per_shard < 1:
        raise InputError(f"A shard must hold at least one sample, not {per_shard}.")
    return Plan(of, names_digest(names), len(names), per_shard, compress)


def names_digest(names: Sequence[str]) -> str:
    """SHA-256 of names in their order."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def begin(folder: Path, plan: Plan) -> list[int]:
    """Prepare the folder, and return the numbers of the shards that are still to be written: none where it is finished.

    Raises `InputError` where the folder holds shards of another plan, or files that are no shards.
    """
    summary = read_summary(folder)
    earlier = folder / UNFINISHED / _PLAN
    begun = None if not earlier.is_file() else json.loads(earlier.read_text(encoding="utf-8"))
    for there in (begun if summary is None else summary.get("plan"),):
        if there is not None and there != asdict(plan):
            raise InputError(f"{folder} holds shards of something else or made in another way; choose another folder.")
    if summary is not None:
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
        return []
    if begun is None:
        if folder.is_dir() and {path.name for path in folder.iterdir()} - {UNFINISHED, MANIFEST}:
            raise InputError(f"{folder} is not empty; choose a new folder for the shards.")
        earlier.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(earlier, json.dumps(asdict(plan)))
    return [shard for shard in range(plan.shards) if not (folder / shard_name(shard)).is_file()]


def shard_name(shard: int) -> str:
    """File name of a shard."""
    return f"shard-{shard:06d}.tar"


def key_of(index: int, name: str) -> str:
    """Key of a sample: unique, and free of characters that a tar, a file system or webdataset treats specially."""
    return f"{index:07d}_{re.sub(r'[^A-Za-z0-9_-]+', '_', name)}"[:_LONGEST_KEY]


def write_shard(folder: Path, plan: Plan, samples: Samples, shard: int) -> None:
    """Write one shard, or the rest of it where an earlier run was stopped. A sample that cannot be used is noted as rejected."""
    final, partial, journal = folder / shard_name(shard), _work(folder, shard, ".tar"), _work(folder, shard, ".jsonl")
    first = shard * plan.per_shard
    names = samples.names
    done, size = _continued(partial, journal)
    with partial.open("ab") as tar, journal.open("ab") as lines:
        for index in range(first + done, min(first + plan.per_shard, plan.samples)):
            entry, files = _made(samples, index, names[index], plan.compress)
            for suffix, content in files.items():
                size += _append(tar, f"{entry['key']}.{suffix}", content)
            _flush(tar)
            entry = {"index": index, **entry, "shard": final.name if files else None, "end": size}
            lines.write((json.dumps(entry, ensure_ascii=False) + "\n").encode())
            _flush(lines)
        tar.write(bytes(2 * _BLOCK))
        _flush(tar)
    os.replace(partial, final)


def finish(folder: Path, plan: Plan) -> Written:
    """Write the manifest and, unless every sample was rejected, the summary that marks the folder as finished."""
    summary = read_summary(folder) or _summary(folder, plan)
    if summary["samples"]:
        _write_whole(folder / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    else:
        for shard in summary["shards"]:
            (folder / shard["file"]).unlink()
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    reason = None
    if summary["rejected"]:
        with (folder / MANIFEST).open("rb") as manifest:
            refused = next(entry for entry in map(json.loads, manifest) if entry["rejected"] is not None)
        reason = f"{refused['source']}: {refused['rejected']}"
    return Written(summary["samples"], summary["rejected"], reason)


def _summary(folder: Path, plan: Plan) -> dict[str, Any]:
    """Write the manifest from the journals of all shards, and return the summary for shards.json."""
    rejected = 0
    shards: list[dict[str, Any]] = []
    with whole_file(folder / MANIFEST) as unfinished, unfinished.open("wb") as manifest:
        for shard in range(plan.shards):
            lines = _work(folder, shard, ".jsonl").read_bytes()
            manifest.write(lines)
            refused = [json.loads(line)["rejected"] is not None for line in lines.splitlines()]
            rejected += sum(refused)
            size = (folder / shard_name(shard)).stat().st_size
            shards.append({"file": shard_name(shard), "samples": len(refused) - sum(refused), "bytes": size})
    samples = sum(int(shard["samples"]) for shard in shards)
    return {"format": FORMAT, "samples": samples, "rejected": rejected, "shards": shards, "plan": asdict(plan)}


def _made(samples: Samples, index: int, name: str, compress: bool) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Line of the manifest about a sample, and the files of the sample: none where it is rejected."""
    key, origin, content, rejected = key_of(index, name), Origin(name), None, None
    files: dict[str, bytes] = {}
    try:
        origin = samples.origin(index)
        sample = samples.sample(index, key)
        labels = {"name": name, **asdict(origin), **sample.labels}
        content = _content_sha256(sample)
        files = encode(replace(sample, labels=labels), compress=compress)
    except InputError as error:
        content, rejected = None, str(error)
    except Exception as error:
        # One strange file of a hundred thousand must not end the run; the manifest records the error.
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        content, rejected = None, f"It cannot be read ({what})."
    return {"name": name, "key": key, **asdict(origin), "content_sha256": content, "rejected": rejected}, files


def _content_sha256(sample: Sample) -> str:
    """SHA-256 of the frames and of the ECG before any encoding."""
    digest = hashlib.sha256()
    arrays: list[NDArray[Any]] = []
    if sample.cine is not None:
        arrays.append(sample.cine.frames)
    if sample.ecg is not None:
        arrays.append(sample.ecg.signal_mv)
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _continued(partial: Path, journal: Path) -> tuple[int, int]:
    """Number of samples that an earlier run finished, and the length of their tar in bytes; an incomplete rest is cut off."""
    content = journal.read_bytes() if journal.is_file() else b""
    there = partial.stat().st_size if partial.is_file() else 0
    done, kept, size = 0, 0, 0
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n") or (end := json.loads(line)["end"]) > there:
            break
        done, kept, size = done + 1, kept + len(line), end
    for path, length in ((partial, size), (journal, kept)):
        path.touch()
        os.truncate(path, length)
    return done, size


def _append(tar: BinaryIO, name: str, content: bytes) -> int:
    """Add a file to a tar; returns the number of bytes written."""
    header = tarfile.TarInfo(name)
    header.size = len(content)
    data = header.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % _BLOCK)
    tar.write(data)
    return len(data)


def _work(folder: Path, shard: int, suffix: str) -> Path:
    return (folder / UNFINISHED / shard_name(shard)).with_suffix(suffix)


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _write_whole(path: Path, text: str) -> None:
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
