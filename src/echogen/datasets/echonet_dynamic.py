"""EchoNet-Dynamic: 10,030 four-chamber videos of 112 x 112 pixels with EF, volumes and two traced frames each.

FOLDER/FileList.csv         FileName, EF, ESV, EDV, FrameHeight, FrameWidth, FPS, NumberOfFrames, Split
       VolumeTracings.csv   FileName, X1, Y1, X2, Y2, Frame: the long axis of the ventricle first, then chords across it
       Videos/NAME.avi

Source: Ouyang et al., Nature 580, 2020. The data are given out by Stanford under a research use agreement.
"""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from echogen.cine.reading import read_cine
from echogen.errors import InputError
from echogen.records import Beat, Cine, Study

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

SPLITS = ("TRAIN", "VAL", "TEST")
#: Videos of each split in the whole data set.
COMPLETE = {"TRAIN": 7465, "VAL": 1288, "TEST": 1277}
WHERE = "the data can be asked for at https://echonet.github.io/dynamic"
_FILE_LIST, _TRACINGS, _VIDEOS = "FileList.csv", "VolumeTracings.csv", "Videos"
_COLUMNS = ("FileName", "EF", "ESV", "EDV", "FPS", "NumberOfFrames", "Split")
_TRACING_COLUMNS = ("FileName", "X1", "Y1", "X2", "Y2", "Frame")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A row of FileList.csv: name without suffix; EF in %, volumes in ml; frames per second; frames promised; split."""

    name: str
    ef_percent: float
    edv_ml: float
    esv_ml: float
    fps: float
    frames: int
    split: str


@dataclass(frozen=True)
class Tracing:
    """The two traced frames of a video, by area: the larger is end-diastole. lines: (n, 4) x1, y1, x2, y2 in pixels."""

    ed_frame: int
    es_frame: int
    ed_lines: Floats
    es_lines: Floats

    def masks(self, height: int, width: int) -> tuple[Mask, Mask]:
        """The cavity at (ED, ES), (height, width) each."""
        return tracing_mask(self.ed_lines, height, width), tracing_mask(self.es_lines, height, width)


class EchoNetDynamic:
    """The videos of the data set as studies, in the order of FileList.csv; a video is read when it is asked for.

    folder: holds FileList.csv and Videos. split: "TRAIN", "VAL", "TEST" or None for all. skip_missing: leave out listed videos
    that are not there (their names are in `missing`) instead of refusing. A study has no ECG; its cine takes its times from the
    column FPS, its beat runs from the traced end-diastole to the traced end-systole where this follows it.
    Raises `InputError` for a folder, a table or a video that is missing or malformed.
    """

    def __init__(self, folder: str | Path, split: str | None = None, *, skip_missing: bool = False) -> None:
        self.folder = Path(folder)
        if split is not None and split.upper() not in SPLITS:
            raise InputError(f"EchoNet-Dynamic has the splits {', '.join(SPLITS)}, not {split!r}; name one of these.")
        entries = [entry for entry in _read_file_list(self.folder) if split is None or entry.split == split.upper()]
        self.missing = [entry.name for entry in entries if not self._video(entry.name).is_file()]
        if self.missing and not skip_missing:
            raise InputError(
                f"{len(self.missing)} of the {len(entries)} videos that {_FILE_LIST} lists are not in {self.folder / _VIDEOS} "
                f"({self.missing[0]}.avi is the first); get them again ({WHERE}) or leave missing videos out."
            )
        absent = set(self.missing)
        self.entries = [entry for entry in entries if entry.name not in absent]
        if not self.entries:
            raise InputError(f"{self.folder} holds no video of the split {split or 'asked for'}; {WHERE}.")

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Study]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Study:
        """The study of an index. Raises `InputError` where its video is damaged."""
        entry = self.entries[index]
        cine = self._cine(entry)
        return Study(None, cine, ef_percent=entry.ef_percent, beats=self._beats(index, cine))

    @property
    def names(self) -> list[str]:
        """The names of the videos without suffix, in order."""
        return [entry.name for entry in self.entries]

    def tracing(self, index: int) -> Tracing | None:
        """The traced frames of an index; None for the few videos without two of them. Raises `InputError` for a damaged table."""
        traced = self._tracings.get(self.entries[index].name, {})
        if len(traced) < 2:
            return None
        by_area = sorted(traced, key=lambda frame: polygon_area(tracing_outline(traced[frame])))
        ed, es = by_area[-1], by_area[0]
        return Tracing(ed, es, traced[ed], traced[es])

    @cached_property
    def _tracings(self) -> dict[str, dict[int, Floats]]:
        return _read_tracings(self.folder)

    def _video(self, name: str) -> Path:
        return self.folder / _VIDEOS / f"{name}.avi"

    def _cine(self, entry: Entry) -> Cine:
        cine = read_cine(self._video(entry.name), fps=entry.fps)
        if len(cine.frames) != entry.frames:
            _log.info("%s.avi has %d frames, %s says %d", entry.name, len(cine.frames), _FILE_LIST, entry.frames)
        return Cine(cine.frames, cine.times_s, view="A4C")

    def _beats(self, index: int, cine: Cine) -> tuple[Beat, ...]:
        entry, tracing = self.entries[index], self.tracing(index)
        if tracing is None or tracing.ed_frame >= tracing.es_frame:
            return ()
        if tracing.es_frame >= len(cine.frames):
            raise InputError(
                f"{_TRACINGS} traces frame {tracing.es_frame} of {entry.name}.avi, which has {len(cine.frames)} frames; "
                f"get the video again ({WHERE})."
            )
        ed_s, es_s = cine.times_s[[tracing.ed_frame, tracing.es_frame]]
        return (Beat(float(ed_s), float(es_s), entry.edv_ml, entry.esv_ml),)


def tracing_outline(lines: Floats) -> Floats:
    """The outline (2 (n - 1), 2) of a ventricle in x, y from its traced lines (n, 4), the long axis first.

    Chords are put in order along the axis and turned to one side of it: in some files they are not, and the outline crosses
    itself.
    """
    axis, chords = lines[0], lines[1:]
    along = axis[2:] - axis[:2]
    across = np.array([-along[1], along[0]])
    wrong = (chords[:, 2:] - chords[:, :2]) @ across < 0
    chords = np.where(wrong[:, None], chords[:, [2, 3, 0, 1]], chords)
    chords = chords[np.argsort((chords[:, :2] + chords[:, 2:]) @ along, kind="stable")]
    return np.concatenate([chords[:, :2], chords[::-1, 2:]])


def polygon_area(outline: Floats) -> float:
    """Area of a polygon (n, 2) (shoelace formula), in squared units."""
    x, y = outline.T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def tracing_mask(lines: ArrayLike, height: int, width: int) -> Mask:
    """(height, width) the pixels whose centres lie inside the outline of traced lines (n, 4) (even-odd rule)."""
    outline = tracing_outline(np.asarray(lines, dtype=np.float64))
    rows, columns = np.mgrid[:height, :width]
    inside = np.zeros((height, width), dtype=bool)
    for (x1, y1), (x2, y2) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if y1 != y2:
            inside ^= ((y1 > rows) != (y2 > rows)) & (columns < x1 + (rows - y1) * (x2 - x1) / (y2 - y1))
    return inside


def _rows(path: Path, columns: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line number, row) of a table with at least these columns."""
    if not path.is_file():
        raise InputError(f"There is no {path.name} in {path.parent}; name the folder of EchoNet-Dynamic ({WHERE}).")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            lacking = [column for column in columns if column not in (reader.fieldnames or ())]
            if lacking:
                raise InputError(f"{path} lacks the column {', '.join(lacking)}; get the file again ({WHERE}).")
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table; get the file again ({WHERE}).") from error


