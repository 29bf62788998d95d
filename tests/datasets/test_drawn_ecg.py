"""The ECG that is drawn into echo pictures: R peaks where they were, and no ECG where none is drawn."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from echogen import Cine, Ecg, InputError, read_study, write
from echogen.cine.colour import ColourCine, read_colour
from echogen.cine.drawn_line import DrawnLine
from echogen.cine.drawn_sweep import DrawnSignal, line_signal
from echogen.datasets.drawn_ecg import RATE_HZ, DrawnEcg, find_drawn_ecg, judge_signal, read_drawn_ecg
from echogen.testing.drawn_traces import ECG_RATE_HZ, Recorded, draw, record
from echogen.testing.machine_styles import NOT_AN_ECG, STYLES, Style

SECONDS = 2.5
SEED = 11
SHOWN = (
    "scrolling, green",
    "sweep with a gap, green, text beside",
    "sweep, over the sector's edge",
    "static with a triangle, thin, grid and text",
    "static, JPEG, low resolution",
    "static, white on grey",
)
REFUSED = (
    "no trace, text and menu",
    "static trace without a marker",
    "respiration, scrolling",
    "colour Doppler",
    "noise, scrolling",
    "wall velocity, static with a line",
    "scale with ticks, static with a line",
)
#: Real cines: the heart rate that the picture prints, else the file states, and whether it is printed.
REAL = {
    "echocv3_Image-43_A4C.dcm": (54, True),
    "fodicom_DIRW0007_A4C.dcm": (61, True),
    "raventan_plax_test2.mp4": (77, True),
    "echonetdocs_Example1_A4C.mp4": (61, False),
    "godicom_I_000001_PLAX.dcm": (117, False),
}


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    """A simulated heart and its ECG."""
    return record(SEED, SECONDS)


def _style(name: str) -> Style:
    return next(style for style in STYLES + NOT_AN_ECG if style.name == name)


def _errors_s(found: DrawnEcg, recorded: Recorded) -> np.ndarray:
    """Found minus true R peaks inside the video; both must be equally many."""
    assert found.r_s is not None
    inside = [r[(r > 0.05) & (r < SECONDS - 0.08)] for r in (found.r_s, recorded.r_s)]
    assert len(inside[0]) == len(inside[1])
    return np.asarray(inside[0] - inside[1])


@pytest.mark.parametrize("name", SHOWN)
def test_r_peaks_are_found_within_a_frame_in_every_manner(recorded: Recorded, name: str) -> None:
    style = _style(name)
    found = find_drawn_ecg(ColourCine(draw(recorded, style, 5), recorded.times_s[:: style.every]))
    assert found.accepted, found.reasons
    assert found.manner == {"scroll": "scrolling", "sweep": "sweeping", "static": "standing"}[style.mode]
    assert np.abs(_errors_s(found, recorded)).max() < 1 / 32
    assert found.heart_rate_bpm == pytest.approx(recorded.heart_rate_bpm, rel=0.08)
    assert found.ecg is not None
    assert found.ecg.start_s < 0.1
    assert found.ecg.end_s > SECONDS - 0.15


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_ecg_or_has_no_clock_is_rejected_with_a_reason(recorded: Recorded, name: str) -> None:
    found = find_drawn_ecg(ColourCine(draw(recorded, _style(name), 5), recorded.times_s))
    assert not found.accepted
    assert found.reasons[0].endswith(".")


def test_the_drawn_shape_is_the_recorded_shape(recorded: Recorded) -> None:
    style = _style("static with a line, yellow, R ticks")
    ecg = find_drawn_ecg(ColourCine(draw(recorded, style, 5), recorded.times_s)).ecg
    assert ecg is not None
    times = np.arange(0.1, 2.3, 0.004)
    drawn = np.interp(times, ecg.times_s, ecg.signal_mv[0])
    true = np.interp(times, recorded.start_s + np.arange(len(recorded.lead_mv)) / ECG_RATE_HZ, recorded.lead_mv)
    assert np.corrcoef(drawn, true)[0, 1] > 0.9
    assert np.ptp(drawn) == pytest.approx(1.0, abs=0.3)


@pytest.fixture(scope="module")
def own_video(recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that this package wrote with the ECG under it."""
    path = tmp_path_factory.mktemp("drawn") / "own.mp4"
    ecg = Ecg(recorded.lead_mv[None], 500.0, ("II",), recorded.start_s)
    write(Cine(recorded.frames, recorded.times_s), path, ecg=ecg)
    return path


