"""EchoNet-Pediatric on fake copies: folds, points instead of chords, frames that are none, nested folders, and every fault."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from echogen import InputError
from echogen.datasets.echonet_pediatric import SPLITS, EchoNetPediatric
from echogen.datasets.paired_folder import resize
from echogen.records import STRUCTURES
from echogen.testing import data_sets as fakes

FILE_LIST = ("FileName", "EF", "Sex", "Age", "Weight", "Height", "Split")
TRACINGS = ("FileName", "X", "Y", "Frame")
ROWS = {
    "A4C": [
        ("CR1.avi", "61.5", "F", "7", "22.5", "121", 0),
        ("CR2.avi", "48", "", "", "", "", 7),  # nothing known of the child
        ("CR3.avi", "", "M", "0", "3.4", "51", 9),  # no EF; its systole is not traced
    ],
    "PSAX": [("CR1.avi", "60.1", "F", "7", "22.5", "121", 8)],  # the same name as in the other view
}


def make_view(place: Path, view: str) -> None:
    (place / "Videos").mkdir(parents=True)
    study = fakes.heart(1)
    beat, traced = study.beats[0], []
    ed, es = (int(np.argmin(np.abs(study.cine.times_s - time))) for time in (beat.ed_s, beat.es_s))
    for name, *_ in ROWS[view]:
        fakes.write_avi(place / "Videos" / name, resize(study.cine.frames, 112), rate=25)
        for frame in (es, ed):
            lines = fakes.chords(resize(np.asarray(study.masks[frame] == STRUCTURES["lv"], dtype=np.uint8) * 255, 112) > 127)[1:]
            outline = np.concatenate([lines[:, :2], lines[::-1, 2:]])
            absent = name == "CR3.avi" and frame == es
            traced += [(name, "", "", "No Systolic")] if absent else [(name, x, y, frame) for x, y in outline]
            traced += [(name, *outline[0], frame)] * (not absent)  # closed, as many are
    for table, header, rows in (("FileList", FILE_LIST, ROWS[view]), ("VolumeTracings", TRACINGS, traced)):
        with (place / f"{table}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "pediatric"
    for view in ROWS:
        make_view(folder / "pediatric_echo_avi" / "pediatric_echo_avi" / view, view)
    return folder


def test_a_study_holds_what_the_tables_say(folder: Path) -> None:
    data = EchoNetPediatric(folder)
    assert data.names == ["A4C_CR1", "A4C_CR2", "A4C_CR3", "PSAX_CR1"]
    study, truth = data[0], fakes.heart(1).beats[0]
    assert (study.ecg, study.ef_percent, study.sex) == (None, 61.5, "f")
    assert study.cine.frames.shape == (50, 112, 112)
    assert (study.cine.view, data[3].cine.view) == ("A4C", None)
    assert data.labels(3)["view"] == "PSAX"
    assert study.cine.fps == pytest.approx(25.0)
    assert EchoNetPediatric(folder, fps=40.0)[0].cine.fps == pytest.approx(40.0)
    (beat,) = study.beats
    assert (beat.ed_s, beat.es_s) == pytest.approx((truth.ed_s, truth.es_s), abs=0.021)
    assert beat.ef_percent is None


def test_points_become_the_cavity(folder: Path) -> None:
    tracing, truth = EchoNetPediatric(folder).tracing(0), fakes.heart(1)
    for mask, frame in zip(tracing.masks(112, 112), (tracing.ed_frame, tracing.es_frame), strict=True):
        cavity = resize(np.asarray(truth.masks[frame] == STRUCTURES["lv"], dtype=np.uint8) * 255, 112) > 127
        assert (mask & cavity).sum() / (mask | cavity).sum() > 0.93


def test_a_frame_that_is_none_is_not_traced(folder: Path) -> None:
    data = EchoNetPediatric(folder, views=("A4C",))
    assert len(data.outlines(2)) == 1
    assert data.tracing(2) is None
    assert data[2].beats == ()


def test_what_the_table_leaves_open_is_none(folder: Path) -> None:
    data = EchoNetPediatric(folder)
    assert (data.entries[1].sex, data.entries[1].age_years, data.entries[1].height_cm) == (None, None, None)
    assert data.entries[2].ef_percent is None
    assert data.entries[2].age_years == 0.0


def test_folds_are_named_as_they_are(folder: Path) -> None:
    assert EchoNetPediatric(folder, folds=SPLITS["8-1-1"]["train"]).names == ["A4C_CR1", "A4C_CR2"]
    assert EchoNetPediatric(folder, folds=SPLITS["7-1-2"]["test"]).names == ["A4C_CR3", "PSAX_CR1"]
    for folds in SPLITS.values():
        assert sorted(sum(folds.values(), ())) == list(range(10))


def test_folders_are_looked_into(folder: Path) -> None:
    inner = folder / "pediatric_echo_avi"
    assert EchoNetPediatric(inner).names == EchoNetPediatric(inner / "pediatric_echo_avi").names == EchoNetPediatric(folder).names
    assert EchoNetPediatric(inner / "pediatric_echo_avi" / "PSAX").names == ["PSAX_CR1"]


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no A4C/FileList\.csv in .*echonet\.github\.io/pediatric"):
        EchoNetPediatric(tmp_path)
    with pytest.raises(InputError, match="has the views A4C, PSAX"):
        EchoNetPediatric(folder, views=("A2C",))
    with pytest.raises(InputError, match="folds 0 to 9"):
        EchoNetPediatric(folder, folds=(10,))
    view = tmp_path / "A4C"
    view.mkdir()
    place = folder / "pediatric_echo_avi" / "pediatric_echo_avi" / "A4C"
    (view / "FileList.csv").write_text((place / "FileList.csv").read_text())
    (view / "Videos").mkdir()
    (view / "Videos" / "CR2.avi").symlink_to(place / "Videos" / "CR2.avi")
    with pytest.raises(InputError, match=r"2 of the 3 videos .*CR1\.avi is the first.*echonet"):
        EchoNetPediatric(tmp_path)
    data = EchoNetPediatric(tmp_path, skip_missing=True)
    assert (data.names, data.missing) == (["A4C_CR2"], ["A4C_CR1", "A4C_CR3"])
    with pytest.raises(InputError, match=r"no VolumeTracings\.csv in .*A4C"):
        data[0]
    with pytest.raises(InputError, match=r"no FileList\.csv in .*PSAX"):
        EchoNetPediatric(tmp_path, views=("A4C", "PSAX"))


@pytest.mark.parametrize(
    ("table", "old", "new", "words"),
    [
        ("FileList", "Split", "Fold", "lacks the column Split"),
        ("FileList", "61.5", "high", r"Line 2 of .*FileList\.csv has no number for EF"),
        ("FileList", ",121,0", ",121,12", "Line 2 of .* Split"),
        ("VolumeTracings", "X,Y", "X1,Y1", "lacks the column X, Y"),
        ("VolumeTracings", "CR1.avi,", "CR1.avi,left", "Line 2 of .* no number for X"),
    ],
)
def test_malformed_tables_are_named(folder: Path, tmp_path: Path, table: str, old: str, new: str, words: str) -> None:
    place, view = folder / "pediatric_echo_avi" / "pediatric_echo_avi" / "A4C", tmp_path / "A4C"
    view.mkdir()
    (view / "Videos").symlink_to(place / "Videos")
    for name in ("FileList", "VolumeTracings"):
        text = (place / f"{name}.csv").read_text()
        (view / f"{name}.csv").write_text(text.replace(old, new, 1) if name == table else text)
    with pytest.raises(InputError, match=words) as caught:
        EchoNetPediatric(tmp_path)[0]
    assert "\n" not in str(caught.value)
