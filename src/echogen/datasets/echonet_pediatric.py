"""EchoNet-Pediatric: videos of children (0..18 years), 3,284 four-chamber and 4,526 short-axis, with EF and two traced frames.

FOLDER/A4C/FileList.csv         FileName (with .avi), EF, Sex, Age, Weight, Height, Split: a fold 0..9
           VolumeTracings.csv   FileName, X, Y, Frame: points of the outline; Frame is "No Systolic" where there is none
           Videos/NAME.avi      112 x 112 pixels
       PSAX/...                 the same
The archive unpacks to pediatric_echo_avi/pediatric_echo_avi/; both are looked into.

Source: Reddy et al., JASE 36, 2023. The data are given out by Stanford under a research use agreement.
"""

from __future__ import annotations

from collections.abc import Collection
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
from echogen.records import Cine, Study

#: Views of the data set, which are the names of its folders.
VIEWS = ("A4C", "PSAX")
#: Folds of each split in the two ways of papers (training / validation / test); the data set itself names folds only.
SPLITS = {
    "8-1-1": {"train": (0, 1, 2, 3, 4, 5, 6, 7), "val": (8,), "test": (9,)},
    "7-1-2": {"train": (0, 1, 2, 3, 4, 5, 6), "val": (7,), "test": (8, 9)},
}
#: Name of the data set, and the place to ask for it.
SOURCE = Source("EchoNet-Pediatric", "the data can be asked for at https://echonet.github.io/pediatric")
_FILE_LIST, _TRACINGS = "FileList.csv", "VolumeTracings.csv"
_COLUMNS = ("FileName", "EF", "Sex", "Age", "Weight", "Height", "Split")
#: Folders below the one given in which the views are looked for: the archive unpacks to nested ones.
_NESTED = (
    "",
    "pediatric_echo_avi",
    "pediatric_echo_avi/pediatric_echo_avi",
    "echonetpediatric/pediatric_echo_avi/pediatric_echo_avi",
)


@dataclass(frozen=True)
class Entry(TableEntry):
    """A row of FileList.csv; a value that the table leaves open is None.

    name: VIEW_NAME, without the suffix of the file.
    view: "A4C" or "PSAX".
    ef_percent: Ejection fraction in %.
    sex: "m" or "f".
    age_years: Age in years, 0..18.
    weight_kg: Weight in kg.
    height_cm: Height in cm.
    fold: Fold, 0..9.
    """

    view: str
    ef_percent: float | None
    sex: str | None
    age_years: float | None
    weight_kg: float | None
    height_cm: float | None
    fold: int


class EchoNetPediatric(TableVideos[Entry]):
    """Videos of EchoNet-Pediatric as studies, view by view in the order of FileList.csv; each is read when it is asked for.

    folder: Folder as unpacked, or the folder of one view.
    views: Some of `VIEWS`; None takes all that the folder holds.
    folds: Some of 0..9 (see `SPLITS`); None takes all.
    fps: Frames per second instead of the rate that a video states; the tables state none.
    skip_missing: True leaves out listed videos that are missing (their names are in `missing`); False raises `InputError`.

    A study has no ECG; a short-axis cine has no view; the beat runs from the traced end-diastole to the traced end-systole where
    this follows it, and its volumes are not known.
    Raises `InputError` for a folder, a table or a video that is missing or malformed.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        views: Collection[str] | None = None,
        folds: Collection[int] | None = None,
        fps: float | None = None,
        skip_missing: bool = False,
    ) -> None:
        folder = Path(folder)
        if unknown := [view for view in views or () if view not in VIEWS]:
            raise InputError(f"EchoNet-Pediatric has the views {', '.join(VIEWS)}, not {unknown[0]!r}; name these.")
        if unknown_folds := [fold for fold in folds or () if fold not in range(10)]:
            raise InputError(f"EchoNet-Pediatric has the folds 0 to 9, not {unknown_folds[0]!r}; name these.")
        self.fps = fps
        self._places = _views(folder, views)
        listed = [
            (entry, place / "Videos" / f"{entry.name.removeprefix(f'{view}_')}.avi")
            for view, place in self._places.items()
            for entry in _read_file_list(place, view)
            if folds is None or entry.fold in folds
        ]
        part = "the views and folds asked for"
        super().__init__(folder, listed, table=_FILE_LIST, part=part, source=SOURCE, skip_missing=skip_missing)

    def __getitem__(self, index: int) -> Study:
        """Read the study with this index. Raises `InputError` where its video is damaged."""
        entry, path = self.entries[index], self.paths[index]
        cine = read_cine(path, fps=self.fps)
        cine = Cine(cine.frames, cine.times_s, view="A4C" if entry.view == "A4C" else None)
        tracing = self.tracing(index)
        beats = () if tracing is None else beat_between(cine, tracing.ed_frame, tracing.es_frame, path.name)
        return Study(None, cine, entry.ef_percent, entry.sex, beats)

    def outlines(self, index: int) -> dict[int, Floats]:
        """Outlines (n, 2) x, y in pixels by traced frame of the video with this index; some videos have one, or none."""
        entry = self.entries[index]
        return self._outlines.get(entry.name, {})

    def tracing(self, index: int) -> Tracing | None:
        """The two traced frames of the video with this index; None where end-diastole or end-systole is not traced."""
        return tracing_of(self.outlines(index))

    @cached_property
    def _outlines(self) -> dict[str, dict[int, Floats]]:
        return {name: found for view, place in self._places.items() for name, found in _read_outlines(place, view).items()}


def _views(folder: Path, views: Collection[str] | None) -> dict[str, Path]:
    """Folder of each named view, or of each view that exists."""
    if (folder / _FILE_LIST).is_file() and folder.name in VIEWS and set(views or ()) <= {folder.name}:
        return {folder.name: folder}
    for place in (folder / nested for nested in _NESTED):
        there = {view: place / view for view in VIEWS if (place / view / _FILE_LIST).is_file()}
        if there:
            return {view: place / view for view in VIEWS if view in (views or there)}
    raise InputError(f"There is no A4C/{_FILE_LIST} in {folder}; name the folder of EchoNet-Pediatric ({SOURCE.where}).")


def _read_file_list(place: Path, view: str) -> list[Entry]:
    entries = []
    for row in read_rows(place / _FILE_LIST, _COLUMNS, SOURCE):
        name, fold, sex = row.text("FileName").removesuffix(".avi"), row.number("Split"), row.text("Sex").lower()[:1]
        if not name or fold not in range(10):
            raise row.error("has no usable FileName or Split (0 to 9)")
        ef, age, weight, height = (row.number_if_any(column) for column in ("EF", "Age", "Weight", "Height"))
        entries.append(Entry(f"{view}_{name}", view, ef, sex if sex in ("m", "f") else None, age, weight, height, int(fold)))
    return entries


def _read_outlines(place: Path, view: str) -> dict[str, dict[int, Floats]]:
    """Outlines of a view by name and frame; a row without a frame number ("No Systolic") stands for a missing outline."""
    found: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for row in read_rows(place / _TRACINGS, ("FileName", "X", "Y", "Frame"), SOURCE):
        try:
            frame = int(float(row.text("Frame")))
        except (ValueError, OverflowError):
            continue
        name = f"{view}_{row.text('FileName').removesuffix('.avi')}"
        found.setdefault(name, {}).setdefault(frame, []).append((row.number("X"), row.number("Y")))
    # An area needs at least three points.
    return {
        name: {frame: np.array(points) for frame, points in traced.items() if len(points) > 2} for name, traced in found.items()
    }
