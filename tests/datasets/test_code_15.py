"""CODE-15% on a fake copy: unordered ids, empty rows, zeros around ECGs, and one sentence for every fault."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from echogen import InputError
from echogen.datasets.code_15 import Code15
from echogen.datasets.registry import open_dataset, recognise
from echogen.ecg.leads import STANDARD_LEADS

HEADER = (
    *("exam_id", "age", "is_male", "nn_predicted_age", "1dAVb", "RBBB", "LBBB", "SB", "ST", "AF", "patient_id", "death", "timey"),
    *("normal_ecg", "trace_file"),
)
NO, YES = "False", "True"


def row(exam, part, patient=7, male=YES, found=(), normal=NO, death="", years=""):
    six = [YES if name in found else NO for name in HEADER[4:10]]
    return (exam, 38, male, 40.1, *six, patient, death, years, normal, f"exams_part{part}.hdf5")


ROWS = [
    row(1169160, 0, patient=523632, normal=YES, death=NO, years="2.098628"),
    row(212, 0, patient=523632, found=("AF", "RBBB")),
    row(999, 1, patient=3, male=NO, death=YES, years="0.5"),
]


def tracing(exam, samples):
    """(4096, 12) in mV: an ECG of some samples in the middle of zeros."""
    values = np.zeros((4096, 12), dtype=np.float32)
    start = (4096 - samples) // 2
    beats = np.exp(-0.5 * (((np.arange(samples) % 320) - 160) / 8.0) ** 2)
    values[start : start + samples] = beats[:, None] * np.linspace(0.5, 1.5, 12) + 0.001 * (exam % 97) + 0.01
    return values


#: What each part holds, not in the order of the table, with the empty row at its end.
PARTS = {0: [(212, 2800), (1169160, 4096), (0, 0)], 1: [(999, 4000), (0, 0)]}


def make_code_15(folder: Path, rows=ROWS, header=HEADER, parts=PARTS, below="") -> Path:
    (folder / below).mkdir(parents=True)
    with (folder / "exams.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    for number, exams in parts.items():
        with h5py.File(folder / below / f"exams_part{number}.hdf5", "w") as file:
            file["exam_id"] = np.array([exam for exam, _ in exams], dtype=np.int64)
            file["tracings"] = np.stack([tracing(exam, samples) for exam, samples in exams])
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_code_15(tmp_path_factory.mktemp("data") / "code15")


def test_exams_are_found_by_id_and_cut_to_what_they_hold(folder):
    data = Code15(folder)
    assert data.names == ["1169160", "212", "999"]
    for ecg, (exam, samples) in zip(data, ((1169160, 4096), (212, 2800), (999, 4000)), strict=True):
        assert (ecg.rate_hz, ecg.lead_names) == (400.0, STANDARD_LEADS)
        whole = tracing(exam, samples)
        np.testing.assert_array_equal(ecg.signal_mv, whole[whole.any(axis=1)].T)
        assert ecg.duration_s == samples / 400.0


def test_rows_say_what_is_known(folder):
    first, second, other = Code15(folder).entries
    assert (first.patient_id, first.age_years, first.sex, first.diagnoses, first.normal) == (523632, 38.0, "m", (), True)
    assert (first.died, first.follow_up_years) == (False, 2.098628)
    assert second.diagnoses == ("RBBB", "AF")
    assert (second.died, second.follow_up_years) == (None, None)
    assert (other.sex, other.died) == ("f", True)


@pytest.mark.parametrize("below", ["raw", "exams_part1"])
def test_parts_in_folders_of_their_own_are_found(tmp_path, below):
    assert Code15(make_code_15(tmp_path / "x", ROWS[2:], parts={1: PARTS[1]}, below=below)).names == ["999"]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no exams\.csv.*zenodo"):
        Code15(tmp_path)
    folder = make_code_15(tmp_path / "x", parts={0: PARTS[0][:1]})
    with pytest.raises(InputError, match=r"2 of the 3 exams .* exam 1169160 is not in .*exams_part0\.hdf5, .*zenodo"):
        Code15(folder)
    data = Code15(folder, skip_missing=True)
    assert (data.names, data.missing) == (["212"], ["1169160", "999"])
    (folder / "exams_part0.hdf5").unlink()
    with pytest.raises(InputError, match="holds none of the exams"):
        Code15(folder, skip_missing=True)
    (folder / "exams_part0.zip").write_bytes(b"")
    with pytest.raises(InputError, match=r"exams_part0\.hdf5 is not in .*; unpack exams_part0\.zip or leave"):
        Code15(folder)


def test_an_exam_in_another_part_than_stated_is_found(tmp_path):
    wrong = [ROWS[0], (*ROWS[2][:-1], "exams_part0.hdf5"), (*ROWS[1][:-1], "exams_part1.hdf5")]
    assert [len(ecg.signal_mv[0]) for ecg in Code15(make_code_15(tmp_path / "x", wrong))] == [4096, 4000, 2800]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (row("", 0), "no number for exam_id"),
        (row(5, 0, male="maybe"), "neither True nor False for is_male"),
        (row(5, 0, years="long"), "no number for timey"),
    ],
)
def test_malformed_rows_are_named(tmp_path, wrong, sentence):
    with pytest.raises(InputError, match=f"Line 2 of .*{sentence}"):
        Code15(make_code_15(tmp_path / "x", [wrong], parts={}))


def test_malformed_parts_are_named(tmp_path):
    folder = make_code_15(tmp_path / "x", [row(5, 0)], parts={0: [(5, 0)]})
    with pytest.raises(InputError, match=r"Exam 5 of exams_part0\.hdf5 holds only zeros"):
        Code15(folder)[0]
    with h5py.File(folder / "exams_part0.hdf5", "w") as file:
        file["tracings"] = np.zeros((1, 4096, 12))
    with pytest.raises(InputError, match="no list of exam_id"):
        Code15(folder)
    (folder / "exams_part0.hdf5").write_bytes(b"damaged")
    with pytest.raises(InputError, match="cut short or damaged"):
        Code15(folder)


def test_the_registry_knows_it(folder, monkeypatch):
    assert recognise(folder) == "code-15"
    data = open_dataset("code-15", folder)
    assert json.loads(json.dumps(data.labels(1)))["diagnoses"] == ["RBBB", "AF"]
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match="needs the package h5py"):
        Code15(folder)
