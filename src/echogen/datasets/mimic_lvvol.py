"""MIMIC-IV-Echo-Ext-LVVol-A4C: four-chamber clips of MIMIC-IV-ECHO with measured left ventricular volumes.

FOLDER/FileList.csv          study_id, LVEDV_A4C, LVESV_A4C, LVEF_A4C (one plane), LVEDV_BP, LVESV_BP, LVEF_BP (two planes, at
                             times empty), frame_rate, parent_dicom_path (in MIMIC-IV-ECHO)
       dicom/STUDY_ID.dcm
A mirror of physionet.org is searched, too (FOLDER/physionet.org/files/mimic-iv-echo-ext-lvvol-a4c/1.0.0). The folders masks/ and
npz/ are not complete in version 1.0.0 and not read.

Source: https://doi.org/10.13026/4frm-we74, for credentialed users of PhysioNet.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from echogen.cine.reading import read_cine
from echogen.datasets.table_loader import TableEntry, TableVideos
from echogen.datasets.tables import Row, Source, read_rows
from echogen.errors import InputError
from echogen.records import Cine, Study

#: Name of the data set, and the place to ask for it.
SOURCE = Source(
    "MIMIC-IV-Echo-Ext-LVVol-A4C", "the data can be asked for at https://physionet.org/content/mimic-iv-echo-ext-lvvol-a4c"
)
_TABLE = "FileList.csv"
_COLUMNS = ("study_id", "LVEDV_A4C", "LVESV_A4C", "LVEF_A4C")
#: Folder of the data set in a mirror of physionet.org.
_MIRROR = Path("physionet.org/files/mimic-iv-echo-ext-lvvol-a4c")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Volumes:
    """Measured volumes; a value that was not measured is None.

    edv_ml: End-diastolic volume in ml.
    esv_ml: End-systolic volume in ml.
    ef_percent: Ejection fraction in %.
    """

    edv_ml: float | None
    esv_ml: float | None
    ef_percent: float | None


@dataclass(frozen=True)
class Entry(TableEntry):
    """A row of FileList.csv.

    name: Id of the study.
    patient: Id of the patient; None if not stated.
    parent: Path of the clip in MIMIC-IV-ECHO.
    one_plane: Volumes measured in this clip.
    two_planes: Volumes measured in this clip and a two-chamber clip, which the data set does not hold.
    fps: Frames per second; None if not stated.
    """

    patient: str | None
    parent: str
    one_plane: Volumes
    two_planes: Volumes
    fps: float | None


class MimicLvVolumes(TableVideos[Entry]):
    """Clips of MIMIC-IV-Echo-Ext-LVVol-A4C as studies, in the order of FileList.csv; a clip is read when it is asked for.

    folder: Folder of FileList.csv and dicom.
    echo_folder: Folder of MIMIC-IV-ECHO, which is searched for clips that are not in dicom; None for none.
    skip_missing: True leaves out listed clips that are missing (their names are in `missing`); False raises `InputError`.

    The EF of a study is that of one plane, as its clip has one view; the volumes are in `entries`, as their frames are not known.
    The picture is that of the machine, with the text beside the sector. The first row of a study that is listed twice counts.
    Raises `InputError` for a folder, a table or a clip that is missing or malformed.
    """

    def __init__(self, folder: str | Path, *, echo_folder: str | Path | None = None, skip_missing: bool = False) -> None:
        folder = _place(Path(folder))
        echo = None if echo_folder is None else Path(echo_folder)
        listed = []
        for entry in _read_entries(folder):
            own = folder / "dicom" / f"{entry.name}.dcm"
            other = None if echo is None or not entry.parent else echo / entry.parent
            listed.append((entry, other if other is not None and other.is_file() and not own.is_file() else own))
        super().__init__(folder, listed, table=_TABLE, part="the data set", source=SOURCE, skip_missing=skip_missing)

    def __getitem__(self, index: int) -> Study:
        """Read the study with this index. Raises `InputError` where its clip is damaged."""
        entry, path = self.entries[index], self.paths[index]
        try:
            cine = read_cine(path)
        except InputError:
            if entry.fps is None:
                raise
            # A clip may lack its rate; a damaged one raises again here.
            cine = read_cine(path, fps=entry.fps)
        return Study(None, Cine(cine.frames, cine.times_s, cine.mm_per_pixel, "A4C"), ef_percent=entry.one_plane.ef_percent)


def _place(folder: Path) -> Path:
    """Find the folder of FileList.csv: the folder given, or the newest version in a mirror of physionet.org."""
    versions = sorted((folder / _MIRROR).glob(f"*/{_TABLE}"))
    return versions[-1].parent if versions and not (folder / _TABLE).is_file() else folder


def _read_entries(folder: Path) -> list[Entry]:
    entries: dict[str, Entry] = {}
    for row in read_rows(folder / _TABLE, _COLUMNS, SOURCE):
        name = row.text("study_id").removesuffix(".0")
        if not name.isdigit():
            raise row.error("has no usable study_id")
        if name in entries:
            _log.warning("line %d of %s lists study %s again; the first row counts", row.line, row.path, name)
            continue
        fps = row.number_if_any("frame_rate")
        one, two = _volumes(row, "A4C"), _volumes(row, "BP")
        parent = row.text("parent_dicom_path").replace("\\", "/").lstrip("/")
        entries[name] = Entry(name, row.text("patient_id") or None, parent, one, two, fps if fps and fps > 0 else None)
    return list(entries.values())


def _volumes(row: Row, plane: str) -> Volumes:
    """Volumes of a row; an empty cell of the EF is filled from the volumes."""
    edv, esv, ef = (row.number_if_any(f"{name}_{plane}") for name in ("LVEDV", "LVESV", "LVEF"))
    if ef is None and edv and esv is not None:
        ef = 100.0 * (edv - esv) / edv
    return Volumes(edv, esv, ef)
