"""Samples for shards from any data set: its opening, the labels of each record, and the job of one process."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from echogen.datasets.canonical_samples import in_canonical_picture
from echogen.datasets.drawn_ecg import read_drawn_ecg
from echogen.datasets.pairing import Pairing, with_paired_ecg
from echogen.datasets.registry import DATASETS, dataset_loader, loader_options, open_dataset, recognise
from echogen.datasets.shard_writing import Origin, Plan, names_digest, plan_for, write_shard
from echogen.datasets.shards import Sample, sample_of
from echogen.datasets.tracings import traced_masks
from echogen.datasets.video_folder import VideoFolder
from echogen.errors import InputError
from echogen.records import Ecg, Study

#: Name of a source that is a plain folder of videos and no data set of the registry.
VIDEOS = "videos"
#: Function that fills in labels by measurement, as "module:function".
MEASURE = "echogen.measurement.sample_labels:with_measured_labels"
#: Bytes of a file that are hashed at a time.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Additions:
    """Parts that samples get where their data set lacks them.

    measured: Masks, beats and EF, measured by the reader.
    drawn_ecg: The ECG that is drawn into the pictures; a sample without a usable one is rejected.
    pairing: An ECG in time with the beats of the video.
    canonical: Store cine and masks in the canonical picture, 128 x 128, that training sees, instead of as they were recorded.
    """

    measured: bool = False
    drawn_ecg: bool = False
    pairing: Pairing | None = None
    canonical: bool = False


@dataclass(frozen=True)
class Source:
    """Source of a preparation.

    folder: Folder of the data set.
    name: Name in `registry.DATASETS`, or `VIDEOS` for a folder of videos.
    options: Options of its loader, as (name, value).
    additions: Parts that samples get where the data set lacks them.
    """

    folder: Path
    name: str
    options: tuple[tuple[str, Any], ...] = ()
    additions: Additions = Additions()


@dataclass(frozen=True)
class Job:
    """One shard to write, as it is sent to a process on this machine or another.

    source: Data set to read.
    output: Folder of the shards.
    plan: Plan of all shards.
    shard: Number of the shard, from 0.
    """

    source: Source
    output: Path
    plan: Plan
    shard: int


@dataclass(frozen=True)
class RecordSamples:
    """Records of an opened data set as samples, followed by the records that it lists but lacks.

    source: Data set to read.
    records: Opened data set.
    names: Names of the records, and after them those of the missing ones.
    files: File of each record that is one file, by name.
    """

    source: Source
    records: Any
    names: Sequence[str]
    files: dict[str, Path] = field(default_factory=dict)

    def origin(self, index: int) -> Origin:
        """Origin of a record: its file where it is one file, else its name."""
        path = self._file(index) if index < len(self.records) else None
        if path is None or not path.is_file():
            return Origin(self.names[index])
        inside = path.is_relative_to(self.source.folder)
        return Origin(path.relative_to(self.source.folder).as_posix() if inside else path.name, _file_sha256(path))

    def sample(self, index: int, key: str) -> Sample:
        """Make the sample of a record, with all additions. Raises `InputError` where it cannot be used."""
        sample, added = self._recorded(index, key), self.source.additions
        if added.drawn_ecg and sample.ecg is None:
            sample = self._with_drawn_ecg(sample, index)
        if added.measured:
            path = self._file(index)
            file = path if path is not None and path.is_file() else None
            sample = _measure()(sample, further_beats=added.pairing is not None, file=file)
        if added.pairing is not None:
            sample = with_paired_ecg(sample, added.pairing)
        return in_canonical_picture(sample) if added.canonical else sample

    def _with_drawn_ecg(self, sample: Sample, index: int) -> Sample:
        """Sample with the ECG that is drawn into its file. Raises `InputError` where none can be used."""
        path = self._file(index)
        if path is None or not path.is_file():
            raise InputError("It is no single file, in whose pictures an ECG could be drawn; leave --ecg drawn out.")
        found = read_drawn_ecg(path, fps=dict(self.source.options).get("fps"))
        if not found.accepted:
            raise InputError(f"No usable ECG is drawn into its pictures: {' '.join(found.reasons)}")
        return replace(sample, ecg=found.ecg, labels={**sample.labels, "ecg_of": "picture"})

    def _recorded(self, index: int, key: str) -> Sample:
        """The sample of a record as its data set has it."""
        if index >= len(self.records):
            raise InputError("The data set lists it, but it is not there.")
        record, known = self.records[index], self._labels(index) | {"dataset": self.source.name}
        if isinstance(record, Study):
            return self._outlined(sample_of(key, record, **known), index)
        if isinstance(record, Ecg):
            return Sample(key, ecg=record, labels=known)
        # A cine and an ECG of one patient on clocks that are unrelated.
        apart = {"apart_s": record.apart_s, "synchronous": False}
        return replace(sample_of(key, Study(None, record.cine), **known | apart), ecg=record.ecg)

    def _outlined(self, sample: Sample, index: int) -> Sample:
        """Sample with masks of its traced frames, where the data set has tracings, and the names of the structures outlined."""
        tracing = self.records.tracing(index) if hasattr(self.records, "tracing") else None
        if tracing is not None and sample.cine is not None:
            return replace(sample, masks=traced_masks(tracing, sample.cine), labels={**sample.labels, "outlined": ["lv"]})
        if sample.masks is not None and hasattr(self.records, "outlined"):
            return replace(sample, labels={**sample.labels, "outlined": list(self.records.outlined)})
        return sample

    def _file(self, index: int) -> Path | None:
        if hasattr(self.records, "source"):
            return Path(self.records.source(index))
        paths = [value for value in self._entry(index).values() if isinstance(value, Path)]
        return paths[0] if paths else self.files.get(self.names[index])

    def _labels(self, index: int) -> dict[str, Any]:
        """Labels of a record, as plain values, without the paths of its files."""
        known = self.records.labels(index) if hasattr(self.records, "labels") else self._entry(index)
        return {key: _plain(value) for key, value in known.items() if key != "name" and not isinstance(value, Path)}

    def _entry(self, index: int) -> dict[str, Any]:
        """Row of the data set's table about a record; empty where the loader keeps none."""
        entries = getattr(self.records, "entries", ())
        return {one.name: getattr(entries[index], one.name) for one in fields(entries[index])} if entries else {}


