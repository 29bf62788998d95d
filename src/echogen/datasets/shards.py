"""Shards: a data set of any size as a few large files, every sample together with its labels.

FOLDER/shard-000000.tar   plain tars, as the package webdataset reads them; the files of one sample lie together:
           KEY.cine.npz   frames (T, H, W) uint8, times_s (T,), mm_per_pixel, view: lossless, and what `read_cine` reads
           KEY.ecg.npz    signal_mv (leads, samples) float32, rate_hz, lead_names, start_s: what `read_ecg` reads
           KEY.masks.npz  masks (T, H, W) uint8, ids of `STRUCTURES`
           KEY.json       the labels: ef_percent, view, sex, beats (times in s, volumes in ml), source, sha256 ...
       shards.json        number of samples and list of shards; written last, so without it a folder is not finished
       manifest.jsonl     one line a source, in order: its origin, its shard, or the reason for its rejection
"""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from echogen.arrays import ByteArray
from echogen.datasets.npz_bytes import arrays_of
from echogen.errors import InputError
from echogen.records import Beat, Cine, Ecg, Study

#: Names of the files of a folder that describe its shards: the summary, and one line for each source.
SUMMARY, MANIFEST = "shards.json", "manifest.jsonl"
#: Version of this layout.
FORMAT = 1
#: Suffixes of a sample's files: cine, ECG, masks and labels.
CINE, ECG, MASKS, LABELS = "cine.npz", "ecg.npz", "masks.npz", "json"
#: Number of shards that a reader keeps open, far below the files that a system allows.
OPEN_SHARDS = 32


@dataclass(frozen=True)
class Sample:
    """Sample of a shard; an unknown value is None.

    key: Name of the sample, unique in its folder.
    cine: Echo video.
    ecg: ECG.
    masks: Ids of `STRUCTURES` (frames, height, width) in the frames of the cine, `UNLABELLED` in frames that nobody outlined.
    labels: Plain values for JSON; "synchronous" false means that ECG and cine do not share a clock, and "outlined" names the
        structures that the masks show where these are not all.
    maps: Further arrays of a simulated sample by name, frame by frame; shards do not hold them.
    """

    key: str
    cine: Cine | None = None
    ecg: Ecg | None = None
    masks: ByteArray | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def study(self) -> Study:
        """Study of the sample, without an ECG that is on another clock. Raises `InputError` for a sample without a cine."""
        if self.cine is None:
            raise InputError(f"The sample {self.key} holds no cine; take its ECG.")
        beats = tuple(
            Beat(*(entry.get(name) for name in ("ed_s", "es_s", "edv_ml", "esv_ml", "r_s")))
            for entry in self.labels.get("beats", ())
        )
        ecg = self.ecg if self.labels.get("synchronous", True) else None
        return Study(ecg, self.cine, self.labels.get("ef_percent"), self.labels.get("sex"), beats, self.masks)


def sample_of(key: str, study: Study, **labels: Any) -> Sample:
    """Make a sample of a study.

    key: Name of the sample.
    study: Source of cine, ECG, masks and labels.
    labels: Further labels, as plain values.
    """
    beats = [{**asdict(beat), "ef_percent": beat.ef_percent} for beat in study.beats]
    known = {"ef_percent": study.ef_percent, "view": study.cine.view, "sex": study.sex, "beats": beats}
    return Sample(key, study.cine, study.ecg, study.masks, known | labels)


def encode(sample: Sample, *, compress: bool = True) -> dict[str, bytes]:
    """Make the files of a sample, by suffix.

    sample: Sample to store.
    compress: True deflates the frames and the ECG; masks are always deflated.
    Raises `ValueError` for labels that JSON does not know.
    """
    files: dict[str, bytes] = {}
    if (cine := sample.cine) is not None:
        pixel = np.nan if cine.mm_per_pixel is None else cine.mm_per_pixel
        files[CINE] = _npz(
            compress, frames=cine.frames, times_s=cine.times_s, mm_per_pixel=np.float64(pixel), view=np.str_(cine.view or "")
        )
    if (ecg := sample.ecg) is not None:
        files[ECG] = _npz(
            compress,
            signal_mv=ecg.signal_mv,
            rate_hz=np.float64(ecg.rate_hz),
            lead_names=np.array(ecg.lead_names),
            start_s=np.float64(ecg.start_s),
        )
    if sample.masks is not None:
        files[MASKS] = _npz(True, masks=sample.masks)
    files[LABELS] = (json.dumps(dict(sample.labels), ensure_ascii=False, allow_nan=False) + "\n").encode()
    return files


