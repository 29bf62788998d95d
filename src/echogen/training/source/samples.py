"""Samples of each kind of source by index: rendered on the fly, of a clip store, of shards, of a data set or folder of videos."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from echogen.datasets.clip_store import (
    ECG_BEFORE_S,
    ECG_RATE_HZ,
    FIRST_TRAINING_SEED,
    FPS,
    LABEL_EVERY,
    ClipStore,
    cavity_cells,
    describe,
    draw_recording,
    store_shards,
)
from echogen.datasets.ecg_folder import EcgFolder
from echogen.datasets.preparation import RecordSamples, open_source, source_of
from echogen.datasets.registry import recognise
from echogen.datasets.remote_files import is_url
from echogen.datasets.shards import Sample, ShardFolder, read_summary
from echogen.ecg.leads import STANDARD_LEADS
from echogen.errors import InputError
from echogen.phantom.looks import HELD_OUT_MACHINES, LOOKS
from echogen.phantom.simulate import render
from echogen.records import STRUCTURES, UNLABELLED, Cine, Ecg
from echogen.training.source.recent import Recent
from echogen.training.source.settings import PHANTOM, PHANTOM_SECONDS, SourceEntry

#: Number of rendered clips that are kept in memory, so that several windows of one heart cost one rendering.
KEPT_CLIPS = 8


class Samples(Protocol):
    """Samples of a source by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """The sample of an index. Raises `InputError` where it is damaged."""


class PhantomSamples:
    """Simulated hearts, rendered when they are asked for; their seeds are those that training may use.

    look: Look of the pictures.
    seconds: Length of each clip in s.
    hearts: Number of hearts.
    pictures: False draws the ECGs alone, for tasks that take no frames.
    Raises `InputError` for an unknown look, or one of the looks that no training may see.
    """

    def __init__(self, look: str, seconds: float, hearts: int, pictures: bool = True) -> None:
        if look not in LOOKS:
            raise InputError(f"There is no look {look!r}; it must be one of {', '.join(LOOKS)}.")
        if look in HELD_OUT_MACHINES:
            raise InputError(f"The look {look} is held out from all training; take another one.")
        self.look, self.frames, self.hearts, self.pictures = look, round(seconds * FPS) + 1, hearts, pictures

    def __len__(self) -> int:
        return self.hearts

    def __getitem__(self, index: int) -> Sample:
        seed = FIRST_TRAINING_SEED + index
        times = np.arange(self.frames) / FPS
        heart, signal_mv = draw_recording(seed, self.frames / FPS, self.look)
        ecg = Ecg(signal_mv, ECG_RATE_HZ, STANDARD_LEADS, -ECG_BEFORE_S)
        facts = describe(heart, self.frames)
        key, labels = f"phantom_{seed:07d}", facts | {"beats": beats_of(facts)}
        if not self.pictures:
            return Sample(key, ecg=ecg, labels=labels)
        drawn = render(heart, times, seed)
        return Sample(
            key=key,
            cine=Cine(drawn.frames, times, heart.probe.mm_per_pixel, heart.anatomy.view),
            ecg=ecg,
            masks=drawn.labels,
            labels=labels,
            maps={
                "structure": drawn.structure,
                "displacement": stored_displacement(drawn.displacement),
                "cavity": cavity_cells(drawn.labels == STRUCTURES["lv"]),
                "outline": outline_of(facts),
            },
        )


class StoredClips:
    """The clips of a clip store, with masks of every eighth frame.

    folder: Folder of the store.
    fps: Frames per second of the clips, which a store does not state.
    """

    def __init__(self, folder: Path, fps: float = FPS) -> None:
        self.store, self.fps = ClipStore(folder), fps

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> Sample:
        clip = self.store[index]
        facts = clip.heart
        times = np.arange(len(clip.frames)) / self.fps
        masks = np.full(clip.frames.shape, UNLABELLED, np.uint8)
        masks[::LABEL_EVERY] = clip.labels
        return Sample(
            key=f"phantom_{facts['seed']:07d}",
            cine=Cine(np.asarray(clip.frames), times, facts["mm_per_pixel"], facts["view"]),
            ecg=Ecg(clip.ecg, ECG_RATE_HZ, STANDARD_LEADS, -ECG_BEFORE_S),
            masks=masks,
            labels=facts | {"beats": beats_of(facts)},
            maps={
                "structure": clip.structure,
                "displacement": clip.displacement,
                "cavity": clip.cavity,
                "outline": outline_of(facts),
            },
        )


