"""DICOM out: valid objects, pixels without loss, the ECG beside it on the same clock, marked as synthetic."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echogen import Cine, Ecg, InputError, read_cine, read_ecg, write
from echogen.cine.dicom_writing import LEAD_CODES


def make_cine(times_s, height=20, width=30, **facts):
    frames = np.random.default_rng(len(times_s)).integers(0, 256, (len(times_s), height, width), dtype=np.uint8)
    return Cine(frames, np.asarray(times_s), **facts)


def make_ecg(names=tuple(LEAD_CODES), rate_hz=500.0, seconds=4.0, peak_mv=1.0, start_s=0.0):
    rng = np.random.default_rng(0)
    signal = peak_mv * rng.uniform(-1, 1, (len(names), round(seconds * rate_hz)))
    return Ecg(signal.astype(np.float32), rate_hz, names, start_s)


CASES = {
    "12 leads": (make_cine(1.0 + np.arange(20) / 32, mm_per_pixel=0.7, view="A4C"), make_ecg()),
    "odd size, uneven times": (make_cine(np.cumsum(np.linspace(0.02, 0.05, 15)), 7, 9, view="A2C"), make_ecg(rate_hz=100.0)),
    "own leads, fast": (make_cine(np.arange(20) / 47.3), make_ecg(("ECG0", "MLII"), 1024.0)),
    "still": (make_cine([0.0], mm_per_pixel=1.25), make_ecg(("I", "II"), 511.5)),
    "no ECG": (make_cine(np.arange(3) / 25.0), None),
}


@pytest.mark.parametrize("name", CASES)
def test_objects_are_valid(tmp_path, name):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed")
    cine, ecg = CASES[name]
    write(cine, tmp_path / "a.dcm", ecg=ecg, r_s=[float(cine.times_s[0])])
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == (1 if ecg is None else 2)
    for path in paths:
        result = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in result.stderr + result.stdout, result.stderr


@pytest.mark.parametrize("name", CASES)
def test_what_was_written_is_read_back(tmp_path, name):
    cine, ecg = CASES[name]
    write(cine, tmp_path / "a.dcm", ecg=ecg)
    again = read_cine(tmp_path / "a.dcm")
    np.testing.assert_array_equal(again.frames, cine.frames)
    np.testing.assert_allclose(again.times_s, cine.times_s - cine.times_s[0], atol=1e-9)
    assert again.view == cine.view
    assert again.mm_per_pixel == (None if cine.mm_per_pixel is None else pytest.approx(cine.mm_per_pixel, rel=1e-14))
    other = pydicom.dcmread(tmp_path / "a.dcm").pixel_array
    np.testing.assert_array_equal(other.reshape(cine.frames.shape), cine.frames)
    if ecg is None:
        assert not (tmp_path / "a_ecg.dcm").exists()
        return
    start = float(cine.times_s[0])
    part = ecg.between(start, start + (cine.duration_s or 1.0))
    found = read_ecg(tmp_path / "a_ecg.dcm")
    assert found.lead_names == ecg.lead_names
    if ecg.rate_hz <= 1000:
        assert found.rate_hz == ecg.rate_hz
        assert found.signal_mv.shape == part.signal_mv.shape
        assert np.abs(found.signal_mv - part.signal_mv).max() <= 2.6e-5  # half of the step of 0.05 uV
    else:
        assert 990 < found.rate_hz <= 1000
    assert found.duration_s == pytest.approx(part.duration_s, abs=1e-3)
    independent = pydicom.dcmread(tmp_path / "a_ecg.dcm").waveform_array(0)
    np.testing.assert_allclose(independent.T / 1000.0, found.signal_mv, atol=1e-6)


@settings(max_examples=10)
@given(
    fps=st.floats(5, 200), count=st.integers(1, 9), mm=st.floats(0.05, 3), size=st.tuples(st.integers(1, 9), st.integers(1, 9))
)
def test_any_cine_survives(tmp_path_factory, fps, count, mm, size):
    cine = make_cine(np.arange(count) / fps, *size, mm_per_pixel=mm)
    path = tmp_path_factory.mktemp("dicom") / "a.dcm"
    write(cine, path)
    again = read_cine(path)
    np.testing.assert_array_equal(again.frames, cine.frames)
    np.testing.assert_allclose(again.times_s, cine.times_s, atol=1e-9)
    assert again.mm_per_pixel == pytest.approx(mm, rel=1e-12)


def test_both_objects_say_that_they_are_synthetic_and_belong_together(tmp_path):
    cine, ecg = CASES["12 leads"]
    write(cine, tmp_path / "a.dcm", ecg=ecg, r_s=[0.5, 1.25, 1.5, 9.0])
    image, wave = pydicom.dcmread(tmp_path / "a.dcm"), pydicom.dcmread(tmp_path / "a_ecg.dcm")
    for data in (image, wave):
        assert "Synthetic" in str(data.PatientName)
        assert "ynthetic" in data.SeriesDescription
    assert list(image.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert image.RWaveTimeVector == pytest.approx([250.0, 500.0])
    assert image.StudyInstanceUID == wave.StudyInstanceUID
    assert image.SynchronizationFrameOfReferenceUID == wave.SynchronizationFrameOfReferenceUID
    assert image.AcquisitionDateTime == wave.AcquisitionDateTime
    assert len({image.SOPInstanceUID, wave.SOPInstanceUID, image.SeriesInstanceUID, wave.SeriesInstanceUID}) == 4
    first = (tmp_path / "a.dcm").read_bytes()
    write(cine, tmp_path / "a.dcm", ecg=ecg, r_s=[0.5, 1.25, 1.5, 9.0])
    assert (tmp_path / "a.dcm").read_bytes() == first
    write(Cine(255 - cine.frames, cine.times_s), tmp_path / "b.dcm")
    assert pydicom.dcmread(tmp_path / "b.dcm").StudyInstanceUID != image.StudyInstanceUID


def test_both_files_or_none(tmp_path):
    cine, ecg = CASES["12 leads"]
    (tmp_path / "a_ecg.dcm").mkdir()
    with pytest.raises(InputError, match=r"a_ecg\.dcm is a folder"):
        write(cine, tmp_path / "a.dcm", ecg=ecg)
    with pytest.raises(InputError, match="nothing lies between"):
        write(cine, tmp_path / "b.dcm", ecg=make_ecg(start_s=50.0))
    with pytest.raises(InputError, match="true unit"):
        write(cine, tmp_path / "c.dcm", ecg=make_ecg(peak_mv=1e12))
    assert [path.name for path in tmp_path.iterdir()] == ["a_ecg.dcm"]