def source_of(folder: Path, name: str | None = None, additions: Additions | None = None, **options: Any) -> Source:
    """Find the source in a folder: the data set of that name, the one that is recognised, or a folder of videos.

    folder: Folder of the data set.
    name: Name in `registry.DATASETS`; None recognises the data set by its files.
    additions: Parts that samples get where the data set lacks them.
    options: Options of its loader.

    Records that the data set lists but lacks are passed over where its loader can. Raises `InputError` for an unknown name.
    """
    known = name or recognise(folder) or VIDEOS
    if known != VIDEOS:
        DATASETS.find(known)
    if "skip_missing" in _options(known):
        options = {"skip_missing": True, **options}
    return Source(folder, known, tuple(sorted(options.items())), additions or Additions())


def open_source(source: Source) -> RecordSamples:
    """Open the samples of a source. Raises `InputError` as its loader does."""
    options = dict(source.options)
    if source.name == VIDEOS:
        if unknown := sorted(set(options) - set(_options(VIDEOS))):
            raise InputError(f"A folder of videos has no {unknown[0]}; leave it out.")
        records: Any = VideoFolder(source.folder, **options)
    else:
        records = open_dataset(source.name, source.folder, **options)
    names = [*records.names, *getattr(records, "missing", ())]
    files = {} if hasattr(records, "source") else _files_by_name(source.folder, set(names))
    return RecordSamples(source, records, names, files)


def prepare_plan(source: Source, per_shard: int, compress: bool) -> Plan:
    """Plan the shards of all records of a source. Raises `InputError` where it has no record."""
    _opened.cache_clear()
    names = _opened(source)[0].names
    if not names:
        raise InputError(f"There is nothing to prepare in {source.folder}; name the folder that holds the data set.")
    added = {} if source.additions == Additions() else {"additions": _told(source.additions)}
    return plan_for({"dataset": source.name, "options": dict(source.options), **added}, names, per_shard, compress)


def prepare_shard(job: Job) -> int:
    """Write one shard, or the rest of it, and return its number; runs in any process, on this machine or another."""
    samples, digest = _opened(job.source)
    if digest != job.plan.names_sha256:
        raise InputError(f"{job.source.folder} changed while it was read; prepare it again into a new folder.")
    write_shard(job.output, job.plan, samples, job.shard)
    return job.shard


def _told(additions: Additions) -> dict[str, Any]:
    """Additions as a plan states them; a choice that came later is left out where it is not made, so that older runs go on."""
    return {name: value for name, value in asdict(additions).items() if name != "canonical" or value}


def _measure() -> Callable[..., Sample]:
    """The function that measures labels; looked up when it is needed, since measuring builds on data sets."""
    module, _, name = MEASURE.partition(":")
    function: Callable[..., Sample] = getattr(import_module(module), name)
    return function


@lru_cache(maxsize=1)
def _opened(source: Source) -> tuple[RecordSamples, str]:
    """Open the samples of a source, with the digest of their names: once for all shards that a process writes."""
    samples = open_source(source)
    return samples, names_digest(samples.names)


def _options(name: str) -> list[str]:
    """Options that the loader of a data set takes after its folder."""
    return loader_options(VideoFolder if name == VIDEOS else dataset_loader(name))


def _plain(value: Any) -> Any:
    """Convert a value for JSON; a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _files_by_name(folder: Path, names: set[str]) -> dict[str, Path]:
    """File of each name that is a file's name or path below the folder, with or without suffix; none for an ambiguous name."""
    found: dict[str, set[Path]] = {}
    for place, inner, files in os.walk(folder):
        if "zarr.json" in files:
            inner.clear()
        for path in (Path(place) / file for file in files):
            below = path.relative_to(folder)
            for name in {path.stem, path.name, below.as_posix(), below.with_suffix("").as_posix()} & names:
                found.setdefault(name, set()).add(path)
    return {name: paths.pop() for name, paths in found.items() if len(paths) == 1}


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
