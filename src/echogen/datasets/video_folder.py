"""Studies from a folder of echo videos about which nothing else is known, or of clips that `echogen simulate` wrote."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from echogen.cine.dicom_opening import is_dicom, read_dataset
from echogen.cine.reading import read_cine
from echogen.datasets.ecg_folder import SUFFIXES as ECG_SUFFIXES
from echogen.ecg.formats import read_around_gaps, read_ecg
from echogen.errors import InputError
from echogen.records import Beat, Cine, Ecg, Study

_log = logging.getLogger(__name__)

#: Suffixes of videos; a DICOM file counts as a video by its content, whatever its name.
SUFFIXES = (
    ".npz",
    ".dcm",
    ".avi",
    ".mkv",
    ".mp4",
    ".mov",
    ".gif",
    ".webp",
    ".webm",
    ".tif",
    ".tiff",
    ".nii",
    ".gz",
    ".mhd",
    ".mha",
)
#: Number of folders with videos from which on each counts as that of a patient; two may be parts of a data set.
FEWEST_PATIENTS = 3
#: Names of the files that `echogen simulate` writes: truth, video, ECG and masks.
_TRUTH, _CINE, _ECG, _MASKS = "truth.json", "cine.npz", "ecg.npz", "masks.npz"


class VideoFolder:
    """Videos in a folder and all folders below it, in the order of their names; hidden files are passed over.

    folder: Folder to search.
    fps: Frames per second of the videos, instead of the rate that they state.
    ecg: True takes an ECG file of the same name beside a video, which begins with the video; it may be shorter or longer.

    Where three or more folders hold the videos, each is that of one patient. A folder that `echogen simulate` wrote is one
    study, with its ECG, masks and truth. A DICOM file that holds a waveform beside its pictures is a study with that ECG, taken
    to begin with the first frame, as is an ECG file beside a video.
    Raises `InputError` for a folder that is missing or holds no video.
    """

    def __init__(self, folder: str | Path, *, fps: float | None = None, ecg: bool = True) -> None:
        self.folder, self.fps, self.ecg = Path(folder), fps, ecg
        if not self.folder.is_dir():
            raise InputError(f"There is no folder {folder}; name the folder that holds the videos.")
        self.missing: list[str] = []
        self.videos = list(_videos(self.folder))
        if not self.videos:
            raise InputError(f"There is no echo video in {folder}; name the folder that holds them.")
        self._by_patient = len({video.parent for video in self.videos}) >= FEWEST_PATIENTS

    def __len__(self) -> int:
        return len(self.videos)

    def __iter__(self) -> Iterator[Study]:
        return (self[index] for index in range(len(self)))

    @property
    def names(self) -> list[str]:
        """Path of each video below the folder, in order."""
        return [video.relative_to(self.folder).as_posix() for video in self.videos]

    def source(self, index: int) -> Path:
        """Path of the video with this index."""
        return self.videos[index]

    def labels(self, index: int) -> dict[str, str]:
        """Name of the patient of the video with this index: its folder, where there are enough of them, or its file."""
        video = self.videos[index].relative_to(self.folder)
        return {"patient": (video.parent if self._by_patient else video).as_posix()}

    def __getitem__(self, index: int) -> Study:
        """Read the study with this index. Raises `InputError` where a file is damaged."""
        video = self.videos[index]
        if _is_simulated(video.parent):
            return read_simulated(video.parent)
        cine = read_cine(video, fps=self.fps)
        ecg = (read_waveform(video) or read_beside(video)) if self.ecg else None
        return Study(None if ecg is None else replace(ecg, start_s=float(cine.times_s[0])), cine)


def read_waveform(video: Path) -> Ecg | None:
    """ECG that a readable DICOM video holds beside its pictures; None without one, or where it cannot be read as an ECG."""
    if not _is_dicom(video) or "WaveformSequence" not in read_dataset(video, stop_before_pixels=True):
        return None
    try:
        return read_around_gaps(video)[0]
    except InputError:
        return None


def read_beside(video: Path) -> Ecg | None:
    """ECG of the file of the same name as a video in its folder, of any format but those of videos; None without one.

    A file that is no ECG, such as a table of other values, is named in the log.
    """
    for path in (video.with_suffix(suffix) for suffix in sorted(ECG_SUFFIXES - set(SUFFIXES))):
        if path.is_file():
            try:
                return read_around_gaps(path)[0]
            except InputError as error:
                _log.warning("The file %s beside a video is not taken as its ECG: %s", path, error)
    return None


def read_simulated(folder: Path) -> Study:
    """Read the study that `echogen simulate` wrote into a folder. Raises `InputError` where a file is missing or damaged."""
    try:
        truth = json.loads((folder / _TRUTH).read_text(encoding="utf-8"))
        beats = tuple(Beat(*(beat[name] for name in ("ed_s", "es_s", "edv_ml", "esv_ml", "r_s"))) for beat in truth["beats"])
        with np.load(folder / _MASKS, allow_pickle=False) as arrays:
            masks = arrays["masks"]
        cine = read_cine(folder / _CINE)
        cine = Cine(cine.frames, cine.times_s, cine.mm_per_pixel, truth["view"])
        return Study(read_ecg(folder / _ECG), cine, truth["ef_percent"], truth["sex"], beats, masks)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{folder} is no whole clip of `echogen simulate`; make it again.") from error


def _videos(folder: Path) -> Iterator[Path]:
    if _is_simulated(folder):
        yield folder / _CINE
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _videos(path)
        elif path.suffix.lower() in SUFFIXES or (path.suffix.lower() not in (".json", ".csv", ".txt") and _is_dicom(path)):
            yield path


def _is_simulated(folder: Path) -> bool:
    return (folder / _TRUTH).is_file() and (folder / _CINE).is_file()


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return is_dicom(file.read(512))
