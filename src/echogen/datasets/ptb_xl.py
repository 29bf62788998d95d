"""PTB-XL: 21,799 clinical 12-lead ECGs of 10 s with the statements of cardiologists, in ten folds of whole patients.

FOLDER/ptbxl_database.csv   ecg_id, patient_id, age, sex (0: male, 1: female), report, scp_codes, strat_fold, filename_lr,
                            filename_hr
       scp_statements.csv   a statement's code in the first column; diagnostic_class where it is diagnostic
       records100/, records500/   WFDB at 100 and 500 Hz, such as records500/00000/00001_hr.hea
A mirror of physionet.org is searched, too. An age above 89 years is stored as 300. Numbers of the 38 records that were withdrawn
since version 1.0.1 are skipped.

Source: Wagner et al., Scientific Data 7, 2020; https://physionet.org/content/ptb-xl, CC BY 4.0.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from echogen.datasets.physionet import project_folder
from echogen.datasets.table_loader import TableEntry, TableRecords
from echogen.datasets.tables import Row, Source, read_rows
from echogen.ecg import read_ecg
from echogen.errors import InputError
from echogen.records import Ecg

#: Name of the data set, and the place to get it.
SOURCE = Source("PTB-XL", "the data are at https://physionet.org/content/ptb-xl")
#: Folds of each split, as the authors recommend; a person has read all ECGs of the last two folds.
SPLITS: dict[str, tuple[int, ...]] = {"TRAIN": (1, 2, 3, 4, 5, 6, 7, 8), "VAL": (9,), "TEST": (10,)}
#: Column with the file name at each sampling rate in Hz.
RATES_HZ = {500: "filename_hr", 100: "filename_lr"}
#: Age in years that stands for all ages above 89, which the data set hides.
OLDEST_YEARS = 90.0
_TABLE, _STATEMENTS = "ptbxl_database.csv", "scp_statements.csv"
_COLUMNS = ("ecg_id", "patient_id", "age", "sex", "scp_codes", "strat_fold", "filename_lr", "filename_hr")
#: Age in years above which a number is the code (300) for a hidden age.
_MOST_YEARS = 120.0


@dataclass(frozen=True)
class Entry(TableEntry):
    """A row of the table.

    name: Number of the ECG, five digits.
    patient_id: Number of the patient; None if not stated.
    age_years: Age in years; 90 stands for 90 and above; None if not stated.
    sex: "m", "f" or None if not stated.
    statements: Likelihood in % of each SCP code, 0 where none was given.
    classes: Diagnostic classes of these codes (NORM, MI, STTC, CD, HYP); empty without scp_statements.csv.
    report: Text of the report, mostly German.
    fold: Fold, 1..10.
    """

    patient_id: int | None
    age_years: float | None
    sex: str | None
    statements: Mapping[str, float]
    classes: tuple[str, ...]
    report: str
    fold: int


class PtbXl(TableRecords[Entry, Ecg]):
    """ECGs of PTB-XL (12 leads in mV), in the order of its table; an ECG is read when it is asked for.

    folder: Folder of ptbxl_database.csv.
    split: "TRAIN" (folds 1 to 8), "VAL" (9), "TEST" (10) or None for all.
    rate_hz: Sampling rate in Hz, 500 or 100.
    skip_missing: True leaves out listed ECGs that are missing (their names are in `missing`); False raises `InputError`.

    `entries` holds the row of the table about each ECG.
    Raises `InputError` for a folder, a table or a record that is missing or malformed.
    """

    def __init__(self, folder: str | Path, split: str | None = None, *, rate_hz: int = 500, skip_missing: bool = False) -> None:
        self.folder = project_folder(Path(folder), "ptb-xl", _TABLE)
        if split is not None and split.upper() not in SPLITS:
            raise InputError(f"PTB-XL has the splits {', '.join(SPLITS)}, not {split!r}; name one of these.")
        if rate_hz not in RATES_HZ:
            raise InputError(f"PTB-XL is there at 500 and 100 Hz, not at {rate_hz} Hz; name one of these.")
        classes = _diagnostic_classes(self.folder)
        rows = read_rows(self.folder / _TABLE, _COLUMNS, SOURCE)
        listed = [(_entry(row, classes), self.folder / f"{row.text(RATES_HZ[rate_hz])}.hea") for row in rows]
        wanted = [(entry, path) for entry, path in listed if split is None or entry.fold in SPLITS[split.upper()]]
        there = [(entry, path) for entry, path in wanted if path.is_file()]
        kept = {path for _, path in there}
        lost = [(entry, path) for entry, path in wanted if path not in kept]
        self.missing = [entry.name for entry, _ in lost]
        if lost and not skip_missing:
            other = 600 - rate_hz
            hint = f"; the ECGs at {other} Hz are there (rate_hz={other})" if (self.folder / f"records{other}").is_dir() else ""
            raise InputError(
                f"{len(lost)} of the {len(wanted)} ECGs that {_TABLE} lists are not in {self.folder} "
                f"({lost[0][1].relative_to(self.folder)} is the first{hint}); "
                f"get them again ({SOURCE.where}) or leave missing ones out."
            )
        if not there:
            raise InputError(f"{self.folder} holds no ECG of the split {split or 'asked for'}; {SOURCE.where}.")
        self.entries = [entry for entry, _ in there]
        self._paths = [path for _, path in there]

    def __getitem__(self, index: int) -> Ecg:
        """Read the ECG with this index. Raises `InputError` where its record is damaged."""
        return read_ecg(self._paths[index])


def _diagnostic_classes(folder: Path) -> dict[str, str]:
    """Diagnostic class of each SCP code that has one."""
    path = folder / _STATEMENTS
    if not path.is_file():
        return {}
    rows = read_rows(path, ("", "diagnostic_class"), SOURCE)
    return {row.text(""): row.text("diagnostic_class") for row in rows if row.text("diagnostic_class")}


def _entry(row: Row, classes: Mapping[str, str]) -> Entry:
    statements = _statements(row)
    age, patient, sex, fold = (
        row.number_if_any("age"),
        row.number_if_any("patient_id"),
        row.number_if_any("sex"),
        row.number("strat_fold"),
    )
    if fold not in range(1, 11) or not row.text("filename_hr") or not row.text("filename_lr"):
        raise row.error("has no usable strat_fold, filename_hr or filename_lr")
    return Entry(
        name=f"{int(row.number('ecg_id')):05d}",
        patient_id=None if patient is None else int(patient),
        age_years=OLDEST_YEARS if age is not None and age > _MOST_YEARS else age,
        sex=None if sex is None else {0.0: "m", 1.0: "f"}.get(sex),
        statements=statements,
        classes=tuple(sorted({classes[code] for code in statements if code in classes})),
        report=row.text("report"),
        fold=int(fold),
    )


def _statements(row: Row) -> dict[str, float]:
    """Likelihood in % of each SCP code of a row; the cell is written as a Python dictionary."""
    try:
        return {str(code): float(likelihood) for code, likelihood in ast.literal_eval(row.text("scp_codes")).items()}
    except (ValueError, SyntaxError, TypeError, AttributeError, MemoryError, RecursionError) as error:
        raise row.error("has no readable scp_codes") from error
