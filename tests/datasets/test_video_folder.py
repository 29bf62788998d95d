"""A folder of videos: the ECG that a DICOM file holds beside its pictures belongs to the study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from echogen import Cine, read_ecg, write
from echogen.datasets.shards import ShardFolder
from echogen.datasets.video_folder import VideoFolder

PLAIN, BOTH = "a.dcm", "b.dcm"


@pytest.fixture
def folder(tmp_path: Path, dicom_ecg_path: Path) -> Path:
    """Two DICOM videos, the second with the twelve leads of an ECG in the same file."""
    made = tmp_path / "in"
    made.mkdir()
    frames = np.random.default_rng(0).integers(0, 256, (5, 40, 50), dtype=np.uint8)
    for name in (PLAIN, BOTH):
        write(Cine(frames, np.arange(5) / 25, 1.0), made / name)
    video = pydicom.dcmread(made / BOTH)
    video.WaveformSequence = pydicom.dcmread(dicom_ecg_path).WaveformSequence
    video.save_as(made / BOTH)
    return made


def test_the_ecg_beside_the_pictures_belongs_to_the_study(folder: Path, dicom_ecg_path: Path) -> None:
    videos = VideoFolder(folder)
    assert videos.names == [PLAIN, BOTH]
    assert videos[0].ecg is None
    expected = read_ecg(dicom_ecg_path)
    found = videos[1].ecg
    assert found is not None
    assert (found.lead_names, found.rate_hz) == (expected.lead_names, expected.rate_hz)
    np.testing.assert_allclose(found.signal_mv, expected.signal_mv)


def test_prepare_keeps_that_ecg(folder: Path, tmp_path: Path, echogen: Any) -> None:
    assert echogen("prepare", folder, "-o", tmp_path / "out", "--workers", 1).code == 0
    samples = ShardFolder(tmp_path / "out")
    assert [samples[n].study.ecg is not None for n in (0, 1)] == [False, True]


def test_a_waveform_that_is_no_ecg_leaves_a_video_without_one(folder: Path) -> None:
    video = pydicom.dcmread(folder / BOTH)
    video.WaveformSequence[0].WaveformData = b"\0\0"
    video.save_as(folder / BOTH)
    study = VideoFolder(folder)[1]
    assert (study.ecg, study.cine.frames.shape) == (None, (5, 40, 50))
