"""EchoNet-Dynamic: 10,030 four-chamber videos of 112 x 112 pixels with EF, volumes and two traced frames each.

FOLDER/FileList.csv         FileName, EF, ESV, EDV, FrameHeight, FrameWidth, FPS, NumberOfFrames, Split
       VolumeTracings.csv   FileName, X1, Y1, X2, Y2, Frame: the long axis of the ventricle first, then chords across it
       Videos/NAME.avi

Source: Ouyang et al., Nature 580, 2020. The data are given out by Stanford under a research use agreement.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from echogen.arrays import Floats
from echogen.cine.reading import read_cine
from echogen.datasets.table_loader import TableEntry, TableVideos
from echogen.datasets.tables import Source, read_rows
from echogen.datasets.tracings import Tracing, beat_between, tracing_of
from echogen.errors import InputError
from echogen.records import Beat, Cine, Study

#: Names of the splits, as the table writes them.
SPLITS = ("TRAIN", "VAL", "TEST")
#: Number of videos of each split in the whole data set.
COMPLETE = {"TRAIN": 7465, "VAL": 1288, "TEST": 1277}
#: Name of the data set, and the place to ask for it.
SOURCE = Source("EchoNet-Dynamic", "the data can be asked for at https://echonet.github.io/dynamic")
_FILE_LIST, _TRACINGS = "FileList.csv", "VolumeTracings.csv"
_COLUMNS = ("FileName", "EF", "ESV", "EDV", "FPS", "NumberOfFrames", "Split")
_TRACING_COLUMNS = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry(TableEntry):
    """A row of FileList.csv.

    name: Name of the video without suffix.
    ef_percent: Ejection fraction in %.
    edv_ml: End-diastolic volume in ml.
    esv_ml: End-systolic volume in ml.
    fps: Frames per second.
    frames: Number of frames that the table states.
    split: One of `SPLITS`.
    """

    ef_percent: float
    edv_ml: float
    esv_ml: float
    fps: float
    frames: int
    split: str


class EchoNetDynamic(TableVideos[Entry]):
    """Videos of EchoNet-Dynamic as studies, in the order of FileList.csv; a video is read when it is asked for.

    folder: Folder of FileList.csv and Videos.
    split: "TRAIN", "VAL", "TEST" or None for all.
    skip_missing: True leaves out listed videos that are missing (their names are in `missing`); False raises `InputError`.

    A study has no ECG; its cine takes its times from the
    column FPS, its beat runs from the traced end-diastole to the traced end-systole where this follows it.
    Raises `InputError` for a folder, a table or a video that is missing or malformed.
    """

    def __init__(self, folder: str | Path, split: str | None = None, *, skip_missing: bool = False) -> None:
        folder = Path(folder)
        if split is not None and split.upper() not in SPLITS:
            raise InputError(f"EchoNet-Dynamic has the splits {', '.join(SPLITS)}, not {split!r}; name one of these.")
        entries = [entry for entry in _read_file_list(folder) if split is None or entry.split == split.upper()]
        listed = [(entry, folder / "Videos" / f"{entry.name}.avi") for entry in entries]
        part = f"the split {split or 'asked for'}"
        super().__init__(folder, listed, table=_FILE_LIST, part=part, source=SOURCE, skip_missing=skip_missing)

    def __getitem__(self, index: int) -> Study:
        """Read the study with this index. Raises `InputError` where its video is damaged."""
        entry = self.entries[index]
        cine = self._cine(index)
        return Study(None, cine, ef_percent=entry.ef_percent, beats=self._beats(index, cine))

    def tracing(self, index: int) -> Tracing | None:
        """Traced frames of the video with this index; None without two of them. Raises `InputError` for a damaged table."""
        traced = self._tracings.get(self.entries[index].name, {})
        return tracing_of({frame: tracing_outline(lines) for frame, lines in traced.items()})

    @cached_property
    def _tracings(self) -> dict[str, dict[int, Floats]]:
        return read_tracings(self.folder / _TRACINGS)

    def _cine(self, index: int) -> Cine:
        entry = self.entries[index]
        cine = read_cine(self.paths[index], fps=entry.fps)
        if len(cine.frames) != entry.frames:
            _log.info("%s.avi has %d frames, %s says %d", entry.name, len(cine.frames), _FILE_LIST, entry.frames)
        return Cine(cine.frames, cine.times_s, view="A4C")

    def _beats(self, index: int, cine: Cine) -> tuple[Beat, ...]:
        entry, tracing = self.entries[index], self.tracing(index)
        if tracing is None:
            return ()
        return beat_between(cine, tracing.ed_frame, tracing.es_frame, self.paths[index].name, entry.edv_ml, entry.esv_ml)


def tracing_outline(lines: Floats) -> Floats:
    """Outline (2 (n - 1), 2) of a ventricle in x, y from its traced lines (n, 4), the long axis first.

    Chords are sorted along the axis and turned to one side of it: some files hold them in disorder, and the outline would cross
    itself.
    """
    axis, chords = lines[0], lines[1:]
    along = axis[2:] - axis[:2]
    across = np.array([-along[1], along[0]])
    wrong = (chords[:, 2:] - chords[:, :2]) @ across < 0
    chords = np.where(wrong[:, None], chords[:, [2, 3, 0, 1]], chords)
    chords = chords[np.argsort((chords[:, :2] + chords[:, 2:]) @ along, kind="stable")]
    return np.concatenate([chords[:, :2], chords[::-1, 2:]])


def _read_file_list(folder: Path) -> list[Entry]:
    entries = []
    for row in read_rows(folder / _FILE_LIST, _COLUMNS, SOURCE):
        ef, edv, esv, fps, frames = (row.number(name) for name in ("EF", "EDV", "ESV", "FPS", "NumberOfFrames"))
        name, split = row.text("FileName"), row.text("Split").upper()
        if split not in SPLITS or fps <= 0 or not name:
            raise row.error("has no usable FileName, FPS or Split")
        entries.append(Entry(name.removesuffix(".avi"), ef, edv, esv, fps, int(frames), split))
    return entries


def read_tracings(table: Path) -> dict[str, dict[int, Floats]]:
    """Traced lines (n, 4) of x1, y1, x2, y2 in pixels by video name and frame. Raises `InputError` for a damaged table."""
    found: dict[str, dict[int, list[list[float]]]] = {}
    for row in read_rows(table, _TRACING_COLUMNS, SOURCE):
        *corners, frame = (row.number(column) for column in _TRACING_COLUMNS[1:])
        found.setdefault(row.text("FileName").removesuffix(".avi"), {}).setdefault(int(frame), []).append(corners)
    # An area needs the axis and at least two chords.
    return {name: {frame: np.array(lines) for frame, lines in traced.items() if len(lines) > 2} for name, traced in found.items()}
