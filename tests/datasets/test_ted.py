"""TED on fake copies: a whole beat with its masks, the frame rate that it lacks, and one sentence for every fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from echogen import InputError
from echogen.datasets.ted import Ted
from echogen.records import STRUCTURES
from echogen.testing import data_sets as fakes

FPS = 25.0


def make(folder: Path) -> Path:
    """Four patients: as it should be, without masks, with a stated rate and flat pixels, beginning at end-systole."""
    study = fakes.heart(1)
    beat = study.beats[0]
    first, es, last = (round(time * FPS) for time in (beat.ed_s, beat.es_s, study.beats[1].ed_s))
    frames = study.cine.frames[first : last + 1]
    masks = np.where(study.masks[first : last + 1] > STRUCTURES["myocardium"], 0, study.masks[first : last + 1]).astype(np.uint8)
    for number in range(1, 5):
        name = f"patient{number:03d}"
        place = folder / "database" / name
        place.mkdir(parents=True)
        said = {"ED": 1, "ES": es - first + 1, "NbFrame": len(frames), "Sex": "F", "Age": 61, "ImageQuality": "Poor", "EF": 45}
        said |= {"FrameRate": 50} if number == 3 else {}
        said |= {"ED": len(frames)} if number == 4 else {}
        (place / f"{name}_4CH_info.cfg").write_text("".join(f"{key}: {value}\r\n" for key, value in said.items()))
        twice = 2 if number == 3 else 1
        for kind, values in (("", frames), ("_gt", masks)):
            if not (number == 2 and kind):
                path = place / f"{name}_4CH_sequence{kind}.mhd"
                fakes.write_medical(path, np.repeat(values, twice, axis=1), (0.6, 0.6 / twice))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("data") / "TED")


def test_a_study_is_a_whole_beat_with_its_masks(folder: Path) -> None:
    data, truth = Ted(folder, fps=FPS), fakes.heart(1)
    assert data.names == [f"patient{number:03d}" for number in range(1, 5)]
    study = data[0]
    assert (study.ecg, study.cine.view, study.sex, study.ef_percent) == (None, "A4C", "f", 45.0)
    assert study.cine.fps == pytest.approx(FPS)
    assert study.cine.mm_per_pixel == pytest.approx(0.6)
    first = round(truth.beats[0].ed_s * FPS)
    np.testing.assert_array_equal(study.cine.frames, truth.cine.frames[first : first + len(study.cine.frames)])
    assert set(np.unique(study.masks)) == {0, 1, 2}
    (beat,) = study.beats
    assert beat.ed_s == 0.0
    area = (study.masks == STRUCTURES["lv"]).sum((1, 2))
    assert area[round(beat.es_s * FPS)] < 1.1 * area.min() < area[-1]
    assert data.info(0).image_quality == "Poor"


def test_what_differs_between_patients(folder: Path) -> None:
    data = Ted(folder / "database", fps=FPS)  # the folder of the patients will do
    assert data[1].masks is None
    assert data[2].cine.fps == pytest.approx(50.0)  # stated
    assert data[2].cine.frames.shape[1:] == data[2].masks.shape[1:] == (256, 256)
    assert data[2].cine.mm_per_pixel == pytest.approx(0.3)
    assert data[3].beats == ()  # ED is named at the end, after ES


def test_without_a_rate_there_are_no_times(folder: Path) -> None:
    data = Ted(folder)
    with pytest.raises(InputError, match=r"patient001_4CH_sequence\.mhd states no FrameRate; give"):
        data[0]
    assert data[2].cine.fps == pytest.approx(50.0)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folders patientNNN .*creatis.*ted"):
        Ted(tmp_path)
    database = make(tmp_path) / "database"
    (database / "patient002" / "patient002_4CH_sequence.mhd").unlink()
    with pytest.raises(InputError, match=r"1 of the 4 videos .*patient002_4CH_sequence\.mhd is the first"):
        Ted(tmp_path, fps=FPS)
    data = Ted(tmp_path, fps=FPS, skip_missing=True)
    assert (data.missing, len(data)) == (["patient002"], 3)
    (database / "patient001" / "patient001_4CH_sequence_gt.raw").write_bytes(b"short")
    with pytest.raises(InputError, match=r"patient001_4CH_sequence_gt\.raw.* is cut short"):
        data[0]
    info = database / "patient003" / "patient003_4CH_info.cfg"
    info.write_text(info.read_text().replace("ES: ", "ES: 9"))
    with pytest.raises(InputError, match=r"names frame 9\d+, but there are"):
        data[1]
    info.write_text("Sex: F\n")
    with pytest.raises(InputError, match=r"does not name the frames ED and ES.*ted"):
        data[1]
    info.unlink()
    with pytest.raises(InputError, match=r"no patient003_4CH_info\.cfg in .*ted"):
        data[1]
