"""`echogen ecg` on real files: a table, JSON and a picture of what the reader made of them."""

import json

import numpy as np
import pytest
from PIL import Image


def test_a_dicom_ecg_as_table_json_and_picture(echogen, dicom_ecg_path, tmp_path):
    shown = echogen("ecg", dicom_ecg_path, "-o", tmp_path / "a.png")
    assert shown.code == 0, shown.err
    for word in ("DICOM", "1000 Hz (stated in the file)", "V6", "good", "R present"):
        assert word in shown.out, shown.out
    facts = json.loads(echogen("ecg", dicom_ecg_path, "--json").out)
    assert (facts["rate_hz"], facts["rate_source"], facts["unit_source"]) == (1000.0, "file", "file")
    assert echogen("ecg", dicom_ecg_path, "--json", tmp_path / "a.json").code == 0
    assert json.loads((tmp_path / "a.json").read_text()) == facts
    (tmp_path / "a.json").unlink()
    assert [lead["name"] for lead in facts["leads"]] == facts["lead_names"]
    assert facts["heart_rate_bpm"] == pytest.approx(61, abs=1)
    waves = {wave["wave"]: wave for wave in facts["waves"]}
    assert set(waves) == {"R", "P", "T"}
    assert waves["R"]["verdict"] == "present"
    assert all(0 <= wave["confidence"] <= 1 for wave in waves.values())
    assert len(facts["beats"]) == 10
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    red = (pixels[..., 0] > 180) & (pixels[..., 1] < 60) & (pixels[..., 2] < 60)
    # A red line for each R peak in the lead that shows them.
    assert 8 <= (red.sum(axis=0) > 20).sum() <= 22
    assert list(tmp_path.iterdir()) == [tmp_path / "a.png"]


def test_gaps_guesses_and_absent_waves_are_said(echogen, test_data, tmp_path):
    folder = test_data / "reported"
    shown = echogen("ecg", folder / "mixedsignals.hea", "-o", tmp_path / "a.png")
    assert "Gap: 0.00 to 4.10 s in all leads" in shown.out
    assert "Each frame of 62.4725 Hz holds 4 samples" in " ".join(shown.out.split())
    facts = json.loads(echogen("ecg", folder / "A6_gap_in_time_column.csv", "--json").out)
    assert facts["rate_source"] == "time stamps"
    assert facts["gaps"] == [{"leads": ["ECG"], "start_s": 5.0, "end_s": 8.5}]
    unit = json.loads(echogen("info", folder / "C5_unit_garbled_mu.edf", "--json").out)
    assert unit["unit_source"] == "assumed"
    assert "uV" in unit["notes"][0]


def test_a_fibrillating_ecg_has_no_p_wave(echogen, tmp_path):
    made = echogen("simulate", "--rhythm", "af", "--seconds", "8", "--seed", "3", "-o", tmp_path / "clip")
    assert made.code == 0, made.err
    facts = json.loads(echogen("ecg", next((tmp_path / "clip").rglob("ecg.npz")), "--json").out)
    assert next(wave["verdict"] for wave in facts["waves"] if wave["wave"] == "P") in ("absent", "unclear")
    assert all(beat["p_onset_s"] is None for beat in facts["beats"])


def test_info_tells_what_a_file_with_gaps_holds(echogen, test_data):
    facts = json.loads(echogen("info", test_data / "reported" / "C2_gap_in_one_lead.hea", "--json").out)
    assert (facts["lead_names"], facts["rate_hz"], facts["duration_s"]) == (["I", "II"], 500.0, 14.0)
    assert facts["gaps"] == [{"leads": ["II"], "start_s": 4.0, "end_s": 6.0}]
    assert facts["heart_rate_bpm"] == pytest.approx(72.2, abs=2)


def test_a_gap_far_from_the_video_does_not_block_it(echogen, test_data, tmp_path):
    path = test_data / "reported" / "C2_gap_in_one_lead.hea"
    part = ("--ecg-start", "8", "--seconds", "1", "--steps", "1")
    made = echogen("generate", path, *part, "-o", tmp_path / "a.npz")
    assert made.code == 0, made.err
    assert json.loads((tmp_path / "a.json").read_text())["video_start_s"] == 8.0


def test_wrong_options_are_refused_in_a_sentence(echogen, dicom_ecg_path, tmp_path):
    for arguments, word in (
        (("-o", tmp_path / "a.gif"), ".png"),
        (("--json", tmp_path / "a.txt"), ".json"),
        ((tmp_path / "a.json",), "--json"),
        (("--seconds", "0"), "--seconds"),
        (("--ecg-start", "-1"), "--ecg-start"),
        (("--ecg-start", "99"), "10.00 s long"),
    ):
        ended = echogen("ecg", dicom_ecg_path, *arguments)
        assert ended.code == 2
        assert word in ended.err
        assert ended.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
