"""CAMUS on fake copies and on a real still: orientation, order in time, masks, and one sentence for every fault."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from echogen import InputError
from echogen.datasets.camus import Camus, read_image, read_info
from echogen.measurement.geometry import lv_geometry
from echogen.records import STRUCTURES
from echogen.testing import data_sets as fakes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    patients = [
        fakes.FakePatient("patient0001", "testing", 1),
        fakes.FakePatient("patient0002", "testing", 1, ("reversed", "no_truth")),
        fakes.FakePatient("patient0003", "training", 1, ("no_rate", "flat_pixels")),
        fakes.FakePatient("patient0004", "validation", 1, ("no_4ch",)),
    ]
    return fakes.make_camus(tmp_path_factory.mktemp("data") / "CAMUS_public", patients)


def test_a_study_is_the_half_cycle_with_its_masks(folder: Path) -> None:
    data = Camus(folder, "testing")
    assert data.names == ["patient0001_4CH", "patient0001_2CH", "patient0002_4CH", "patient0002_2CH"]
    study, (frames, masks) = data[0], fakes.half_cycle(fakes.heart(1))
    np.testing.assert_array_equal(study.cine.frames, frames)
    np.testing.assert_array_equal(study.masks, masks)
    assert (study.cine.view, study.sex, study.cine.mm_per_pixel) == ("A4C", "f", pytest.approx(0.7))
    assert study.cine.fps == pytest.approx(25.0)
    assert study.ef_percent == pytest.approx(fakes.heart(1).beats[0].ef_percent, abs=0.06)
    assert study.beats[0].ed_s == 0.0
    assert study.beats[0].es_s == pytest.approx(study.cine.times_s[-1])
    area = lv_geometry(study.masks, 0.7)[0]
    assert area[0] > area[-1] > 0
    assert data[1].cine.view == "A2C"


def test_a_sequence_stored_backwards_is_turned(folder: Path) -> None:
    forwards, backwards = Camus(folder, "testing")[0], Camus(folder, "testing")[2]
    np.testing.assert_array_equal(backwards.cine.frames, forwards.cine.frames)
    assert backwards.beats == forwards.beats
    assert backwards.masks is None  # and without its truth there are no masks


def test_pixels_become_square_and_labels_stay_labels(folder: Path) -> None:
    study, square = Camus(folder, "training", fps=25.0)[0], Camus(folder, "testing")[0]
    assert study.cine.mm_per_pixel == pytest.approx(0.35)
    assert study.cine.frames.shape == (len(square.cine.frames), 256, 256)
    assert set(np.unique(study.masks)) <= set(range(4))
    small, large = lv_geometry(square.masks, 0.7)[0], lv_geometry(study.masks, 0.35)[0]
    np.testing.assert_allclose(large, small, rtol=0.01)
    with pytest.raises(InputError, match="states no FrameRate"):
        Camus(folder, "training")[0]


def test_the_older_release_is_read_too(tmp_path: Path, folder: Path) -> None:
    old = fakes.make_camus(tmp_path / "old", [fakes.FakePatient("patient0001", "testing", 1)], suffix=".mhd")
    study, same = Camus(old, views=("A4C",))[0], Camus(folder, "testing")[0]
    np.testing.assert_array_equal(study.cine.frames, same.cine.frames)
    np.testing.assert_array_equal(study.masks, same.masks)
    header = old / "training" / "patient0001" / "patient0001_4CH_sequence.mhd"
    header.with_suffix(".raw").write_bytes(b"short")
    with pytest.raises(InputError, match="is cut short"):
        Camus(old, views=("A4C",))[0]


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"patient0004_4CH_half_sequence\.nii\.gz is the first.*creatis"):
        Camus(folder, "validation")
    assert Camus(folder, "validation", skip_missing=True).names == ["patient0004_2CH"]
    assert len(Camus(folder / "database_nifti", "validation", views=("A2C",))) == 1
    with pytest.raises(InputError, match="no folders patientNNNN"):
        Camus(tmp_path)
    with pytest.raises(InputError, match="has the splits"):
        Camus(folder, "TEST")
    with pytest.raises(InputError, match="has the views"):
        Camus(folder, views=("PLAX",))
    (tmp_path / "patient0001").mkdir()
    with pytest.raises(InputError, match=r"no database_split/subgroup_testing\.txt"):
        Camus(tmp_path, "testing")


def test_malformed_files_are_named(tmp_path: Path) -> None:
    info = tmp_path / "Info_4CH.cfg"
    with pytest.raises(InputError, match=r"no Info_4CH\.cfg"):
        read_info(info)
    for text in ("", "ED: one\nES: 10\n", "ED: 0\nES: 10\n"):
        info.write_text(text)
        with pytest.raises(InputError, match="does not name the frames ED and ES"):
            read_info(info)
    info.write_text("ED: 1\nES: 18\nSex: ?\nLVef: 61\nnonsense\n")
    found = read_info(info)
    assert (found.ed_frame, found.es_frame, found.ef_percent, found.sex, found.fps) == (0, 17, 61.0, None, None)
    damaged = tmp_path / "a.nii.gz"
    damaged.write_bytes(b"no image")
    with pytest.raises(InputError, match="damaged or no NIfTI"):
        read_image(damaged)


def test_values_that_are_no_grey_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    fakes.write_medical(path, np.full((4, 6), -1.0, dtype=np.float32), (1.0, 1.0))
    with pytest.raises(InputError, match=r"grey values of 0\.\.255"):
        read_image(path)


def test_without_nibabel_there_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(InputError, match=r"needs the package nibabel; install echogen\[datasets\]"):
        Camus(folder, "testing")[0]


def test_a_real_still_stands_upright(test_data: Path) -> None:
    frames, mm_per_pixel = read_image(test_data / "echo_camus" / "patient0213_4CH_ED.nii")
    masks, _ = read_image(test_data / "echo_camus" / "patient0213_4CH_ED_gt.nii", labels=True)
    assert frames.shape == masks.shape == (1, 422, 451)
    assert mm_per_pixel == pytest.approx(0.308)
    row = {name: np.argwhere(masks[0] == STRUCTURES[name])[:, 0].mean() for name in ("lv", "la")}
    assert row["lv"] < row["la"]
    lit = np.flatnonzero((frames[0] > 20).any(axis=0))
    apex = np.flatnonzero(frames[0, 4] > 0)
    assert abs(apex.mean() - lit.mean()) < 40  # the sector's tip is on top, in the middle