def decode(key: str, files: Mapping[str, bytes | memoryview]) -> Sample:
    """Read a sample from the files that `encode` made. Damage raises errors of many kinds; `ShardFolder` turns them into one."""
    cine = ecg = masks = None
    if CINE in files:
        arrays = arrays_of(files[CINE])
        pixel, view = float(arrays["mm_per_pixel"]), str(arrays["view"])
        cine = Cine(arrays["frames"], arrays["times_s"], pixel if np.isfinite(pixel) else None, view or None)
    if ECG in files:
        arrays = arrays_of(files[ECG])
        names = tuple(str(name) for name in arrays["lead_names"])
        ecg = Ecg(arrays["signal_mv"], float(arrays["rate_hz"]), names, float(arrays["start_s"]))
    if MASKS in files:
        masks = arrays_of(files[MASKS])["masks"]
    sample = Sample(key, cine, ecg, masks, json.loads(bytes(files[LABELS])))
    if cine is not None:
        _ = sample.study  # labels of another form raise here and not at their use
    return sample


class ShardFolder:
    """Samples of a finished folder by index, each read alone when it is asked for.

    Memory does not grow with the data set: it holds the positions of the samples in the last `OPEN_SHARDS` shards only.
    Raises `InputError` for a folder that is not finished or lacks a shard, and on reading for a damaged shard.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        summary = read_summary(self.folder)
        if summary is None:
            raise InputError(f"There are no finished shards in {folder}; make them with `echogen prepare`.")
        try:
            self.files = [self.folder / Path(shard["file"]).name for shard in summary["shards"]]
            self.lengths = [int(shard["samples"]) for shard in summary["shards"]]
            if min(self.lengths, default=0) < 0 or sum(self.lengths) > sys.maxsize:
                raise ValueError("no number of samples")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _damaged_summary(self.folder) from error
        if lacking := [path.name for path in self.files if not path.is_file()]:
            raise InputError(f"{folder} lacks {len(lacking)} of its shards ({lacking[0]} is the first); copy them again.")
        self._ends = list(accumulate(self.lengths))
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()
        self._opened_by = os.getpid()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Sample:
        """Read the sample with this index."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        shard = bisect_right(self._ends, index)
        place = index - self._ends[shard] + self.lengths[shard]
        try:
            return self._shard(shard).read(place)
        except Exception as error:
            raise InputError(f"{self.files[shard]} is damaged or was changed; copy it again or prepare it anew.") from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}

    def _shard(self, shard: int) -> _OpenShard:
        if self._opened_by != os.getpid():
            # A forked worker would share the position in the file with its parent.
            self._open, self._opened_by = OrderedDict(), os.getpid()
        if shard not in self._open:
            if len(self._open) >= OPEN_SHARDS:
                self._open.popitem(last=False)
            self._open[shard] = _OpenShard(self.files[shard])
        self._open.move_to_end(shard)
        return self._open[shard]


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Read shards.json of a folder; None without that file. Raises `InputError` for one of another format."""
    path = folder / SUMMARY
    if not path.is_file():
        return None
    try:
        summary: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        stated = int(summary["format"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _damaged_summary(folder) from error
    if stated != FORMAT:
        raise InputError(f"{path} is of format {stated}, which this version of echogen does not read.")
    return summary


def _damaged_summary(folder: Path) -> InputError:
    return InputError(f"{folder / SUMMARY} is damaged; copy it again or prepare the data set anew.")


class _OpenShard:
    """An open tar, with the positions of the files of each of its samples."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.places: list[tuple[str, dict[str, tuple[int, int]]]] = []
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                if not self.places or self.places[-1][0] != key:
                    self.places.append((key, {}))
                self.places[-1][1][suffix] = (member.offset_data, member.size)

    def read(self, place: int) -> Sample:
        key, files = self.places[place]
        first, last = next(iter(files.values()))[0], sum(next(reversed(files.values())))
        content = np.empty(last - first, np.uint8).data
        self.file.seek(first)
        if self.file.readinto(content) != len(content):
            raise ValueError("cut short")
        return decode(key, {suffix: content[start - first : start - first + size] for suffix, (start, size) in files.items()})


def _npz(compress: bool, **arrays: Any) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(stream, **arrays)
    return stream.getvalue()
