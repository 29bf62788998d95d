"""PTB-XL on a fake copy and on a real record: folds, statements, odd ages, and one sentence for every fault."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import wfdb

from echogen import InputError
from echogen.datasets.ptb_xl import PtbXl
from echogen.datasets.registry import open_dataset, recognise
from echogen.ecg.leads import STANDARD_LEADS

HEADER = ("ecg_id", "patient_id", "age", "sex", "report", "scp_codes", "strat_fold", "filename_lr", "filename_hr")
ROWS = [
    # The real table has gaps in its numbers, decimal patients, and 300 for everyone above 89.
    (1, "15709.0", "56.0", 1, "sinusrhythmus", "{'NORM': 100.0, 'LVOLT': 0.0, 'SR': 0.0}", 3),
    (5, "13619.0", "300.0", 0, "", "{'IMI': 80.0, 'CLBBB': 100.0}", 9),
    (17, "", "", "", "", "{}", 10),
]


def signal(rate_hz, seed):
    """(samples, 12) in mV."""
    times = np.arange(10 * rate_hz) / rate_hz
    beats = np.exp(-0.5 * (((times % 0.8) - 0.3) / 0.02) ** 2)
    return beats[:, None] * np.linspace(0.4, 1.5, 12) + 0.01 * seed


def make_ptb_xl(folder: Path, rows=ROWS, header=HEADER, rates=(100, 500)) -> Path:
    folder.mkdir(parents=True)
    table = []
    for ecg, *facts in rows:
        paths = []
        for rate, mark in ((100, "lr"), (500, "hr")):
            place = f"records{rate}/{ecg // 1000 * 1000:05d}"
            paths.append(f"{place}/{ecg:05d}_{mark}")
            if rate in rates:
                (folder / place).mkdir(parents=True, exist_ok=True)
                leads = [lead.upper() for lead in STANDARD_LEADS]
                how = {"fs": rate, "units": ["mV"] * 12, "sig_name": leads, "fmt": ["16"] * 12, "write_dir": str(folder / place)}
                wfdb.wrsamp(f"{ecg:05d}_{mark}", p_signal=signal(rate, ecg), **how)
        table.append((ecg, *facts, *paths))
    with (folder / "ptbxl_database.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *table])
    classes = [
        ("", "diagnostic", "diagnostic_class"),
        ("NORM", 1.0, "NORM"),
        ("IMI", 1.0, "MI"),
        ("CLBBB", 1.0, "CD"),
        ("SR", "", ""),
    ]
    with (folder / "scp_statements.csv").open("w", newline="") as file:
        csv.writer(file).writerows(classes)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ptb_xl(tmp_path_factory.mktemp("data") / "ptb-xl")


def test_ecgs_are_read_at_either_rate(folder):
    data = PtbXl(folder)
    assert data.names == ["00001", "00005", "00017"]
    ecg = data[1]
    assert (ecg.rate_hz, ecg.duration_s, ecg.lead_names) == (500.0, 10.0, STANDARD_LEADS)
    np.testing.assert_allclose(ecg.signal_mv, signal(500, 5).T, atol=1e-3)
    assert PtbXl(folder, rate_hz=100)[0].signal_mv.shape == (12, 1000)
    assert len(list(data)) == 3


def test_rows_say_what_is_known(folder):
    first, old, blank = PtbXl(folder).entries
    assert (first.patient_id, first.age_years, first.sex, first.fold) == (15709, 56.0, "f", 3)
    assert first.statements == {"NORM": 100.0, "LVOLT": 0.0, "SR": 0.0}
    assert (first.classes, first.report) == (("NORM",), "sinusrhythmus")
    assert (old.age_years, old.sex, old.classes) == (90.0, "m", ("CD", "MI"))
    assert (blank.patient_id, blank.age_years, blank.sex, blank.statements) == (None, None, None, {})


def test_folds_make_the_splits(folder):
    assert [PtbXl(folder, split).names for split in ("train", "VAL", "TEST")] == [["00001"], ["00005"], ["00017"]]
    with pytest.raises(InputError, match="has the splits TRAIN, VAL, TEST"):
        PtbXl(folder, "fold 1")
    with pytest.raises(InputError, match="at 500 and 100 Hz, not at 250"):
        PtbXl(folder, rate_hz=250)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no ptbxl_database\.csv.*physionet"):
        PtbXl(tmp_path)
    folder = make_ptb_xl(tmp_path / "x", rates=(100,))
    with pytest.raises(InputError, match=r"3 of the 3 ECGs .*00001_hr\.hea is the first; the ECGs at 100 Hz are there"):
        PtbXl(folder)
    (folder / "records100" / "00000" / "00005_lr.hea").unlink()
    with pytest.raises(InputError, match=r"1 of the 3 ECGs .*records100/00000/00005_lr\.hea is the first\)"):
        PtbXl(folder, rate_hz=100)
    data = PtbXl(folder, rate_hz=100, skip_missing=True)
    assert (data.names, data.missing) == (["00001", "00017"], ["00005"])
    with pytest.raises(InputError, match="no ECG of the split VAL"):
        PtbXl(folder, "VAL", rate_hz=100, skip_missing=True)
    (folder / "scp_statements.csv").unlink()
    assert PtbXl(folder, rate_hz=100, skip_missing=True).entries[0].classes == ()
    (folder / "records100" / "00000" / "00001_lr.dat").write_bytes(b"short")
    with pytest.raises(InputError, match="cut short or damaged"):
        PtbXl(folder, rate_hz=100, skip_missing=True)[0]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ((1, 2, 56, 1, "", "NORM, SR", 3), "Line 2 of .* has no readable scp_codes"),
        ((1, 2, 56, 1, "", "__import__('os').getcwd()", 3), "no readable scp_codes"),
        ((1, 2, 56, 1, "", "{'NORM': 'sure'}", 3), "no readable scp_codes"),
        ((1, 2, 56, 1, "", "{}", 11), "no usable strat_fold"),
        ((1, 2, "old", 1, "", "{}", 3), "no number for age"),
    ],
)
def test_malformed_rows_are_named(tmp_path, row, sentence):
    with pytest.raises(InputError, match=sentence):
        PtbXl(make_ptb_xl(tmp_path / "x", [row], rates=()))


def test_another_table_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"lacks the column scp_codes; get the file again"):
        PtbXl(make_ptb_xl(tmp_path / "x", header=[name.replace("scp_codes", "codes") for name in HEADER], rates=()))


def test_mirrors_and_the_registry_know_it(folder, tmp_path):
    for below in ("physionet.org/files/ptb-xl/1.0.3", "ptb-xl-a-large-publicly-available-electrocardiography-dataset-1.0.3"):
        place = tmp_path / below.split("/")[0]
        shutil.copytree(folder, place.parent / below)
        assert len(PtbXl(tmp_path, "TEST")) == 1
        shutil.rmtree(place)
    assert recognise(folder) == "ptb-xl"
    data = open_dataset("ptb-xl", folder, rate_hz=100)
    assert data.names == ["00001", "00005", "00017"]
    assert json.loads(json.dumps(data.labels(1)))["statements"] == {"IMI": 80.0, "CLBBB": 100.0}


def test_a_real_record(tmp_path, test_data):
    folder = make_ptb_xl(tmp_path / "x", rates=())
    (folder / "records100" / "00000").mkdir(parents=True)
    for suffix in ("hea", "dat"):
        shutil.copy(test_data / "ecg_wfdb" / f"00001_lr.{suffix}", folder / "records100" / "00000")
    ecg = PtbXl(folder, "TRAIN", rate_hz=100)[0]
    assert (ecg.lead_names, ecg.rate_hz, ecg.duration_s) == (STANDARD_LEADS, 100.0, 10.0)
    assert ecg.lead("I")[0] == pytest.approx(-0.119)
