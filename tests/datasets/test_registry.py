"""The registry: every data set opens by its name, is recognised by its folder, and says what is wrong in one sentence."""

from __future__ import annotations

import inspect
import json
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from echogen import InputError
from echogen.datasets.clip_store import ARRAYS, ECG_BEFORE_S, ECG_RATE_HZ, FPS, SHARD_CLIPS
from echogen.datasets.local_studies import PairedStudies, PhantomStudies
from echogen.datasets.paired_folder import write_pair, write_phantom_pairs
from echogen.datasets.registry import DATASETS, Records, Sign, open_dataset, recognise
from echogen.testing import data_sets as fakes

MARKS = {
    "echonet-dynamic": ("FileList.csv", "FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"),
    "echonet-pediatric": ("pediatric_echo_avi/pediatric_echo_avi/PSAX/FileList.csv", "FileName,EF,Sex,Age,Weight,Height,Split"),
    "echonet-lvh": ("MeasurementsList.csv", ",HashedFileName,Calc,CalcValue,Frame,X1,X2,Y1,Y2,Frames,FPS,Width,Height,split"),
    "camus": ("database_nifti/patient0001/Info_4CH.cfg", "ED: 1"),
    "ted": ("database/patient001/patient001_4CH_info.cfg", "ED: 1"),
    "mimic-lvvol": ("FileList.csv", "\ufeffpatient_id,study_id,LVEDV_A4C,LVESV_A4C,LVEF_A4C"),
    "ev9v": ("test_labeled.txt", "name A4C"),
    "phantom": ("shard_0000/hearts.json", "[]"),
    "paired-folder": ("site/ekg/a.pkl", ""),
}


@pytest.mark.parametrize("name", MARKS)
def test_a_folder_is_recognised(name: str, tmp_path: Path) -> None:
    path = tmp_path / MARKS[name][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{MARKS[name][1]}\n", encoding="utf-8")
    assert recognise(tmp_path) == name


def test_what_is_no_data_set_is_not_recognised(tmp_path: Path) -> None:
    assert recognise(tmp_path) is None
    assert recognise(tmp_path / "nothing") is None
    (tmp_path / "FileList.csv").write_text("FileName,EF,Split\n")
    assert recognise(tmp_path) is None
    (tmp_path / "FileList.csv").write_bytes(b"\xff\xfe\x00")
    assert recognise(tmp_path) is None
    assert not Sign("*.csv", ("FileName",)).in_folder(tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_every_entry_names_a_loader_and_where_to_ask(name: str, tmp_path: Path) -> None:
    entry = DATASETS[name]
    module, kind = entry.loader.split(":")
    loader = getattr(import_module(module), kind)
    assert next(iter(inspect.signature(loader).parameters)) == "folder"
    assert entry.yields in ("Study", "Ecg", "PatientPair")
    assert entry.where
    assert entry.signs
    with pytest.raises(InputError) as caught:  # an empty folder
        open_dataset(name, tmp_path)
    assert "\n" not in str(caught.value)


def test_opening_by_name(tmp_path: Path) -> None:
    folder = fakes.make_echonet_dynamic(tmp_path / "data", [fakes.FakeVideo("0X1A", "TRAIN", 1)])
    name = recognise(folder)
    assert name == "echonet-dynamic"
    data: Records = open_dataset(name, folder, split="train")
    assert (len(data), data.names) == (1, ["0X1A"])
    assert [study.cine.view for study in data] == ["A4C"]
    with pytest.raises(InputError, match=r"no data set 'EchoNet'; did you mean echonet-lvh\? Known are echonet-dynamic, "):
        open_dataset("EchoNet", folder)
    with pytest.raises(InputError, match=r"takes no option 'view'; it takes skip_missing, split"):
        open_dataset(name, folder, view="A4C")
    with pytest.raises(InputError, match="no folder"):
        open_dataset(name, tmp_path / "elsewhere")


def test_paired_folders_are_studies(tmp_path: Path) -> None:
    write_phantom_pairs(tmp_path, 1, frames=12, size=64, seed=5)
    assert recognise(tmp_path) == "paired-folder"
    data = PairedStudies(tmp_path)
    assert data.names == ["video/phantom_000005"]
    study = data[0]
    assert study.ecg.lead_names[:3] == ("I", "II", "III")
    assert study.ecg.rate_hz == pytest.approx(ECG_RATE_HZ, rel=0.01)  # it ends with its video
    assert study.ecg.duration_s == pytest.approx(study.cine.duration_s)
    assert PairedStudies(tmp_path, ecg_rate_hz=500.0)[0].ecg.rate_hz == 500.0
    video = write_pair(tmp_path, "b", fakes.heart(1).cine, np.zeros((2, 100)))
    named = PairedStudies(tmp_path, lead_names=("V1", "II"))[0]
    assert named.ecg.lead_names == ("V1", "II")
    assert PairedStudies(tmp_path)[0].ecg.lead_names == ("1", "2")
    (tmp_path / "ekg" / "b.pkl").unlink()
    with pytest.raises(InputError, match=r"b\.mp4 has no ECG"):
        PairedStudies(tmp_path)
    some = PairedStudies(tmp_path, skip_missing=True)
    assert (some.names, some.missing) == (["video/phantom_000005"], ["video/b"])
    assert video.is_file()


def test_rendered_clips_are_studies(tmp_path: Path) -> None:
    shard = tmp_path / "shard_0000"
    shard.mkdir()
    for name in ARRAYS:
        kind, shape = (np.float32, (12, 40)) if name == "ecg" else (np.uint8, (3, 8, 8))
        np.save(shard / f"{name}.npy", np.stack([np.full(shape, clip, kind) for clip in range(SHARD_CLIPS)]))
    beats = {"ed_s": [-0.5, 0.3], "es_s": [-0.2, None], "edv_ml": [120.0, 118.0], "esv_ml": [50.0, 49.0], "r_s": [None, 0.25]}
    heart = {"view": "A2C", "sex": "f", "ef_percent": 58.0, "mm_per_pixel": 1.1, **beats}
    (shard / "hearts.json").write_text(json.dumps([{"seed": 70 + clip, **heart} for clip in range(SHARD_CLIPS)]))
    data = open_dataset("phantom", tmp_path)
    assert isinstance(data, PhantomStudies)
    assert (len(data), data.names[3]) == (SHARD_CLIPS, "phantom_0000073")
    study = data[3]
    assert (study.cine.frames == 3).all()
    assert study.cine.fps == pytest.approx(FPS)
    assert PhantomStudies(tmp_path, fps=64.0)[3].cine.fps == pytest.approx(64.0)
    assert (study.cine.view, study.cine.mm_per_pixel, study.sex, study.ef_percent) == ("A2C", 1.1, "f", 58.0)
    assert (study.ecg.start_s, study.ecg.rate_hz) == (-ECG_BEFORE_S, ECG_RATE_HZ)
    (beat,) = study.beats  # one without its end-systole is none
    assert (beat.ed_s, beat.r_s, beat.edv_ml) == (-0.5, None, 120.0)
