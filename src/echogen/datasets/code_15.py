"""CODE-15%: 345,779 12-lead ECGs of 7 or 10 s from Minas Gerais with six diagnoses and follow-up.

FOLDER/exams.csv            exam_id, age, is_male, 1dAVb, RBBB, LBBB, SB, ST, AF, patient_id, normal_ecg, death, timey, trace_file
       exams_partN.hdf5     unpacked, N = 0..17; also in a folder exams_partN or raw: exam_id, tracings (exams, 4096, 12)
The exams of a part are in no order and end with an empty row (id 0); shorter ECGs lie between zeros, which are cut off. death and
timey are filled in for the first exam of a patient only.

Source: Ribeiro et al., https://zenodo.org/records/4916206, CC BY 4.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from echogen.datasets.table_loader import TableEntry, TableRecords
from echogen.datasets.tables import Row, Source, read_rows
from echogen.ecg import read_ecg
from echogen.ecg.hdf5 import numbers, opened
from echogen.errors import InputError
from echogen.records import Ecg

#: Name of the data set, and the place to get it.
SOURCE = Source("CODE-15%", "the data are at https://zenodo.org/records/4916206")
#: Columns of the diagnoses: first-degree AV block, right and left bundle branch block, sinus bradycardia, sinus tachycardia,
#: atrial fibrillation.
DIAGNOSES = ("1dAVb", "RBBB", "LBBB", "SB", "ST", "AF")
_TABLE = "exams.csv"
_COLUMNS = ("exam_id", "age", "is_male", *DIAGNOSES, "patient_id", "trace_file")
_TRUTHS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


@dataclass(frozen=True)
class Entry(TableEntry):
    """A row of exams.csv.

    name: Id of the exam.
    patient_id: Id of the patient, who may have several exams: split by it.
    age_years: Age in years.
    sex: "m", "f" or None if not stated.
    diagnoses: Diagnoses of this ECG, some of `DIAGNOSES`.
    normal: True for a normal ECG; None if not stated.
    died: True if the patient died in the time of follow-up; stated for a patient's first exam only, else None.
    follow_up_years: Years of follow-up, or until death; stated for a patient's first exam only, else None.
    """

    patient_id: int
    age_years: float
    sex: str | None
    diagnoses: tuple[str, ...]
    normal: bool | None
    died: bool | None
    follow_up_years: float | None


class Code15(TableRecords[Entry, Ecg]):
    """ECGs of CODE-15% (12 leads in mV at 400 Hz), in the order of exams.csv; an ECG is read when it is asked for.

    folder: Folder of exams.csv and the parts.
    skip_missing: True leaves out listed exams that are in no part (their names are in `missing`); False raises `InputError`.

    `entries` holds the row of the table about each ECG.
    Raises `InputError` for a folder, a table or a part that is
    missing or malformed, an exam of zeros only, or where h5py is not installed.
    """

    def __init__(self, folder: str | Path, *, skip_missing: bool = False) -> None:
        self.folder = Path(folder)
        listed = [(_entry(row), row.text("trace_file")) for row in read_rows(self.folder / _TABLE, _COLUMNS, SOURCE)]
        parts = {name: _place(self.folder, name) for name in sorted({part for _, part in listed})}
        holds = {exam: path for path in parts.values() if path is not None for exam in _exams_in(path)}
        lost = [(entry, part) for entry, part in listed if entry.name not in holds]
        self.missing = [entry.name for entry, _ in lost]
        if lost and not skip_missing:
            exam, part = lost[0][0].name, lost[0][1]
            archive = f"{Path(part).stem}.zip"
            packed = f"unpack {archive}" if (self.folder / archive).is_file() else f"get it again ({SOURCE.where})"
            what = f"{part} is not in {self.folder}" if parts[part] is None else f"exam {exam} is not in {parts[part]}"
            raise InputError(
                f"{len(lost)} of the {len(listed)} exams that {_TABLE} lists are not there: {what}, for a start; "
                f"{packed} or leave missing ones out."
            )
        self.entries = [entry for entry, _ in listed if entry.name in holds]
        if not self.entries:
            raise InputError(f"{self.folder} holds none of the exams that {_TABLE} lists; {SOURCE.where}.")
        self._paths = [holds[entry.name] for entry in self.entries]

    def __getitem__(self, index: int) -> Ecg:
        """Read the ECG with this index, without the zeros around it. Raises `InputError` for a damaged part or only zeros."""
        return read_ecg(self._paths[index], record=self.entries[index].name)


def _place(folder: Path, part: str) -> Path | None:
    """Path of a part; None where it is missing."""
    name = Path(part).name
    paths = (folder / name, folder / Path(name).stem / name, folder / "raw" / name)
    return next((path for path in paths if name and path.is_file()), None)


def _exams_in(path: Path) -> list[str]:
    """Ids of the exams in a part."""
    where = f"The HDF5 file {path.name}"
    with opened(path, where) as file:
        ids = numbers(file, "exam_id", where)
        if ids is None or ids.ndim != 1:
            raise InputError(f"{where} holds no list of exam_id as CODE-15% does; get it again ({SOURCE.where}).")
        return [str(int(one)) for one in ids[:] if one]


def _entry(row: Row) -> Entry:
    male = _truth(row, "is_male")
    return Entry(
        name=str(int(row.number("exam_id"))),
        patient_id=int(row.number("patient_id")),
        age_years=row.number("age"),
        sex=None if male is None else "m" if male else "f",
        diagnoses=tuple(name for name in DIAGNOSES if _truth(row, name)),
        normal=_truth(row, "normal_ecg"),
        died=_truth(row, "death"),
        follow_up_years=row.number_if_any("timey"),
    )


def _truth(row: Row, column: str) -> bool | None:
    """Truth value in a cell; None where the cell is empty."""
    text = row.text(column).lower()
    if text and text != "nan" and text not in _TRUTHS:
        raise row.error(f"has neither True nor False for {column}")
    return _TRUTHS.get(text)