def _number(row: dict[str, str], column: str, path: Path, line: int) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"Line {line} of {path} has no number for {column}; get the file again ({WHERE}).")
    return value


def _read_file_list(folder: Path) -> list[Entry]:
    path = folder / _FILE_LIST
    entries = []
    for line, row in _rows(path, _COLUMNS):
        ef, edv, esv, fps, frames = (_number(row, name, path, line) for name in ("EF", "EDV", "ESV", "FPS", "NumberOfFrames"))
        split = (row["Split"] or "").strip().upper()
        if split not in SPLITS or fps <= 0 or not row["FileName"]:
            raise InputError(f"Line {line} of {path} has no usable FileName, FPS or Split; get the file again ({WHERE}).")
        entries.append(Entry(row["FileName"].removesuffix(".avi"), ef, edv, esv, fps, int(frames), split))
    return entries


def _read_tracings(folder: Path) -> dict[str, dict[int, Floats]]:
    path = folder / _TRACINGS
    found: dict[str, dict[int, list[list[float]]]] = {}
    for line, row in _rows(path, _TRACING_COLUMNS):
        *corners, frame = (_number(row, column, path, line) for column in _TRACING_COLUMNS[1:])
        found.setdefault(row["FileName"].removesuffix(".avi"), {}).setdefault(int(frame), []).append(corners)
    # The axis and two chords are the least that encloses an area.
    return {name: {frame: np.array(lines) for frame, lines in traced.items() if len(lines) > 2} for name, traced in found.items()}
