"""MIMIC-IV-ECHO with MIMIC-IV-ECG on fake copies: pairs in time and never in beat, and one sentence for every fault."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
import wfdb

from echogen import InputError, write
from echogen.datasets.mimic_pairs import MimicPairs, PatientPair
from echogen.datasets.registry import open_dataset, recognise
from echogen.ecg.leads import STANDARD_LEADS
from echogen.records import Cine, Study

ECHO_HEADER = ("subject_id", "study_id", "acquisition_datetime", "dicom_filepath")
ECG_HEADER = ("subject_id", "study_id", "file_name", "ecg_time", "path")


@dataclass(frozen=True)
class Clip:
    subject: int
    study: int
    number: int
    time: str
    frames: int = 4
    there: bool = True
    view_code: str = ""

    @property
    def path(self):
        return f"files/p10/p{self.subject}/s{self.study}/{self.study}_{self.number:04d}.dcm"


@dataclass(frozen=True)
class Recorded:
    subject: int
    study: int
    time: str
    there: bool = True
    gap: slice | None = None
    dead_lead: int | None = None

    @property
    def path(self):
        return f"files/p{self.subject // 10000}/p{self.subject}/s{self.study}/{self.study}"


def write_ecg(path: Path, ecg: Recorded) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(5000) / 500
    values = np.exp(-0.5 * (((times % 0.8) - 0.3) / 0.02) ** 2)[:, None] * np.linspace(0.4, 1.5, 12)
    if ecg.gap is not None:
        values[ecg.gap, 3] = np.nan
    if ecg.dead_lead is not None:
        values[:, ecg.dead_lead] = np.nan
    how = {"fs": 500, "units": ["mV"] * 12, "sig_name": list(STANDARD_LEADS), "fmt": ["16"] * 12, "write_dir": str(path.parent)}
    how |= {"adc_gain": [1000.0] * 12, "baseline": [0] * 12}
    wfdb.wrsamp(path.name, p_signal=values, **how)


def make_mimic(folder: Path, clips: list[Clip], ecgs: list[Recorded]) -> tuple[Path, Path]:
    """FOLDER/mimic-iv-echo/1.0 and FOLDER/mimic-iv-ecg/1.0, as a mirror of physionet.org/files has them."""
    echo, ecg = folder / "mimic-iv-echo" / "1.0", folder / "mimic-iv-ecg" / "1.0"
    for place in (echo, ecg):
        place.mkdir(parents=True)
    with (echo / "echo-record-list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([ECHO_HEADER, *((c.subject, c.study, c.time, c.path) for c in clips)])
    with (ecg / "record_list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([ECG_HEADER, *((e.subject, e.study, e.study, e.time, e.path) for e in ecgs)])
    for clip in clips:
        if clip.there:
            (echo / clip.path).parent.mkdir(parents=True, exist_ok=True)
            rows, columns = np.indices((40, 50))
            frames = np.stack([rows + 2 * columns + k for k in range(clip.frames)]).astype(np.uint8)
            write(Cine(frames, np.arange(clip.frames) / 30.0, 0.4), echo / clip.path)
    for one in ecgs:
        if one.there:
            write_ecg(ecg / one.path, one)
    return echo, ecg


CLIPS = [
    Clip(10002221, 94106955, 1, "2204-10-09 08:00:00"),
    Clip(10002221, 94106955, 2, "2204-10-09 08:03:00", frames=1),
    Clip(10002221, 90000001, 1, "2199-01-01 12:00:00"),
    Clip(10005866, 91111111, 1, "2149-03-01T10:00:00.5"),
    Clip(10009999, 92222222, 1, "2149-03-01 10:00:00"),
    Clip(10005866, 91111111, 2, "not dated"),
]
ECGS = [
    Recorded(10002221, 41420867, "2204-10-08 20:00:00"),
    Recorded(10002221, 41420868, "2204-10-09 09:30:00"),
    Recorded(10002221, 41420869, "2204-10-11 09:30:00"),
    # The same moment in another patient's calendar: it is no neighbour of anything.
    Recorded(10007777, 49999999, "2204-10-09 08:00:01"),
    Recorded(10005866, 43333333, "2149-03-01 09:00:00", dead_lead=7),
    Recorded(10005866, 43333334, ""),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_mimic(tmp_path_factory.mktemp("data"), CLIPS, ECGS)


def test_clips_go_with_the_nearest_ecg_of_their_patient(folders):
    data = MimicPairs(folders[0])
    assert data.names == ["94106955_0001", "94106955_0002", "91111111_0001"]
    assert [entry.ecg_study_id for entry in data.entries] == ["41420868", "41420868", "43333333"]
    assert [entry.apart_s for entry in data.entries] == [5400.0, 5220.0, -3600.5]
    # Five years away, without an ECG, without a date.
    assert data.unpaired == ["90000001_0001", "92222222_0001", "91111111_0002"]
    assert data.missing == []


def test_a_pair_claims_no_common_clock(folders):
    pair = MimicPairs(folders[0])[0]
    assert isinstance(pair, PatientPair)
    assert not isinstance(pair, Study)
    assert (pair.subject_id, pair.echo_study_id, pair.ecg_study_id) == ("10002221", "94106955", "41420868")
    assert pair.apart_s == 5400.0
    assert pair.cine.times_s[0] == pair.ecg.start_s == 0.0
    assert pair.cine.fps == pytest.approx(30.0, rel=0.02)
    assert pair.cine.mm_per_pixel == pytest.approx(0.4)
    assert pair.cine.view is None
    assert (pair.ecg.rate_hz, pair.ecg.duration_s, pair.ecg.lead_names) == (500.0, 10.0, STANDARD_LEADS)


def test_the_tolerance_is_the_users(folders):
    assert MimicPairs(folders[0], within_s=4000).names == ["91111111_0001"]
    assert len(MimicPairs(folders[0], within_s=86_400 * 365 * 10)) == 4
    with pytest.raises(InputError, match=r"no clip of a patient with an ECG .* within 60 s of it; allow more time"):
        MimicPairs(folders[0], within_s=60)
    with pytest.raises(InputError, match="can be 0 s or more apart"):
        MimicPairs(folders[0], within_s=float("nan"))


def test_stills_and_dead_leads_are_met_when_read(folders):
    data = MimicPairs(folders[0])
    with pytest.raises(InputError, match=r"94106955_0002\.dcm is a still picture"):
        data[1]
    assert data[2].ecg.lead_names == tuple(lead for lead in STANDARD_LEADS if lead != "V2")


def test_only_apical_clips_are_taken_where_the_views_are_known(folders, tmp_path):
    views = tmp_path / "views.csv"
    views.write_text(f"dicom_filepath,view\n{CLIPS[0].path},A2C\n{CLIPS[1].path},PLAX\n91111111_0001.dcm,a4c\n")
    data = MimicPairs(folders[0], views=views)
    assert data.names == ["94106955_0001", "91111111_0001"]
    assert [pair.cine.view for pair in data] == ["A2C", "A4C"]
    with pytest.raises(InputError, match="There is no file"):
        MimicPairs(folders[0], views=tmp_path / "none.csv")
    views.write_text("path,label\n")
    with pytest.raises(InputError, match="lacks the column dicom_filepath, view"):
        MimicPairs(folders[0], views=views)


def test_a_view_that_the_file_states_is_kept(tmp_path):
    echo, _ = make_mimic(tmp_path, CLIPS[:1], ECGS[:2])
    dataset = pydicom.dcmread(echo / CLIPS[0].path)
    code = pydicom.Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "399214001", "SCT", "Apical four chamber"
    dataset.ViewCodeSequence = [code]
    dataset.save_as(echo / CLIPS[0].path)
    assert MimicPairs(echo)[0].cine.view == "A4C"


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no echo-record-list\.csv .*MIMIC-IV-ECHO.*asked for at"):
        MimicPairs(tmp_path, ecg_folder=make_mimic(tmp_path / "only_ecg", [], [])[1])
    clips = [CLIPS[0], Clip(10002221, 94106955, 3, "2204-10-09 08:05:00", there=False)]
    ecgs = [ECGS[0], Recorded(10002221, 41420868, "2204-10-09 09:30:00", there=False)]
    echo, ecg = make_mimic(tmp_path / "x", clips, ecgs)
    with pytest.raises(InputError, match=r"2 clips and ECGs .* are not there \(.*41420868\.hea is the first\); .*mimic-iv-ecg"):
        MimicPairs(echo)
    data = MimicPairs(echo, skip_missing=True)
    assert (data.names, data.missing) == (["94106955_0001"], ["41420868", "94106955_0003"])
    assert data.entries[0].ecg_study_id == "41420867"  # the next nearest
    shutil.move(ecg, tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"no record_list\.csv in or beside .*ecg_folder"):
        MimicPairs(echo)
    assert len(MimicPairs(echo, ecg_folder=tmp_path / "elsewhere", skip_missing=True)) == 1


def test_damaged_files_are_named(tmp_path):
    echo, ecg = make_mimic(tmp_path, CLIPS[:1], [Recorded(10002221, 41420867, "2204-10-08 20:00:00", gap=slice(1000, 1400))])
    with pytest.raises(InputError, match="Lead aVR has no values"):
        MimicPairs(echo)[0]
    (ecg / f"{ECGS[0].path}.dat").write_bytes(b"short")
    with pytest.raises(InputError, match="cut short or damaged"):
        MimicPairs(echo)[0]
    (echo / CLIPS[0].path).write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(InputError, match=r"94106955_0001\.dcm"):
        MimicPairs(echo)[0]
    (echo / "echo-record-list.csv").write_text(",".join(ECHO_HEADER) + "\n1,2,2204-10-08 20:00:00,\n")
    with pytest.raises(InputError, match=r"Line 2 of .* has no dicom_filepath"):
        MimicPairs(echo)


def test_a_mirror_of_physionet_and_the_registry_know_it(folders, tmp_path):
    shutil.copytree(folders[0].parents[1], tmp_path / "physionet.org" / "files")
    assert len(MimicPairs(tmp_path)) == 3
    assert recognise(folders[0]) == "mimic-pairs"
    data = open_dataset("mimic-pairs", folders[0], ecg_folder=folders[1])
    assert json.loads(json.dumps(data.labels(2)))["apart_s"] == -3600.5
    assert data.source(2) == folders[0] / CLIPS[3].path
