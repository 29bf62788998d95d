"""`echogen clean`: nothing that tells whose heart it is survives, and the picture of the sector stays as it was."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.data import get_testdata_file

import echogen as package
from echogen.cine import Sector
from echogen.cine.colour import read_colour
from echogen.cine.identifying import identifying_attributes, text_beside_the_sector
from echogen.datasets.video_folder import read_waveform
from echogen.testing.drawn_traces import draw, record
from echogen.testing.machine_styles import STYLES

#: What is planted into a study, none of which may be found afterwards.
PLANTED = ("MUELLER", "4711-0815", "StAnneHospital", "DrHouse", "19510307", "SECRETNOTE")


def planted_study(folder: Path, name: str = "MUELLER_4711-0815.dcm", day: str = "19991231", seed: int = 0) -> Path:
    """A DICOM study with names in its pixels, its header, private tags, an overlay, structured content and its file name."""
    rng = np.random.default_rng(seed)
    fan = Sector(30, 320, 400, 0.6, 0.6).inside(480, 640)
    grey = np.where(fan, np.clip(rng.rayleigh(45, (8, 480, 640)), 12, 200), 0).astype(np.uint8)
    pictures = []
    for frame in grey:
        picture = Image.fromarray(np.repeat(frame[..., None], 3, axis=-1))
        pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=16)
        pen.text((8, 8), "MUELLER 4711-0815", fill=(240, 240, 240), font=font)
        pen.text((60, 240), "StAnneHospital", fill=(240, 240, 240), font=font)  # reaches into the sector
        pictures.append(np.asarray(picture))
    package.write(package.Cine(grey, np.arange(8) / 25, mm_per_pixel=0.4), folder / "plain.dcm")
    data = pydicom.dcmread(folder / "plain.dcm")
    (folder / "plain.dcm").unlink()
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
    data.PixelData = np.stack(pictures).tobytes()
    data.PatientName, data.PatientID, data.PatientBirthDate = "MUELLER^ANNA", "4711-0815", "19510307"
    data.InstitutionName, data.ReferringPhysicianName, data.Manufacturer = "StAnneHospital", "DrHouse", "GE SECRETNOTE"
    data.StudyDate = data.AcquisitionDate = data.ContentDate = day
    data.SeriesDescription = data.ImageComments = data.StudyDescription = "SECRETNOTE"
    data.private_block(0x0011, "SECRETNOTE", create=True).add_new(1, "LO", "MUELLER")
    data.add_new(0x60000010, "US", 480)
    data.add_new(0x60000022, "LO", "MUELLER")
    item = pydicom.Dataset()
    item.TextValue, item.PersonName = "SECRETNOTE", "MUELLER"
    data.ContentSequence = [item]
    data.StudyInstanceUID = "1.2.840.4711.815"
    path = folder / name
    data.save_as(path, enforce_file_format=True)
    return path


def everything(folder: Path) -> bytes:
    """All names and all bytes below a folder."""
    parts = [path.relative_to(folder).as_posix().encode() for path in folder.rglob("*")]
    return b"\n".join([*parts, *(path.read_bytes() for path in folder.rglob("*") if path.is_file())])


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "MUELLER"
    folder.mkdir()
    planted_study(folder)
    planted_study(folder, "later.dcm", "20000107", seed=1)
    return folder


@pytest.mark.parametrize("format", ["dcm", "npz", "mp4", "avi"])
def test_nothing_planted_survives(study: Path, tmp_path: Path, echogen: Callable[..., Any], format: str) -> None:
    done = echogen("clean", study, "-o", tmp_path / "out", "--format", format)
    assert done.code == 0, done.err
    left = everything(tmp_path / "out")
    assert [word for word in PLANTED if word.lower().encode() in left.lower()] == []
    files = sorted((tmp_path / "out").glob(f"P*/*.{format}"))
    assert len(files) == 2
    for path in files:
        assert not text_beside_the_sector(package.read_cine(path).frames)
    assert len({path.parent for path in files}) == 1
    assert json.loads((tmp_path / "out/report.json").read_text())["files"][0]["letters_removed_inside"] > 0


def test_the_sectors_pixels_stay_and_text_that_reaches_into_it_goes(
    study: Path, tmp_path: Path, echogen: Callable[..., Any]
) -> None:
    assert echogen("clean", study / "later.dcm", "-o", tmp_path / "out").code == 0
    (path,) = (tmp_path / "out").glob("P*/*.dcm")
    cleaned, recorded = read_colour(path).frames[..., 0], read_colour(study / "later.dcm").frames[..., 0]
    fan = Sector(30, 320, 400, 0.6, 0.6).inside(480, 640, margin=-6.0)
    fan[230:270] = False
    rows, columns = (np.flatnonzero(recorded.any(0).any(axis)) for axis in (1, 0))
    top, left = next(
        (top, left)
        for top in range(rows[0], 60)
        for left in range(0, 200)
        if np.array_equal(recorded[0, top + 200 : top + 300, left + 200 : left + 300], cleaned[0, 200:300, 200:300])
    )
    assert columns.size
    part = (slice(None), slice(top, top + cleaned.shape[1]), slice(left, left + cleaned.shape[2]))
    inside = fan[part[1:]]
    assert (cleaned[:, inside] == recorded[part][:, inside]).all()
    assert cleaned.max() < 240
    assert package.read_cine(path).mm_per_pixel == pytest.approx(0.4)


def test_dates_move_together_and_the_header_says_how_it_was_cleaned(
    study: Path, tmp_path: Path, echogen: Callable[..., Any]
) -> None:
    assert echogen("clean", study, "-o", tmp_path / "out", "--keep-dates", "--link", tmp_path / "link.json").code == 0
    link = json.loads((tmp_path / "link.json").read_text())["files"]
    days = {}
    for source, cleaned in link.items():
        data = pydicom.dcmread(tmp_path / "out" / cleaned)
        days[Path(source).name] = int(
            np.datetime64(f"{data.StudyDate[:4]}-{data.StudyDate[4:6]}-{data.StudyDate[6:]}").astype(int)
        )
        assert data.PatientIdentityRemoved == "YES"
        assert data.LongitudinalTemporalInformationModified == "MODIFIED"
        assert [code.CodeValue for code in data.DeidentificationMethodCodeSequence] == ["113100", "113101", "113107"]
        assert data.Manufacturer == "GE"
    assert days["later.dcm"] - days["MUELLER_4711-0815.dcm"] == 7
    again = echogen("clean", study, "-o", tmp_path / "again", "--keep-dates", "--link", tmp_path / "link.json")
    assert again.code == 0
    assert everything(tmp_path / "out") == everything(tmp_path / "again")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="needs dciodvfy (dicom3tools)")
def test_what_is_written_is_valid_dicom(tmp_path: Path, echogen: Callable[..., Any]) -> None:
    recorded = record(3, 2.5)
    ecg = package.Ecg(recorded.lead_mv[None, 3000:], 500.0, ("II",), 0.0)
    package.write(package.Cine(recorded.frames, recorded.times_s), tmp_path / "a.mp4")
    times = np.arange(ecg.signal_mv.shape[1]) / 500.0
    rows = "\n".join(f"{time:.4f},{value:.4f}" for time, value in zip(times, ecg.signal_mv[0], strict=True))
    (tmp_path / "a.csv").write_text(f"time (s),II (mV)\n{rows}\n")
    assert echogen("clean", tmp_path / "a.mp4", "-o", tmp_path / "out").code == 0
    files = sorted((tmp_path / "out").glob("P*/*.dcm"))
    assert len(files) == 2
    for path in files:
        said = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr + said.stdout, said.stderr
    assert package.read_ecg(files[1]).lead_names == ("II",)


def test_a_drawn_ecg_is_kept_as_a_file_on_the_videos_clock(tmp_path: Path, echogen: Callable[..., Any]) -> None:
    recorded = record(5, 2.5)
    frames = draw(recorded, STYLES[6], 1)
    from echogen.cine.writing import write_coloured

    cine = package.Cine(frames.max(axis=-1), recorded.times_s)
    write_coloured(frames, cine, (frames.shape[2], frames.shape[1]), tmp_path / "a.mp4")
    assert echogen("clean", tmp_path / "a.mp4", "-o", tmp_path / "out").code == 0
    (path,) = (tmp_path / "out").glob("P*/*_ecg.dcm")
    ecg = package.read_ecg(path)
    inside = recorded.r_s[(recorded.r_s > 0.2) & (recorded.r_s < 2.2)]
    tall = ecg.signal_mv[0] > 0.6
    times = ecg.start_s + np.flatnonzero(tall) / ecg.rate_hz
    assert len(inside)
    assert all(np.abs(times - r).min() < 0.05 for r in inside)
    (video,) = (path for path in (tmp_path / "out").glob("P*/*.dcm") if not path.name.endswith("_ecg.dcm"))
    shown = package.read_cine(video).frames
    assert shown.shape[1] < 0.9 * frames.shape[1]


def test_a_stopped_run_goes_on(study: Path, tmp_path: Path, echogen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import echogen.app.cleaning as cleaning

    whole, calls = cleaning.save, []

    def stopped(*arguments: Any) -> Any:
        if calls:
            raise KeyboardInterrupt
        calls.append(arguments)
        return whole(*arguments)

    monkeypatch.setattr(cleaning, "save", stopped)
    with pytest.raises((KeyboardInterrupt, AssertionError)):
        assert echogen("clean", study, "-o", tmp_path / "out").code == 0
    monkeypatch.setattr(cleaning, "save", whole)
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("P*/*.dcm")}
    assert len(first) == 1
    assert echogen("clean", study, "-o", tmp_path / "out").code == 0
    assert len(list((tmp_path / "out").glob("P*/*.dcm"))) == 2
    assert all(path.stat().st_mtime_ns == time for path, time in first.items())
    assert not (tmp_path / "out/.unfinished.jsonl").exists()


def test_what_cannot_be_cleaned_is_one_sentence(study: Path, tmp_path: Path, echogen: Callable[..., Any]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/a").write_text("x")
    shutil.copy(str(get_testdata_file("CT_small.dcm")), tmp_path / "MUELLER_ct.dcm")
    for arguments, words in (
        ((tmp_path / "nowhere", "-o", tmp_path / "out"), "There is no file or folder"),
        ((study, "-o", study / "out"), "lies in the study"),
        ((study, "-o", tmp_path / "full"), "is not empty"),
        ((study, "-o", tmp_path / "out", "--link", tmp_path / "out/link.json"), "does not exist"),
        ((study, "-o", tmp_path / "new", "--link", tmp_path / "full/a"), "is no link file"),
        ((tmp_path / "MUELLER_ct.dcm", "-o", tmp_path / "out"), "None of 1 files could be cleaned"),
    ):
        done = echogen("clean", *arguments)
        assert (done.code, words in done.err) == (2, True), done.err
    report = (tmp_path / "out/report.json").read_text()
    assert "left_out" in report
    assert "MUELLER" not in report


def test_real_cines_keep_the_pixels_of_their_sector(test_data: Path, tmp_path: Path, echogen: Callable[..., Any]) -> None:
    for name in ("fodicom_DIRW0007_A4C.dcm", "echocv3_Image-43_A4C.dcm", "echonetdocs_Example1_A4C.mp4"):
        source, out = test_data / "real/cines" / name, tmp_path / name
        assert echogen("clean", source, "-o", out).code == 0
        (path,) = (path for path in out.glob("P*/*.dcm") if not path.name.endswith("_ecg.dcm"))
        if json.loads((out / "report.json").read_text())["files"][0]["colour"]:
            shown, recorded = read_colour(path).frames, read_colour(source).frames
        else:
            shown, recorded = (package.read_cine(file).frames[..., None] for file in (path, source))
        middle = shown[:, shown.shape[1] // 2, shown.shape[2] // 3 : 2 * shown.shape[2] // 3]
        assert any(
            np.array_equal(recorded[:, row, column : column + middle.shape[1]], middle)
            for row in range(recorded.shape[1])
            for column in np.flatnonzero((recorded[0, row] == middle[0, 0]).all(-1))
            if np.array_equal(recorded[0, row, column : column + middle.shape[1]], middle[0])
        ), name
        assert not text_beside_the_sector(shown.max(axis=-1))
        found = identifying_attributes(path)
        assert found is not None
        assert found["private_attributes"] == 0
        assert pydicom.dcmread(path).PatientName == path.parent.name
        assert read_waveform(path) is None