def test_a_video_gives_back_the_ecg_that_was_written_under_it(recorded: Recorded, own_video: Path) -> None:
    study = read_study(own_video)
    assert study.ecg is not None
    assert len(study.cine.frames) == len(recorded.frames)
    assert np.abs(_errors_s(read_drawn_ecg(own_video), recorded)).max() < 1 / 32


def test_info_and_measure_use_the_drawn_ecg(
    echogen: Callable[..., Any], own_video: Path, recorded: Recorded, tmp_path: Path
) -> None:
    facts = json.loads(echogen("info", own_video, "--json").out)["drawn_ecg"]
    assert facts["verdict"] in ("good", "usable")
    assert facts["heart_rate_bpm"] == pytest.approx(recorded.heart_rate_bpm, rel=0.08)
    reading = json.loads(echogen("measure", own_video, "--ecg", "drawn", "--json").out)
    assert reading["matched_fraction"] >= 0.5
    bare = tmp_path / "bare.mp4"
    write(Cine(recorded.frames, recorded.times_s), bare)
    assert json.loads(echogen("info", bare, "--json").out)["drawn_ecg"] is None
    refused = echogen("measure", bare, "--ecg", "drawn")
    assert refused.code == 2
    assert "No line is drawn" in refused.err


def test_a_dicom_file_gives_colours_heart_rate_and_the_scale_of_its_ecg_region(recorded: Recorded, tmp_path: Path) -> None:
    from pydicom import Dataset

    from echogen.cine.dicom_writing import dicom_study

    frames = draw(recorded, _style("scrolling, green"), 5)
    plain = find_drawn_ecg(ColourCine(frames, recorded.times_s))
    assert plain.column_s is not None
    stated_s = 1.002 * plain.column_s
    data, _ = dicom_study(Cine(frames[..., 0], recorded.times_s))
    data.PhotometricInterpretation, data.SamplesPerPixel, data.PlanarConfiguration = "RGB", 3, 0
    data.PixelData, data.HeartRate = frames.tobytes(), round(recorded.heart_rate_bpm)
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType = 4, 10
    region.RegionLocationMinX0, region.RegionLocationMinY0, region.RegionLocationMaxX1, region.RegionLocationMaxY1 = (
        20,
        250,
        380,
        295,
    )
    region.PhysicalUnitsXDirection, region.PhysicalUnitsYDirection = 4, 0
    region.PhysicalDeltaX, region.PhysicalDeltaY = stated_s, 0.0
    data.SequenceOfUltrasoundRegions = [region]
    path = tmp_path / "scroll.dcm"
    data.save_as(path, enforce_file_format=True)
    read = read_colour(path)
    np.testing.assert_array_equal(read.frames, frames)
    assert read.heart_rate_bpm == round(recorded.heart_rate_bpm)
    assert read.ecg_seconds_per_pixel == pytest.approx(stated_s)
    found = find_drawn_ecg(read)
    assert found.verdict == "good", found.reasons
    assert found.column_s == pytest.approx(stated_s, rel=1e-9)
    assert np.abs(_errors_s(found, recorded)).max() < 1 / 32


def test_pictures_keep_their_colours_and_grey_files_stay_grey(tmp_path: Path) -> None:
    colours = np.zeros((8, 8, 3), dtype=np.uint8)
    colours[2:5, 3:6] = (250, 20, 90)
    Image.fromarray(colours).save(tmp_path / "still.png")
    np.testing.assert_array_equal(read_colour(tmp_path / "still.png").frames[0], colours)
    grey = Cine(np.arange(5 * 64, dtype=np.uint8).reshape(5, 8, 8), np.arange(5) / 10)
    write(grey, tmp_path / "grey.npz")
    read = read_colour(tmp_path / "grey.npz")
    np.testing.assert_array_equal(read.frames, np.repeat(grey.frames[..., None], 3, axis=-1))
    np.testing.assert_array_equal(read.times_s, grey.times_s)
    with pytest.raises(InputError, match="no file"):
        read_colour(tmp_path / "nothing.mp4")


