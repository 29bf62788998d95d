"""MIMIC-IV-ECHO with MIMIC-IV-ECG: echo clips (DICOM) and 12-lead ECGs (WFDB, 10 s at 500 Hz) of the same patients.

ECHO/echo-record-list.csv   subject_id, study_id, acquisition_datetime, dicom_filepath
     files/p10/p10002221/s94106955/94106955_0001.dcm
ECG/record_list.csv         subject_id, study_id, ecg_time, path
    files/p1000/p10002221/s41420867/41420867.hea

The clip and the ECG of a pair show one patient at different moments: they were recorded hours or days apart, and the clocks of
ECG machines are often not set. Therefore a pair is not a `Study`, whose ECG and cine share a clock. All dates are shifted into
the future, by one time for all records of a patient and by another for the next patient: they are compared within a patient only.

Source: https://physionet.org/content/mimic-iv-echo (for credentialed users) and https://physionet.org/content/mimic-iv-ecg.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from echogen.cine.reading import read_cine
from echogen.datasets.physionet import project_folder
from echogen.datasets.tables import Row, Source, read_rows
from echogen.ecg import read_ecg
from echogen.errors import InputError
from echogen.records import VIEWS, Cine, Ecg

#: Names of the two data sets, and the places to get them.
ECHO = Source("MIMIC-IV-ECHO", "the data can be asked for at https://physionet.org/content/mimic-iv-echo")
ECG = Source("MIMIC-IV-ECG", "the data are at https://physionet.org/content/mimic-iv-ecg")
#: Longest time in s between a clip and its ECG unless another is given: one day.
DAY_S = 86_400.0
_ECHO_TABLE, _ECG_TABLE = "echo-record-list.csv", "record_list.csv"
_ECHO_COLUMNS = ("subject_id", "study_id", "acquisition_datetime", "dicom_filepath")
_ECG_COLUMNS = ("subject_id", "study_id", "ecg_time", "path")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PatientPair:
    """An echo clip and an ECG of one patient from different moments: they share no beat.

    cine: Echo clip, on a clock of its own that begins at 0 s.
    ecg: ECG, on a clock of its own that begins at 0 s.
    apart_s: Time from the clip to the ECG in s by the clocks of two machines, negative where the ECG came first.
    subject_id: Number of the patient in both data sets.
    echo_study_id: Number of the study in MIMIC-IV-ECHO.
    ecg_study_id: Number of the study in MIMIC-IV-ECG.
    """

    cine: Cine
    ecg: Ecg
    apart_s: float
    subject_id: str
    echo_study_id: str
    ecg_study_id: str


@dataclass(frozen=True)
class Entry:
    """A clip and the ECG that is nearest in time.

    name: Name of the clip's file without suffix.
    subject_id: Number of the patient in both data sets.
    echo_study_id: Number of the study in MIMIC-IV-ECHO.
    ecg_study_id: Number of the study in MIMIC-IV-ECG.
    apart_s: Time from the clip to the ECG in s, negative where the ECG came first.
    view: "A4C", "A2C" or None if not known.
    clip_path: File of the clip.
    ecg_path: Header file of the ECG.
    """

    name: str
    subject_id: str
    echo_study_id: str
    ecg_study_id: str
    apart_s: float
    view: str | None
    clip_path: Path
    ecg_path: Path


class _Clip(NamedTuple):
    """A clip in the list; its time is None where the date cannot be read."""

    subject_id: str
    study_id: str
    time: datetime | None
    path: Path


@dataclass(frozen=True, order=True)
class _Recorded:
    """An ECG in the list.

    time: Date and time of the recording.
    study_id: Number of the study.
    path: Header file of the ECG.
    """

    time: datetime
    study_id: str
    path: Path


class MimicPairs:
    """Echo clips with the patient's ECG that is nearest in time, in the order of echo-record-list.csv, each read on request.

    folder: Folder of MIMIC-IV-ECHO, or a mirror of physionet.org that holds both data sets.
    ecg_folder: Folder of MIMIC-IV-ECG; None looks beside `folder`.
    within_s: Longest time between a clip and its ECG in s.
    views: CSV with the columns dicom_filepath and view, as a classifier makes it: only its A4C and A2C clips are taken. None
        takes clips of any view: the data set itself names none.
    skip_missing: True leaves out listed files that are missing (their names are in `missing`), and takes the next nearest ECG for
        a missing one; False raises `InputError`.

    `unpaired` names the clips without an ECG in that time or without a readable date.
    Raises `InputError` for a folder, a table or a file that is missing or malformed, and for a clip that is a still picture.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        ecg_folder: str | Path | None = None,
        within_s: float = DAY_S,
        views: str | Path | None = None,
        skip_missing: bool = False,
    ) -> None:
        if not within_s >= 0:
            raise InputError(f"A clip and its ECG can be 0 s or more apart (within_s), not {within_s}.")
        self.folder = project_folder(Path(folder), "mimic-iv-echo", _ECHO_TABLE)
        self.ecg_folder = _ecg_folder(Path(folder) if ecg_folder is None else Path(ecg_folder), self.folder, ecg_folder is None)
        seen = None if views is None else _views(Path(views))
        clips = _clips(self.folder)
        if seen is not None:
            clips = {name: clip for name, clip in clips.items() if name in seen}
        ecgs = _ecgs(self.ecg_folder, {clip.subject_id for clip in clips.values()})
        self.entries: list[Entry] = []
        self.unpaired: list[str] = []
        # Each path is looked for once; missing ones are kept in the order of the list.
        there: dict[Path, bool] = {}
        for name, clip in clips.items():
            near = [] if clip.time is None else _nearest(ecgs.get(clip.subject_id, []), clip.time, within_s)
            if clip.time is None or not near:
                self.unpaired.append(name)
            elif _is_there(clip.path, there):
                ecg = next((one for one in near if _is_there(one.path, there)), None)
                if ecg is not None:
                    view, apart_s = None if seen is None else seen[name], (ecg.time - clip.time).total_seconds()
                    ids = (clip.subject_id, clip.study_id, ecg.study_id)
                    self.entries.append(Entry(name, *ids, apart_s, view, clip.path, ecg.path))
        absent = [path for path, found in there.items() if not found]
        self.missing = [path.stem for path in absent]
        if absent and not skip_missing:
            first = absent[0]
            where = ECG.where if first.suffix == ".hea" else ECHO.where
            raise InputError(
                f"{len(absent)} clips and ECGs that {_ECHO_TABLE} and {_ECG_TABLE} list are not there ({first} is the first); "
                f"get them again ({where}) or leave missing ones out."
            )
        if not self.entries:
            raise InputError(
                f"{self.folder} holds no clip of a patient with an ECG in {self.ecg_folder} within {within_s:g} s of it; "
                f"allow more time (within_s) or get more of the data: {ECHO.where}."
            )

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[PatientPair]:
        return (self[index] for index in range(len(self)))

    @property
    def names(self) -> list[str]:
        """Names of the clips, in order."""
        return [entry.name for entry in self.entries]

    def source(self, index: int) -> Path:
        """Path of the clip with this index."""
        return self.entries[index].clip_path

    def labels(self, index: int) -> dict[str, Any]:
        """Patient and studies of the pair with this index, as plain values."""
        known = asdict(self.entries[index])
        return {key: known[key] for key in ("subject_id", "echo_study_id", "ecg_study_id", "apart_s")}

    def __getitem__(self, index: int) -> PatientPair:
        """Read the pair with this index. Raises `InputError` where a file is damaged, or the clip is a still picture."""
        entry = self.entries[index]
        cine = read_cine(entry.clip_path)
        if len(cine.frames) < 2:
            raise InputError(f"{entry.clip_path.name} is a still picture (a measurement or Doppler trace); leave it out.")
        cine = Cine(cine.frames, cine.times_s - cine.times_s[0], cine.mm_per_pixel, entry.view or cine.view)
        ecg = read_ecg(entry.ecg_path)
        return PatientPair(cine, ecg, entry.apart_s, entry.subject_id, entry.echo_study_id, entry.ecg_study_id)


