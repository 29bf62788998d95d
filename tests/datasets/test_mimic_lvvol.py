"""MIMIC-IV-Echo-Ext-LVVol-A4C on fake copies: volumes of one and two planes, clips elsewhere, a sentence for every fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

import echogen
from echogen import InputError
from echogen.datasets.mimic_lvvol import MimicLvVolumes, Volumes
from echogen.records import Cine

HEADER = "patient_id,parent_dicom_path,study_id,frame_rate,LVEDV_A4C,LVESV_A4C,LVEF_A4C,LVEDV_BP,LVESV_BP,LVEF_BP"
PARENT = "files/p10/p10000001/s{0}/{0}_0001.dcm"
ROWS = f"""
10000001,{PARENT.format(90000001)},90000001,30,120,48,60,118,47,60.2
10000001,{PARENT.format(90000002)},90000002,25.0,100,45,,,,
10000002,{PARENT.format(90000003)},90000003,,90,,,,,
10000001,{PARENT.format(90000001)},90000001,30,121,50,58.7,,,
""".strip()


def clip(path: Path, *, rate: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.random.default_rng(0).integers(0, 200, (5, 60, 80)).astype(np.uint8)
    echogen.write(Cine(frames, np.arange(5) / 40.0, 0.4), path)
    if not rate:
        dataset = pydicom.dcmread(path)
        for keyword in ("FrameTime", "FrameTimeVector", "CineRate", "RecommendedDisplayFrameRate", "ActualFrameDuration"):
            if keyword in dataset:
                del dataset[keyword]
        dataset.save_as(path)


def make(folder: Path, rows: str = ROWS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "FileList.csv").write_text(f"{HEADER}\n{rows}\n")
    clip(folder / "dicom" / "90000001.dcm")
    clip(folder / "dicom" / "90000002.dcm", rate=False)
    clip(folder / "dicom" / "90000003.dcm", rate=False)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("data") / "physionet.org/files/mimic-iv-echo-ext-lvvol-a4c/1.0.0").parents[3]


def test_a_study_holds_what_was_measured(folder: Path) -> None:
    data = MimicLvVolumes(folder)  # found in the mirror
    assert data.names == ["90000001", "90000002", "90000003"]
    study, entry = data[0], data.entries[0]
    assert study.cine.frames.shape == (5, 60, 80)
    assert (study.ecg, study.ef_percent, study.beats, study.cine.view) == (None, 60.0, (), "A4C")
    assert study.cine.mm_per_pixel == pytest.approx(0.4)
    assert study.cine.fps == pytest.approx(40.0)  # the clip's own rate, not the table's rounded one
    assert (entry.patient, entry.one_plane, entry.two_planes) == ("10000001", Volumes(120, 48, 60), Volumes(118, 47, 60.2))
    assert data.labels(0)["two_planes"] == {"edv_ml": 118.0, "esv_ml": 47.0, "ef_percent": 60.2}


def test_what_the_table_leaves_open(folder: Path) -> None:
    data = MimicLvVolumes(folder)
    assert data[1].ef_percent == pytest.approx(55.0)  # from its volumes
    assert data.entries[1].two_planes == Volumes(None, None, None)
    assert data.entries[2].one_plane == Volumes(90, None, None)
    assert data[1].cine.fps == pytest.approx(25.0)  # the table's rate, as the clip states none
    with pytest.raises(InputError, match=r"90000003\.dcm does not say how fast"):
        data[2]


def test_clips_may_lie_in_the_other_data_set(tmp_path: Path) -> None:
    place, echo = make(tmp_path / "volumes"), tmp_path / "echo"
    (place / "dicom" / "90000002.dcm").unlink()
    with pytest.raises(InputError, match=r"1 of the 3 videos .*90000002\.dcm is the first.*physionet"):
        MimicLvVolumes(place)
    assert MimicLvVolumes(place, skip_missing=True).missing == ["90000002"]
    clip(echo / PARENT.format(90000002))
    data = MimicLvVolumes(place, echo_folder=echo)
    assert data.source(1) == echo / PARENT.format(90000002)
    assert len(data[1].cine.frames) == 5


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no FileList\.csv in .*physionet"):
        MimicLvVolumes(tmp_path)
    place = make(tmp_path)
    (place / "dicom" / "90000001.dcm").write_bytes((place / "dicom" / "90000001.dcm").read_bytes()[:3000])
    with pytest.raises(InputError, match=r"90000001\.dcm"):
        MimicLvVolumes(place)[0]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("LVEF_A4C", "EF", "lacks the column LVEF_A4C"),
        (",120,48", ",large,48", "Line 2 of .* no number for LVEDV_A4C"),
        (",90000001,30", ",s90000001,30", "Line 2 of .* study_id"),
    ],
)
def test_malformed_tables_are_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = f"{HEADER}\n{ROWS}\n"
    assert old in text
    (tmp_path / "FileList.csv").write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=words):
        MimicLvVolumes(tmp_path)
