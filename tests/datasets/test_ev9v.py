"""EV9V on fake copies: lists of names and views, and one sentence for every fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import echogen
from echogen import InputError
from echogen.datasets.ev9v import Ev9v
from echogen.records import Cine

LISTS = {
    "train": "2022-07-27_14-06-42_320x240_2 PMPALA\n2022-04-18_14-40-37_004_320x240_9 A4C\n",
    "validation": "2022-04-28_08-03-07_003_320x240_8 A5C\r\n\r\n",
    "test": "2022-05-04_15-07-52_002_320x240_6.mp4 A4C\n2022-07-11_08-22-16_320x240_0 SC4C\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Videos").mkdir()
    frames = np.random.default_rng(0).integers(0, 200, (6, 60, 80)).astype(np.uint8)
    for split, text in LISTS.items():
        (tmp_path / f"{split}_labeled.txt").write_text(text)
        for name in (line.split()[0].removesuffix(".mp4") for line in text.splitlines() if line):
            echogen.write(Cine(frames, np.arange(6) / 30.0), tmp_path / "Videos" / f"{name}.mp4")
    return tmp_path


def test_the_lists_are_the_splits(folder: Path) -> None:
    data = Ev9v(folder)
    assert len(data) == 5
    assert [entry.view for entry in data.entries] == ["PMPALA", "A4C", "A5C", "A4C", "SC4C"]
    assert Ev9v(folder, "test").names == ["2022-05-04_15-07-52_002_320x240_6", "2022-07-11_08-22-16_320x240_0"]
    assert Ev9v(folder, "Validation").names == ["2022-04-28_08-03-07_003_320x240_8"]
    assert [entry.split for entry in Ev9v(folder, views=("A4C",)).entries] == ["train", "test"]
    (folder / "validation_labeled.txt").unlink()
    assert len(Ev9v(folder)) == 4
    with pytest.raises(InputError, match=r"no validation_labeled\.txt"):
        Ev9v(folder, "validation")


def test_a_study_has_the_apical_view_or_none(folder: Path) -> None:
    studies = list(Ev9v(folder))
    assert [study.cine.view for study in studies] == [None, "A4C", None, "A4C", None]
    assert studies[0].cine.frames.shape == (6, 60, 80)
    assert studies[0].cine.fps == pytest.approx(30.0)
    assert (studies[0].ecg, studies[0].ef_percent, studies[0].beats) == (None, None, ())
    assert Ev9v(folder, fps=20.0)[0].cine.fps == pytest.approx(20.0)
    assert Ev9v(folder).labels(0) == {"view": "PMPALA", "split": "train"}


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    lost = folder / "Videos" / "2022-04-28_08-03-07_003_320x240_8.mp4"
    lost.unlink()
    with pytest.raises(InputError, match=r"1 of the 5 videos .*003_320x240_8\.mp4 is the first.*bgx666/EV9V"):
        Ev9v(folder)
    assert Ev9v(folder, skip_missing=True).missing == [lost.stem]
    lost.write_bytes(b"no video")
    with pytest.raises(InputError, match=r"320x240_8\.mp4"):
        Ev9v(folder)[2]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"no train_labeled\.txt in .*bgx666/EV9V"):
        Ev9v(empty)
    with pytest.raises(InputError, match="has the splits"):
        Ev9v(folder, "val")
    with pytest.raises(InputError, match="has the views"):
        Ev9v(folder, views=("A2C",))


@pytest.mark.parametrize("line", ["2022-07-27_14-06-42_320x240_2", "2022-07-27_14-06-42_320x240_2 A2C", " A4C"])
def test_malformed_lists_are_named(folder: Path, line: str) -> None:
    (folder / "train_labeled.txt").write_text(f"{LISTS['train']}{line}\n")
    with pytest.raises(InputError, match=r"Line 3 of .*train_labeled\.txt is not a name and one of nine views"):
        Ev9v(folder)