def _ecg_folder(named: Path, echo_folder: Path, beside: bool) -> Path:
    """Find the folder of record_list.csv."""
    places = [named, echo_folder, *echo_folder.absolute().parents[:2]] if beside else [named]
    for place in places:
        found = project_folder(place, "mimic-iv-ecg", _ECG_TABLE)
        if (found / _ECG_TABLE).is_file():
            return found
    raise InputError(f"There is no {_ECG_TABLE} in or beside {named}; name the folder of {ECG.name} (ecg_folder; {ECG.where}).")


def _views(path: Path) -> dict[str, str]:
    """Read the view of each apical clip, by the name of the clip."""
    if not path.is_file():
        raise InputError(f"There is no file {path}; give a CSV with the columns dicom_filepath and view.")
    views = {}
    for row in read_rows(path, ("dicom_filepath", "view"), Source("the views", "it needs the columns dicom_filepath and view")):
        if row.text("view").upper() in VIEWS:
            views[Path(row.text("dicom_filepath")).stem] = row.text("view").upper()
    return views


def _clips(folder: Path) -> dict[str, _Clip]:
    """Read the clips in the list, by name."""
    clips: dict[str, _Clip] = {}
    for row in read_rows(folder / _ECHO_TABLE, _ECHO_COLUMNS, ECHO):
        path = row.text("dicom_filepath")
        if not path:
            raise row.error("has no dicom_filepath")
        clip = _Clip(row.text("subject_id"), row.text("study_id"), _time(row.text("acquisition_datetime")), folder / path)
        clips.setdefault(clip.path.stem, clip)
    return clips


