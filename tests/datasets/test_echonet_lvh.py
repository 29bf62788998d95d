"""EchoNet-LVH on fake copies: measurements, the pixels' size, times, and one sentence for every fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from echogen import InputError
from echogen.datasets.echonet_lvh import EchoNetLvh
from echogen.testing import data_sets as fakes

HEADER = ",HashedFileName,Calc,CalcValue,Frame,X1,X2,Y1,Y2,Frames,FPS,Width,Height,split"
ROWS = """
0,0XA,IVSd,1.0,2,100,100,50,70,12,50.5,160,120,train
1,0XA,LVIDd,4.6,2,100,128,70,166,12,50.5,160,120,train
2,0XA,LVPWd,1.1,2,100,100,160,182,12,50.5,160,120,train
3,0XA,LVIDs,3.0,8,100,118,70,130,12,50.5,160,120,train
4,0xb,LVIDd,5.0,1,10,10,20,120,12,,160,120,VAL
5,0xb,LVPWd,1.0,1,10,10,20,60,12,,160,120,VAL
6,0XC,LVIDs,3.0,1,10,10,20,80,12,30,160,120,test
7,0XC,LVIDd,5.0,4,10,10,20,120,12,30,160,120,test
8,0XC,IVSd,,4,10,10,20,120,12,30,160,120,test
""".strip()


def make(folder: Path, rows: str = ROWS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "MeasurementsList.csv").write_text(f"{HEADER}\n{rows}\n")
    frames = np.random.default_rng(0).integers(0, 40, (12, 120, 160)).astype(np.uint8)
    for batch, name in (("Batch1", "0XA"), ("Batch4", "0XB"), ("Batch2", "0XC")):
        (folder / batch).mkdir(exist_ok=True)
        fakes.write_avi(folder / batch / f"{name}.avi", frames, rate=25)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("data") / "EchoNet-LVH")


def test_a_study_holds_what_was_measured(folder: Path) -> None:
    data = EchoNetLvh(folder)
    assert data.names == ["0XA", "0xb", "0XC"]
    study, entry = data[0], data.entries[0]
    assert study.cine.frames.shape == (12, 120, 160)
    assert (study.ecg, study.ef_percent, study.cine.view) == (None, None, None)
    assert study.cine.fps == pytest.approx(50.5)  # the table's rate, not the container's 25
    assert [one.what for one in entry.measurements] == ["IVSd", "LVIDd", "LVPWd", "LVIDs"]
    assert entry.measurements[1].line == (100, 70, 128, 166)  # the table has X1, X2, Y1, Y2
    assert entry.measurements[1].length_px == pytest.approx(100.0)
    assert study.cine.mm_per_pixel == pytest.approx(0.5, rel=0.1)
    (beat,) = study.beats
    assert (beat.ed_s, beat.es_s) == pytest.approx((2 / 50.5, 8 / 50.5))
    assert data.labels(0)["measurements"][0]["value_cm"] == 1.0


def test_names_splits_and_folders_in_either_case(folder: Path) -> None:
    assert EchoNetLvh(folder, "val").source(0) == folder / "Batch4" / "0XB.avi"
    assert EchoNetLvh(folder, "VAL").names == ["0xb"]


def test_what_the_table_leaves_open(folder: Path) -> None:
    silent = EchoNetLvh(folder, "val")
    assert silent[0].cine.fps == pytest.approx(25.0)  # the container's, as nothing else is known
    assert EchoNetLvh(folder, "val", fps=60.0)[0].cine.fps == pytest.approx(60.0)
    assert silent[0].beats == ()
    assert silent[0].cine.mm_per_pixel is None  # its lines disagree: 0.5 and 0.25
    backwards = EchoNetLvh(folder, "test")
    assert len(backwards.entries[0].measurements) == 2  # the one without a value is passed over
    assert backwards[0].beats == ()  # end-systole was measured in an earlier beat


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no MeasurementsList\.csv in .*echonet\.github\.io/lvh"):
        EchoNetLvh(tmp_path)
    with pytest.raises(InputError, match="train, val, test"):
        EchoNetLvh(folder, "testing")
    make(tmp_path)
    (tmp_path / "Batch2" / "0XC.avi").unlink()
    with pytest.raises(InputError, match=r"1 of the 3 videos .*0XC\.avi is the first"):
        EchoNetLvh(tmp_path)
    data = EchoNetLvh(tmp_path, skip_missing=True)
    assert (len(data), data.missing) == (2, ["0XC"])
    with pytest.raises(InputError, match="holds no video of the split test"):
        EchoNetLvh(tmp_path, "test", skip_missing=True)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("1.0,2", "thick,2", r"Line 2 of .*MeasurementsList\.csv has no number for CalcValue"),
        ("120,train", "120,", "Line 2 of .* split"),
        ("0XA,IVSd", ",IVSd", "Line 2 of .* HashedFileName"),
        ("LVIDs,3.0,8", "LVIDs,3.0,12", r"names frame 12 of 0XA\.avi, which has 12 frames"),
    ],
)
def test_malformed_tables_are_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in ROWS
    with pytest.raises(InputError, match=words) as caught:
        EchoNetLvh(make(tmp_path, ROWS.replace(old, new, 1)))[0]
    assert "\n" not in str(caught.value)
