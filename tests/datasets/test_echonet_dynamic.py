"""EchoNet-Dynamic on fake copies: what a study holds, tracings as masks, and one sentence for every fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echogen import InputError
from echogen.datasets.echonet_dynamic import EchoNetDynamic, tracing_outline
from echogen.datasets.paired_folder import resize
from echogen.datasets.tracings import outline_mask, polygon_area
from echogen.records import STRUCTURES
from echogen.testing import data_sets as fakes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    videos = [
        fakes.FakeVideo("0X1A", "TRAIN", 1),
        fakes.FakeVideo("0X1B", "VAL", 1, ("swapped",)),
        fakes.FakeVideo("0X1C", "TEST", 2),
        fakes.FakeVideo("0X1D", "TEST", 2, ("missing",)),
        fakes.FakeVideo("0X1E", "VAL", 1, ("untraced",)),
        fakes.FakeVideo("0X1F", "VAL", 1, ("es_first",)),
        fakes.FakeVideo("0X20", "VAL", 1, ("short",)),
    ]
    return fakes.make_echonet_dynamic(tmp_path_factory.mktemp("data") / "EchoNet-Dynamic", videos)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_study_holds_what_the_tables_say(folder: Path) -> None:
    data = EchoNetDynamic(folder, "train")
    assert data.names == ["0X1A"]
    study, truth = data[0], fakes.heart(1)
    assert study.ecg is None
    assert study.cine.frames.shape == (50, 112, 112)
    assert study.cine.view == "A4C"
    assert study.cine.fps == pytest.approx(25.0)  # FileList's rate, not the container's 50
    assert study.ef_percent == pytest.approx(truth.beats[0].ef_percent)
    (beat,) = study.beats
    assert beat.ef_percent == pytest.approx(study.ef_percent)
    assert (beat.ed_s, beat.es_s) == pytest.approx((truth.beats[0].ed_s, truth.beats[0].es_s), abs=0.021)
    assert np.abs(study.cine.frames.astype(float) - resize(truth.cine.frames, 112)).mean() < 2


def test_tracings_become_the_cavity(folder: Path) -> None:
    truth = fakes.heart(1)
    for split, index in (("TRAIN", 0), ("VAL", 0)):  # the second with a chord turned round
        tracing = EchoNetDynamic(folder, split).tracing(index)
        assert tracing is not None
        for mask, frame in zip(tracing.masks(112, 112), (tracing.ed_frame, tracing.es_frame), strict=True):
            cavity = resize(np.asarray(truth.masks[frame] == STRUCTURES["lv"], dtype=np.uint8) * 255, 112) > 127
            assert overlap(mask, cavity) > 0.93


def test_the_larger_traced_frame_is_end_diastole(folder: Path) -> None:
    data = EchoNetDynamic(folder, "VAL")
    tracing = data.tracing(2)
    assert tracing is not None
    assert tracing.ed_frame > tracing.es_frame
    assert data[2].beats == ()
    assert data.tracing(1) is None
    assert data[1].beats == ()


def test_studies_come_one_by_one(folder: Path) -> None:
    data = EchoNetDynamic(folder, skip_missing=True)
    assert data.missing == ["0X1D"]
    assert len(data) == 6
    studies = iter(data)
    assert next(studies).cine.frames.shape[0] == 50
    assert next(studies).ef_percent == data.entries[1].ef_percent
    assert len(data[5].cine.frames) < data.entries[5].frames  # shorter than the table says


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1 of the 2 videos .*0X1D\.avi.*echonet\.github\.io"):
        EchoNetDynamic(folder, "TEST")
    with pytest.raises(InputError, match=r"no FileList\.csv in .*echonet\.github\.io"):
        EchoNetDynamic(tmp_path)
    with pytest.raises(InputError, match="TRAIN, VAL, TEST"):
        EchoNetDynamic(folder, "testing")


def damaged(folder: Path, tmp_path: Path, table: str, old: str, new: str) -> Path:
    """A copy of the data set with one table changed."""
    for name in ("FileList.csv", "VolumeTracings.csv"):
        text = (folder / name).read_text()
        assert name != table or old in text
        (tmp_path / name).write_text(text.replace(old, new) if name == table else text)
    (tmp_path / "Videos").symlink_to(folder / "Videos")
    return tmp_path


@pytest.mark.parametrize(
    ("table", "old", "new", "words"),
    [
        ("FileList.csv", "FPS", "Rate", "lacks the column FPS"),
        ("FileList.csv", "0X1A,", "0X1A,n/a", "Line 2 of .* no number for EF"),
        ("FileList.csv", "TRAIN", "TRIAL", "Line 2 of .* Split"),
        ("VolumeTracings.csv", "X1,Y1,X2,Y2", "X,Y,X2,Y2", "lacks the column X1, Y1"),
        ("VolumeTracings.csv", "0X1A.avi,", "0X1A.avi,?", "Line 2 of .* no number for X1"),
    ],
)
def test_malformed_tables_are_named(folder: Path, tmp_path: Path, table: str, old: str, new: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        EchoNetDynamic(damaged(folder, tmp_path, table, old, new), "TRAIN")[0]
    assert "\n" not in str(caught.value)


def test_a_traced_frame_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    beyond = damaged(folder, tmp_path, "VolumeTracings.csv", "", "")
    frame = EchoNetDynamic(folder, "TRAIN").tracing(0).es_frame
    text = (beyond / "VolumeTracings.csv").read_text().replace(f",{frame}\n", ",99\n")
    (beyond / "VolumeTracings.csv").write_text(text)
    with pytest.raises(InputError, match=r"frame 99 of 0X1A\.avi, which has 50"):
        EchoNetDynamic(beyond, "TRAIN")[0]


@given(st.integers(0, 10_000), st.floats(8, 30), st.floats(8, 30))
def test_a_mask_has_the_area_of_its_outline(seed: int, half_width: float, half_height: float) -> None:
    rng = np.random.default_rng(seed)
    heights = np.linspace(-0.99, 0.99, 21)
    widths = half_width * np.sqrt(1 - heights**2)
    rows = 40 + half_height * heights
    lines = np.stack([40 - widths, rows, 40 + widths, rows], axis=1)
    turned = rng.random(21) < 0.5
    lines[turned] = lines[turned][:, [2, 3, 0, 1]]
    lines = np.concatenate([[[40, rows[0], 40, rows[-1]]], rng.permutation(lines)])
    area = polygon_area(tracing_outline(lines))
    assert area == pytest.approx(np.pi * half_width * half_height, rel=0.05)
    assert outline_mask(tracing_outline(lines), 80, 80).sum() == pytest.approx(area, rel=0.08)