def _is_there(path: Path, known: dict[Path, bool]) -> bool:
    if path not in known:
        known[path] = path.is_file()
    return known[path]


def _ecgs(folder: Path, subjects: set[str]) -> dict[str, list[_Recorded]]:
    """Read the ECGs of these patients in the order of their times, by patient; those without a readable date are left out."""
    found: dict[str, list[_Recorded]] = {}
    undated = 0
    for row in read_rows(folder / _ECG_TABLE, _ECG_COLUMNS, ECG):
        if row.text("subject_id") in subjects:
            recorded = _recorded(row, folder)
            if recorded is None:
                undated += 1
            else:
                found.setdefault(row.text("subject_id"), []).append(recorded)
    if undated:
        _log.warning("%d ECGs in %s have no readable date and are left out", undated, folder / _ECG_TABLE)
    return {subject: sorted(ecgs) for subject, ecgs in found.items()}


def _recorded(row: Row, folder: Path) -> _Recorded | None:
    time, path = _time(row.text("ecg_time")), row.text("path").removesuffix(".hea")
    return _Recorded(time, row.text("study_id"), folder / f"{path}.hea") if time is not None and path else None


def _time(text: str) -> datetime | None:
    """Date and time in a cell of the tables; None where the cell holds none."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:
        return None


def _nearest(ecgs: list[_Recorded], time: datetime, within_s: float) -> list[_Recorded]:
    """ECGs at most `within_s` seconds away from a time, the nearest first."""
    times = [ecg.time for ecg in ecgs]
    low = high = bisect_left(times, time)
    while low and (time - times[low - 1]).total_seconds() <= within_s:
        low -= 1
    while high < len(ecgs) and (times[high] - time).total_seconds() <= within_s:
        high += 1
    return sorted(ecgs[low:high], key=lambda ecg: abs((ecg.time - time).total_seconds()))
