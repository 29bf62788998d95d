"""Studies from clips made on this machine: rendered clip stores, and folders of videos with pickled ECGs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from echogen.cine.reading import read_cine
from echogen.datasets.clip_store import ECG_BEFORE_S, ECG_RATE_HZ, FPS, ClipStore
from echogen.datasets.paired_folder import PairedFolder, ecg_path, read_ecg_pickle
from echogen.ecg.leads import STANDARD_LEADS
from echogen.errors import InputError
from echogen.records import Beat, Cine, Ecg, Study


class PhantomStudies:
    """Clips of a store that `clip_store.render_clips` wrote, as studies with ECG and beats; names come from the seeds.

    folder: Folder of the store.
    fps: Frames per second at which the store was rendered; None: 32, the usual rate.

    The ECG reaches 2 s before and 1 s past the video. There are no masks: the store labels only some of the frames.
    Raises `InputError` for a folder without rendered clips.
    """

    def __init__(self, folder: str | Path, *, fps: float | None = None) -> None:
        self.store, self.fps = ClipStore(folder), fps or FPS
        self.missing: list[str] = []

    def __len__(self) -> int:
        return len(self.store)

    def __iter__(self) -> Iterator[Study]:
        return (self[index] for index in range(len(self)))

    @property
    def names(self) -> list[str]:
        """Name of each clip, phantom_SEED, in order."""
        return [f"phantom_{self.store[index].heart['seed']:07d}" for index in range(len(self))]

    def __getitem__(self, index: int) -> Study:
        """Read the study with this index."""
        clip = self.store[index]
        heart, frames = clip.heart, np.array(clip.frames)
        cine = Cine(frames, np.arange(len(frames)) / self.fps, heart["mm_per_pixel"], heart["view"])
        ecg = Ecg(clip.ecg, ECG_RATE_HZ, STANDARD_LEADS, -ECG_BEFORE_S)
        columns = zip(*(heart[name] for name in ("ed_s", "es_s", "edv_ml", "esv_ml", "r_s")), strict=True)
        beats = tuple(Beat(*row) for row in columns if None not in row[:2])
        return Study(ecg, cine, heart["ef_percent"], heart["sex"], beats)


class PairedStudies:
    """Pairs of a folder (see `paired_folder`) as studies; names are the videos' paths below the folder, without suffix.

    folder: Folder of the pairs.
    fps: Frames per second of the videos, instead of the rate that they state.
    ecg_rate_hz: Sampling rate in Hz of the pickled ECGs, which begin with their video; None: they end with it, too.
    lead_names: Names of the rows of an ECG; None: the twelve standard leads where there are twelve rows, else "1", "2" and so on.
    skip_missing: True leaves out videos without an ECG (their names are in `missing`); False raises `InputError`.
    Raises `InputError` as `PairedFolder` does.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        fps: float | None = None,
        ecg_rate_hz: float | None = None,
        lead_names: tuple[str, ...] | None = None,
        skip_missing: bool = False,
    ) -> None:
        self.folder, self.fps, self.ecg_rate_hz, self.lead_names = Path(folder), fps, ecg_rate_hz, lead_names
        videos = PairedFolder(folder, ecg=not skip_missing).videos
        self.videos = [video for video in videos if ecg_path(video, self.folder).is_file()]
        self.missing = [self._name(video) for video in videos if not ecg_path(video, self.folder).is_file()]
        if not self.videos:
            raise InputError(f"No video in {folder} has an ECG; put the arrays into folders ekg beside the folders video.")

    def __len__(self) -> int:
        return len(self.videos)

    def __iter__(self) -> Iterator[Study]:
        return (self[index] for index in range(len(self)))

    @property
    def names(self) -> list[str]:
        """Path of each video below the folder, without suffix, in order."""
        return [self._name(video) for video in self.videos]

    def __getitem__(self, index: int) -> Study:
        """Read the study with this index. Raises `InputError` where a file is damaged."""
        video = self.videos[index]
        cine = read_cine(video, fps=self.fps)
        signal = read_ecg_pickle(ecg_path(video, self.folder))
        rate = self.ecg_rate_hz or signal.shape[1] / (cine.duration_s or 1.0)
        numbered = tuple(str(row + 1) for row in range(len(signal)))
        leads = self.lead_names or (STANDARD_LEADS if len(signal) == len(STANDARD_LEADS) else numbered)
        return Study(Ecg(signal, rate, leads, float(cine.times_s[0])), cine)

    def _name(self, video: Path) -> str:
        return video.relative_to(self.folder).with_suffix("").as_posix()