class RecordedSamples:
    """The records of a data set, or of a folder of videos, as samples."""

    def __init__(self, records: RecordSamples) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records.names)

    def __getitem__(self, index: int) -> Sample:
        return self.records.sample(index, str(self.records.names[index]))


class EcgFiles:
    """The ECG files of a folder as samples."""

    def __init__(self, files: EcgFolder) -> None:
        self.files, self.keys = files, files.names

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.keys[index], ecg=self.files[index])


class KeptSamples:
    """The last samples of another source, kept in memory."""

    def __init__(self, samples: Samples, kept: int = KEPT_CLIPS) -> None:
        self.samples = samples
        self._last: Recent[Sample] = Recent(kept)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        return self._last.get(index, lambda: self.samples[index])


def open_samples(entry: SourceEntry, *, pictures: bool = True, window_s: float = 0.0) -> Samples:
    """The samples of one source of a mixture.

    pictures: False for a task that takes ECGs only; a folder that is no known data set is then one of ECG files.
    window_s: Length in s of the windows, for which the phantom's clips are long enough where the entry states no length.
    Raises `InputError` for a folder that is not there or holds nothing to train on.
    """
    if entry.source == PHANTOM:
        seconds = entry.seconds or max(PHANTOM_SECONDS, window_s)
        return KeptSamples(PhantomSamples(entry.look, seconds, entry.hearts, pictures))
    if is_url(entry.source):
        remote = ShardFolder(entry.source)
        remote.ahead(np.arange(len(remote)))
        return remote
    folder = Path(entry.source)
    if not folder.is_dir():
        raise InputError(f"The training source {folder} is no folder; name one with shards, a data set or videos, or `phantom`.")
    samples: Samples
    if read_summary(folder) is not None:
        samples = ShardFolder(folder)
    elif entry.dataset == PHANTOM or (entry.dataset is None and store_shards(folder)):
        samples = StoredClips(folder, **entry.options)
    elif not pictures and entry.dataset is None and recognise(folder) is None and not _is_simulated(folder):
        samples = EcgFiles(EcgFolder(folder, **entry.options))
    else:
        samples = RecordedSamples(open_source(source_of(folder, entry.dataset, **entry.options)))
    if not len(samples):
        raise InputError(f"The training source {folder} is empty; prepare it again or name another.")
    return samples


def _is_simulated(folder: Path) -> bool:
    """True for a folder with clips that `echogen simulate` wrote."""
    return next(folder.glob("**/truth.json"), None) is not None


def stored_displacement(displacement: NDArray[np.floating]) -> NDArray[np.int8]:
    """Displacement (frames, 2, 64, 64) in quarter pixels, as a clip store holds it, of one (frames, 2, 128, 128) in pixels."""
    coarse = displacement.reshape(len(displacement), 2, 64, 2, 64, 2).mean((3, 5))
    return np.clip(np.round(coarse * 4), -127, 127).astype(np.int8)


def outline_of(facts: Mapping[str, Any]) -> NDArray[np.float32]:
    """(frames, 2) length and width of the cavity in pixels of the canonical picture, of a simulated heart's facts."""
    return np.array([facts["length_px"], facts["width_px"]], dtype=np.float32).T


def beats_of(facts: dict[str, list[float | None]]) -> list[dict[str, float | None]]:
    """Beats of a simulated heart's facts, as the labels of a sample hold them."""
    names = ("ed_s", "es_s", "edv_ml", "esv_ml", "r_s")
    rows = zip(*(facts[name] for name in names), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows if None not in row[:2]]
