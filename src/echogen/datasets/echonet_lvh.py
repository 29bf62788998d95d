"""EchoNet-LVH: 12,000 parasternal long-axis videos with measured walls and diameters of the left ventricle.

FOLDER/MeasurementsList.csv   HashedFileName, Calc, CalcValue, Frame, X1, X2, Y1, Y2, Frames, FPS, Width, Height, split:
                              a row for each measurement; note the order of X and Y
       Batch1..4/NAME.avi     of many sizes

Calc is IVSd, LVIDd, LVPWd (end-diastole) or IVSs, LVIDs, LVPWs (end-systole); CalcValue in cm.

Source: Duffy et al., JAMA Cardiology 7, 2022. The data are given out by Stanford under a research use agreement.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from echogen.cine.reading import read_cine
from echogen.datasets.table_loader import TableEntry, TableVideos
from echogen.datasets.tables import Row, Source, read_rows
from echogen.datasets.tracings import beat_between
from echogen.errors import InputError
from echogen.records import Cine, Study

#: Names of the splits, as the table writes them.
SPLITS = ("train", "val", "test")
#: Name of the data set, and the place to ask for it.
SOURCE = Source("EchoNet-LVH", "the data can be asked for at https://echonet.github.io/lvh")
_TABLE = "MeasurementsList.csv"
_COLUMNS = ("HashedFileName", "Calc", "CalcValue", "Frame", "X1", "X2", "Y1", "Y2", "FPS", "split")
#: Measurements whose frames are end-diastole and end-systole: the inner diameters of the left ventricle.
_ED, _ES = "LVIDd", "LVIDs"
#: Largest spread of the pixel sizes that one video's measurements give, as a share of their median; beyond it none is trusted.
_MOST_SPREAD = 0.1
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measurement:
    """A measured line.

    what: Name of the measurement, IVSd, LVIDd, LVPWd, IVSs, LVIDs or LVPWs.
    value_cm: Length in cm.
    frame: Index of its frame, from 0.
    line: Ends x1, y1, x2, y2 in pixels.
    """

    what: str
    value_cm: float
    frame: int
    line: tuple[float, float, float, float]

    @property
    def length_px(self) -> float:
        """Length of the line in pixels."""
        x1, y1, x2, y2 = self.line
        return math.hypot(x2 - x1, y2 - y1)


@dataclass(frozen=True)
class Entry(TableEntry):
    """The rows of one video.

    name: Name of the video without suffix.
    fps: Frames per second; None if not stated.
    split: One of `SPLITS`.
    measurements: Measured lines, in the order of the table.
    """

    fps: float | None
    split: str
    measurements: tuple[Measurement, ...]

    @property
    def mm_per_pixel(self) -> float | None:
        """Pixel size in mm by the measured lines, the median of mm over pixels; None without lines or where they disagree."""
        sides = [10.0 * one.value_cm / one.length_px for one in self.measurements if one.length_px >= 1 and one.value_cm > 0]
        middle = float(np.median(sides)) if sides else 0.0
        return middle if sides and np.ptp(sides) <= _MOST_SPREAD * middle else None

    def frame(self, what: str) -> int | None:
        """Index of the first frame in which `what` was measured; None without such a measurement."""
        return min((one.frame for one in self.measurements if one.what.lower() == what.lower()), default=None)


class EchoNetLvh(TableVideos[Entry]):
    """Videos of EchoNet-LVH as studies, in the order of MeasurementsList.csv; a video is read when it is asked for.

    folder: Folder of MeasurementsList.csv and Batch1 to Batch4.
    split: "train", "val", "test" or None for all.
    fps: Frames per second where the table states none; None takes the rate of the video.
    skip_missing: True leaves out listed videos that are missing (their names are in `missing`); False raises `InputError`.

    A study has no ECG and no EF, its cine no view (it is parasternal); mm per pixel follows
    from the measured lines; the beat runs from the frame of LVIDd to that of LVIDs where this follows it.
    Raises `InputError` for a folder, a table or a video that is missing or malformed.
    """

    def __init__(
        self, folder: str | Path, split: str | None = None, *, fps: float | None = None, skip_missing: bool = False
    ) -> None:
        folder = Path(folder)
        if split is not None and split.lower() not in SPLITS:
            raise InputError(f"EchoNet-LVH has the splits {', '.join(SPLITS)}, not {split!r}; name one of these.")
        self.fps = fps
        entries = [entry for entry in _read_entries(folder) if split is None or entry.split == split.lower()]
        there = {path.stem.upper(): path for path in sorted(folder.glob("Batch*/*.avi"))}
        listed = [(entry, there.get(entry.name.upper(), folder / "Batch1" / f"{entry.name}.avi")) for entry in entries]
        part = f"the split {split or 'asked for'}"
        super().__init__(folder, listed, table=_TABLE, part=part, source=SOURCE, skip_missing=skip_missing)

    def __getitem__(self, index: int) -> Study:
        """Read the study with this index. Raises `InputError` where its video is damaged."""
        entry, path = self.entries[index], self.paths[index]
        cine = read_cine(path, fps=entry.fps or self.fps)
        cine = Cine(cine.frames, cine.times_s, entry.mm_per_pixel)
        ed, es = entry.frame(_ED), entry.frame(_ES)
        return Study(None, cine, beats=() if ed is None or es is None else beat_between(cine, ed, es, path.name))


def _read_entries(folder: Path) -> list[Entry]:
    rows: dict[str, list[Row]] = {}
    for row in read_rows(folder / _TABLE, _COLUMNS, SOURCE):
        name = row.text("HashedFileName").removesuffix(".avi")
        if not name or row.text("split").lower() not in SPLITS:
            raise row.error("has no usable HashedFileName or split")
        rows.setdefault(name, []).append(row)
    entries = []
    for name, own in rows.items():
        rate = own[0].number_if_any("FPS")
        found = tuple(one for one in map(_measurement, own) if one is not None)
        entries.append(Entry(name, rate if rate and rate > 0 else None, own[0].text("split").lower(), found))
    return entries


def _measurement(row: Row) -> Measurement | None:
    """Measurement in a row; None where one of its cells is empty."""
    value, frame, *ends = (row.number_if_any(column) for column in ("CalcValue", "Frame", "X1", "X2", "Y1", "Y2"))
    x1, x2, y1, y2 = ends
    if value is None or frame is None or x1 is None or x2 is None or y1 is None or y2 is None:
        _log.info("line %d of %s leaves a cell empty; the measurement is passed over", row.line, row.path)
        return None
    return Measurement(row.text("Calc"), value, int(frame), (x1, y1, x2, y2))