def _heights(times_s: np.ndarray, rr_s: float) -> np.ndarray:
    """A curve with a peak every rr_s."""
    phase = (times_s + 0.5 * rr_s) % rr_s - 0.5 * rr_s
    return np.asarray(30 * np.exp(-0.5 * (phase / 0.012) ** 2) + 5 * np.exp(-0.5 * ((phase - 0.22) / 0.04) ** 2))


@given(
    sweep_s=st.floats(1.6, 6.0),
    width=st.integers(270, 700),
    fps=st.floats(15, 60),
    rr_s=st.floats(0.45, 1.3),
    whole=st.booleans(),
)
def test_the_speed_of_a_scrolling_line_is_measured_for_any_sweep(
    sweep_s: float, width: int, fps: float, rr_s: float, whole: bool
) -> None:
    times = np.arange(round(2.5 * fps)) / fps
    speed = width / sweep_s
    newest = np.rint(times * speed) / speed if whole else times
    row = 100.0 - _heights(newest[:, None] - (width - 1 - np.arange(width))[None] / speed, rr_s)
    line = DrawnLine(row.astype(np.float32), np.ones(row.shape, np.float32), 1.0, 0, 60, 102, (0, 255, 0))
    signal = line_signal(line, np.zeros((len(times), 1, 1, 3), np.uint8), times)
    assert signal is not None
    assert signal.manner == "scrolling"
    assert signal.pixels_per_s == pytest.approx(speed, rel=0.02)


def test_the_stated_heart_rate_decides_between_beats_and_twice_as_many() -> None:
    times = np.arange(0, 6, 0.01)
    double = _heights(times, 1.0) + 0.8 * _heights(times + 0.5, 1.0)
    signal = DrawnSignal(times, double, "standing", 100.0, 1.0, 1.0)
    alone, told = judge_signal(signal, times), judge_signal(signal, times, 60.0)
    assert alone.heart_rate_bpm == pytest.approx(120.0, rel=0.02)
    assert told.heart_rate_bpm == pytest.approx(60.0, rel=0.02)
    assert told.r_s is not None
    assert np.abs(told.r_s - np.rint(told.r_s)).max() < 0.02
    other = judge_signal(DrawnSignal(times, _heights(times, 1.0), "standing", 100.0, 1.0, 1.0), times, 90.0)
    assert other.verdict == "rejected"
    assert "the file states 90" in other.reasons[0]
    assert other.ecg is not None
    assert other.ecg.rate_hz == RATE_HZ


def test_no_real_file_without_a_drawn_ecg_is_accepted(test_data: Path) -> None:
    from pydicom.data import get_testdata_file

    paths = [test_data / "echo_video" / "echotracker_input.mp4", *(test_data / "echo_dicom").rglob("*.dcm")]
    paths += [Path(str(get_testdata_file(name))) for name in ("examples_jpeg2k.dcm", "examples_ybr_color.dcm")]
    for path in paths:
        assert read_study(path).ecg is None


@pytest.mark.parametrize("name", REAL)
def test_the_rate_of_a_real_trace_is_right_or_refused(test_data: Path, name: str) -> None:
    found = read_drawn_ecg(test_data / "real" / "cines" / name)
    rate, printed = REAL[name]
    assert found.line
    assert not found.accepted or found.heart_rate_bpm == pytest.approx(rate, rel=0.03)
    assert found.printed_rate_bpm == (rate if printed else None)


@pytest.mark.parametrize("name", ["echonetdocs_Example1_A4C.mp4", "godicom_I_000001_PLAX.dcm"])
def test_a_real_trace_whose_clock_is_right_is_read(test_data: Path, name: str) -> None:
    assert read_drawn_ecg(test_data / "real" / "cines" / name).accepted
