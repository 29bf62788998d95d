"""Echo files of every kind on the command line: info, measure, generate."""

import json

import numpy as np
import pydicom
import pytest

from echogen import Cine, read_cine, simulate, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("echo")
    study = simulate(seconds=2, seed=5, ef_percent=60)
    for name in ("a.nii", "a.nii.gz", "a.npz"):
        write(study.cine, folder / name)
    write(study.cine, folder / "a.dcm", ecg=study.ecg)
    frames = study.cine.frames
    sizes = " ".join(map(str, frames.shape[::-1]))
    (folder / "a.mhd").write_text(
        f"NDims = 3\nDimSize = {sizes}\nElementSpacing = {study.cine.mm_per_pixel} {study.cine.mm_per_pixel} 1\n"
        "ElementType = MET_UCHAR\nElementDataFile = a.raw\n"
    )
    (folder / "a.raw").write_bytes(frames.tobytes())
    noise = np.random.default_rng(0).integers(0, 256, (40, 128, 128), dtype=np.uint8)
    write(Cine(noise, np.arange(40) / 32), folder / "noise.npz")
    return folder


@pytest.mark.parametrize(
    ("name", "kind"), [("a.nii.gz", "NIfTI"), ("a.mhd", "MetaImage"), ("a.dcm", "DICOM"), ("noise.npz", "NPZ")]
)
def test_info(echogen, folder, name, kind):
    facts = json.loads(echogen("info", folder / name, "--json", "--fps", 32).out)
    assert (facts["format"], facts["kind"], facts["height"]) == (kind, "echo", 128)
    assert facts["fps"] == pytest.approx(32)
    assert len(facts["warnings"]) == (name == "noise.npz")
    report = facts["identifying"]
    assert "guess" in report["note"]
    assert (report["attributes"] is not None) == (name == "a.dcm")
    if name != "noise.npz":
        assert report["text_beside_the_sector"] is False


def test_info_names_the_attributes_of_ecg_and_echo(echogen, folder):
    echo = json.loads(echogen("info", folder / "a.dcm", "--json").out)
    ecg = json.loads(echogen("info", folder / "a_ecg.dcm", "--json").out)
    assert ecg["kind"] == "ecg"
    for facts in (echo, ecg):
        assert "PatientName" in facts["identifying"]["attributes"]
    assert "PatientName" in echogen("info", folder / "a.dcm").out


def test_measure_reads_the_same_of_every_format(echogen, folder):
    outcomes = [echogen("measure", folder / name, "--json", "--fps", 32) for name in ("a.npz", "a.mhd", "a.dcm")]
    readings = [json.loads(outcome.out) for outcome in outcomes]
    assert all(outcome.err == "" for outcome in outcomes)
    for reading in readings[1:]:
        assert reading["ef_percent"] == pytest.approx(readings[0]["ef_percent"], abs=1e-3)


def test_what_lacks_a_rate_asks_for_it_and_what_is_no_echo_is_refused(echogen, folder):
    outcome = echogen("measure", folder / "a.mhd")
    assert outcome.code == 2
    assert "fps" in outcome.err
    outcome = echogen("measure", folder / "noise.npz")
    assert outcome.code == 2
    assert "does not look like an echocardiogram" in outcome.err


def test_generate_writes_a_study_that_measure_takes(echogen, folder, tmp_path):
    output = tmp_path / "out.dcm"
    arguments = ("--image", folder / "a.nii", "--seconds", 2, "--steps", 2, "--ecg-start", 1, "-o", output)
    outcome = echogen("generate", *arguments)
    assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.dcm", "out.json", "out_ecg.dcm"]
    assert read_cine(output).duration_s == pytest.approx(2, abs=0.02)
    assert len(pydicom.dcmread(output).RWaveTimeVector) >= 1
    reading = json.loads(echogen("measure", output, "--ecg", tmp_path / "out_ecg.dcm", "--json").out)
    assert "matched_fraction" in reading
    outcome = echogen("generate", tmp_path / "out_ecg.dcm", "-o", output)
    assert outcome.code == 2
    assert "overwrite" in outcome.err
