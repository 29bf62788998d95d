"""Echo files of the kinds that others reported: the right value, or a sentence that names the matter and the option."""

import json
from fractions import Fraction

import av
import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from echogen import Cine, InputError, read_cine, write
from echogen.app.file_facts import describe
from echogen.cine import read_image
from echogen.cine.timing import steady_times
from echogen.measurement.beats import find_beats

MM = 1.3800928766181964
ROWS, COLUMNS = np.indices((150, 200))


def fan(frame=0):
    """A speckled fan of 150 x 200 pixels with its tip at (4, 100), with a darker ring that moves with the frame."""
    down, across = ROWS - 4, COLUMNS - 100
    radius, angle = np.hypot(down, across), np.arctan2(across, np.maximum(down, 1e-6))
    speckle = np.random.default_rng(frame).rayleigh(60, ROWS.shape)
    ring = np.where(np.abs(np.hypot(ROWS - 70, across) - 30 - 5 * np.sin(frame / 5)) < 10, 2.0, 0.7)
    return np.where((radius < 140) & (np.abs(angle) < 0.6), np.clip(speckle * ring, 8, 255), 0).astype(np.uint8)


FRAMES = np.stack([fan(frame) for frame in range(12)])


@pytest.fixture
def dataset(tmp_path):
    """A DICOM cine of 12 frames at 32 Hz, its one region being the whole picture."""
    write(Cine(FRAMES, np.arange(12) / 32.0, MM), tmp_path / "plain.dcm")
    found = pydicom.dcmread(tmp_path / "plain.dcm")
    for keyword in ("CineRate", "RecommendedDisplayFrameRate", "FrameIncrementPointer"):
        if keyword in found:
            delattr(found, keyword)
    found.FrameTime = "31.25"
    return found


def saved(tmp_path, dataset, name="a.dcm"):
    dataset.save_as(tmp_path / name)
    return tmp_path / name


def region(box, mm=MM, unit=3):
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = 1, 1, 0
    item.RegionLocationMinX0, item.RegionLocationMinY0, item.RegionLocationMaxX1, item.RegionLocationMaxY1 = box
    item.PhysicalUnitsXDirection = item.PhysicalUnitsYDirection = unit
    item.PhysicalDeltaX = item.PhysicalDeltaY = mm / 10
    return item


# --- the files themselves


RIGHT = {
    "B0_right_as_it_is.dcm": (48, 32.0, MM),
    "B11_16_bits_stored_12_used.dcm": (48, 32.0, MM),
    "B12_inset_region_first.dcm": (48, 32.0, MM),
    "B1_region_of_screen_1_6_times_larger.dcm": (48, 32.0, MM),
    "B2_increment_pointer_says_frame_time.dcm": (48, 32.0, MM),
    "B4_pixel_aspect_ratio_4_5.dcm": (48, 32.0, 0.8 * MM),
    "B7_starts_at_3_s.mkv": (48, 32.0, None),
    "B8_30_fps.mkv": (48, 30.0, None),
    "C11_image_and_waveform.dcm": (48, 32.0, MM),
    "C7_without_preamble.dcm": (48, 32.0, MM),
}
ASK_FOR_FPS = [
    "B2_frame_time_in_seconds.dcm",
    "B2_one_second_per_frame.nii",
    "B3_30_s_per_frame.gif",
    "B3_frame_time_in_microseconds.dcm",
    "B5_32_pages.tif",
    "C1_no_frame_time.dcm",
]


@pytest.mark.parametrize("name", RIGHT)
def test_a_reported_file_has_its_right_values(test_data, name):
    count, rate, mm = RIGHT[name]
    facts = describe(test_data / "reported" / name)
    assert (facts["frames"], facts["duration_s"]) == (count, pytest.approx(count / rate, rel=1e-3))
    assert facts["fps"] == pytest.approx(rate, rel=1e-3)
    assert facts["mm_per_pixel"] == (None if mm is None else pytest.approx(mm, rel=1e-3))
    picture = read_image(test_data / "reported" / name)
    control = read_image(test_data / "reported" / "B0_right_as_it_is.dcm")
    assert picture.mean() == pytest.approx(control.mean(), rel=0.05)


@pytest.mark.parametrize("name", ASK_FOR_FPS)
def test_a_reported_file_without_sensible_times_asks_for_them(test_data, name):
    path = test_data / "reported" / name
    for read in (read_cine, describe):
        with pytest.raises(InputError, match="--fps"):
            read(path)
    assert read_cine(path, fps=32).fps == pytest.approx(32)
    assert read_image(path).shape == (150, 200)


def test_the_reported_mirrored_picture_is_shown_as_viewers_show_it(test_data):
    control = read_image(test_data / "reported" / "B0_right_as_it_is.dcm").astype(int)
    upright = read_image(test_data / "reported" / "B6_exif_mirrored.jpg")
    assert np.abs(upright - control).mean() < 0.5 * np.abs(upright[:, ::-1] - control).mean()


def test_info_tells_of_the_picture_and_of_the_waveform(test_data):
    facts = describe(test_data / "reported" / "C11_image_and_waveform.dcm")
    assert (facts["kind"], facts["leads"], facts["rate_hz"]) == ("echo and ecg", 1, 500.0)
    assert (facts["frames"], facts["duration_s"], facts["ecg_duration_s"]) == (48, 1.5, 2.0)


def test_info_and_measure_refuse_alike(tmp_path, dataset):
    from echogen.cli import app

    dataset.FrameTime = "0.03125"
    path = str(saved(tmp_path, dataset))
    said = [str(CliRunner().invoke(app, [verb, path]).exception) for verb in ("info", "measure")]
    assert said[0] == said[1]
    assert "--fps" in said[0]


# --- times of DICOM files


@pytest.mark.parametrize("unit", [1e-3, 1e3, 32.0])
@pytest.mark.parametrize("field", ["FrameTime", "FrameTimeVector"])
def test_times_in_a_wrong_unit_are_refused(tmp_path, dataset, unit, field):
    del dataset.FrameTime
    setattr(dataset, field, 31.25 * unit if field == "FrameTime" else [0.0] + [31.25 * unit] * 11)
    with pytest.raises(InputError, match="frames/s, which no echocardiogram has; give the frame rate with --fps"):
        read_cine(saved(tmp_path, dataset))


def test_a_senseless_field_gives_way_to_a_sensible_one_with_a_note(tmp_path, dataset):
    dataset.FrameTime, dataset.CineRate = "0.03125", 32
    cine = read_cine(saved(tmp_path, dataset))
    assert cine.fps == pytest.approx(32)
    assert "FrameTime states 3.2e+04" in cine.notes[0]
    assert "CineRate" in cine.notes[0]


@pytest.mark.parametrize(("pointer", "rate"), [("FrameTime", 32.0), ("FrameTimeVector", 25.0), (None, 25.0)])
def test_the_increment_pointer_says_which_field_counts(tmp_path, dataset, pointer, rate):
    dataset.FrameTimeVector = [0.0] + [40.0] * 11
    if pointer:
        dataset.FrameIncrementPointer = pydicom.tag.Tag(pointer)
    cine = read_cine(saved(tmp_path, dataset))
    assert cine.fps == pytest.approx(rate)
    assert bool(cine.notes) == (pointer is None)  # two fields that disagree


def test_a_vector_of_increments_alone_and_whole_milliseconds(tmp_path, dataset):
    del dataset.FrameTime
    dataset.FrameTimeVector = [17.0, 16.0, 17.0, 17.0, 16.0, 17.0, 17.0, 16.0, 17.0, 17.0, 16.0]
    assert read_cine(saved(tmp_path, dataset)).fps == pytest.approx(60.0)
    del dataset.FrameTimeVector
    dataset.FrameTime, dataset.RecommendedDisplayFrameRate = "17", 60
    assert read_cine(saved(tmp_path, dataset)).fps == pytest.approx(60.0)


@given(rate=st.sampled_from([24, 25, 30, 47, 50, 60, 72, 100, 30000 / 1001]), count=st.integers(8, 60), down=st.booleans())
def test_rounded_stamps_give_the_rate_behind_them(rate, count, down):
    exact = np.arange(count) / rate
    stamps = (np.floor if down else np.round)(exact * 1000) / 1000
    found = steady_times(3.0 + stamps, 1e-3, [rate])
    np.testing.assert_allclose(found, exact, atol=1e-9 if np.ptp(np.diff(stamps)) > 1e-9 or 1000 % rate else 1e-3)
    assert np.abs(steady_times(stamps, 1e-3) - exact).max() <= 2.1e-3


def test_uneven_stamps_stay_as_they_are():
    stamps = np.array([0.0, 0.02, 0.06, 0.08, 0.10, 0.14])
    np.testing.assert_array_equal(steady_times(stamps, 1e-3), stamps)


# --- scale of DICOM files


@pytest.mark.parametrize("order", [1, -1])
def test_the_region_that_holds_the_sector_sets_the_scale(tmp_path, dataset, order):
    regions = [region((0, 0, 30, 30), 2 * MM), region((30, 0, 170, 149))]
    dataset.SequenceOfUltrasoundRegions = regions[::order]
    assert read_cine(saved(tmp_path, dataset)).mm_per_pixel == pytest.approx(MM)


def test_a_scale_of_what_is_beside_the_sector_is_not_used(tmp_path, dataset):
    dataset.SequenceOfUltrasoundRegions = [region((0, 0, 25, 60)), region((30, 0, 170, 149), unit=0)]
    cine = read_cine(saved(tmp_path, dataset))
    assert cine.mm_per_pixel is None
    assert "do not hold the sector" in cine.notes[0]


@pytest.mark.parametrize("factor", [1.3, 1.6, 2.0, 2.56, 3.2])
def test_a_region_of_the_whole_larger_screen_is_scaled(tmp_path, dataset, factor):
    dataset.SequenceOfUltrasoundRegions = [region((0, 0, round(200 * factor) - 1, round(150 * factor) - 1), MM / factor)]
    cine = read_cine(saved(tmp_path, dataset))
    assert cine.mm_per_pixel == pytest.approx(MM, rel=0.01)
    assert "larger" in cine.notes[0] or "times as large" in cine.notes[0]


@pytest.mark.parametrize("factor", [1.6, 3.2, 4.0])
def test_a_part_of_a_larger_screen_is_scaled_by_the_screen_on_which_it_fits_the_sector_or_not_at_all(tmp_path, dataset, factor):
    left, top, right, bottom = (round(factor * edge) for edge in (20, 3, 180, 145))
    dataset.SequenceOfUltrasoundRegions = [region((left, top, right, bottom), MM / factor)]
    cine = read_cine(saved(tmp_path, dataset))
    if max(right / 200, bottom / 150) > 1.02:
        assert cine.mm_per_pixel in (None, pytest.approx(MM, rel=0.01))
        assert cine.notes


@pytest.mark.parametrize("how", ["deltas", "ratio", "both"])
def test_pixels_that_are_not_square_become_so(tmp_path, dataset, how):
    wide = np.stack([np.asarray(Image.fromarray(frame).resize((250, 150))) for frame in FRAMES])
    dataset.Columns, dataset.PixelData = 250, wide.tobytes()
    dataset.SequenceOfUltrasoundRegions = [region((0, 0, 249, 149))]
    if how == "ratio":
        del dataset.SequenceOfUltrasoundRegions
    else:
        dataset.SequenceOfUltrasoundRegions[0].PhysicalDeltaX = 0.8 * MM / 10
    if how != "deltas":
        dataset.PixelAspectRatio = [5, 4]
    cine = read_cine(saved(tmp_path, dataset))
    assert cine.frames.shape == (12, 188, 250)
    assert cine.mm_per_pixel == (None if how == "ratio" else pytest.approx(0.8 * MM))
    assert "0.8 times as wide" in cine.notes[-1]


def test_a_scale_in_the_wrong_unit_is_not_used(tmp_path, dataset):
    dataset.SequenceOfUltrasoundRegions = [region((0, 0, 199, 149), 10 * MM)]
    cine = read_cine(saved(tmp_path, dataset))
    assert cine.mm_per_pixel is None
    assert "mm high" in cine.notes[0]


# --- depth and form of DICOM files


@pytest.mark.parametrize("used", [8, 10, 12, 16])
@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_wide_words_are_as_bright_as_the_bits_they_use(tmp_path, dataset, used, photometric):
    top = 2**used - 1
    deep = np.round(FRAMES * (top / 255.0)).astype(np.uint16)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PhotometricInterpretation = photometric
    dataset.PixelData = (top - deep if photometric == "MONOCHROME1" else deep).tobytes()
    dataset["PixelData"].VR = "OW"
    cine = read_cine(saved(tmp_path, dataset))
    assert np.abs(cine.frames.astype(int) - FRAMES).max() <= 1
    assert bool(cine.notes) == (used < 16)


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("meta", [True, False])
def test_a_data_set_without_preamble_is_read(tmp_path, dataset, implicit, meta):
    syntax = pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(tmp_path / "whole.dcm", dataset, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    content = (tmp_path / "whole.dcm").read_bytes()[132:]
    if not meta:
        length = int.from_bytes(content[8:12], "little")
        content = content[12 + length :]
    (tmp_path / "bare.dcm").write_bytes(content)
    np.testing.assert_array_equal(read_cine(tmp_path / "bare.dcm").frames, FRAMES)
    assert describe(tmp_path / "bare.dcm")["format"] == "DICOM"


# --- videos


def video(path, stamps, *, clock=Fraction(1, 1000), aspect=None, frames=FRAMES):
    """A video whose frames have these time stamps, in ticks of the clock."""
    codec = "ffv1" if path.suffix == ".mkv" and aspect is None else "mpeg4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=32)
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "gray" if codec == "ffv1" else "yuv420p"
        stream.codec_context.time_base = clock
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for picture, stamp in zip(frames, stamps, strict=False):
            frame = av.VideoFrame.from_ndarray(picture, format="gray").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = stamp, clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_a_clock_that_starts_late_is_complete(tmp_path, suffix):
    cine = read_cine(video(tmp_path / f"a{suffix}", [96 + k for k in range(12)], clock=Fraction(1, 32)))
    assert len(cine.frames) == 12
    np.testing.assert_allclose(cine.times_s, np.arange(12) / 32, atol=1e-6)
    assert cine.notes == ()


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov", ".avi"])
def test_a_clock_that_pauses_is_complete_and_told(tmp_path, suffix):
    stamps = [*range(6), *range(70, 76)]
    cine = read_cine(video(tmp_path / f"a{suffix}", stamps, clock=Fraction(1, 32)))
    np.testing.assert_allclose(cine.times_s, np.array(stamps) / 32, atol=1e-3)
    assert "jumps by 2.03 s after frame 6" in cine.notes[0]
    assert "--fps" in cine.notes[0]


def test_a_matroska_file_without_its_end_is_refused(tmp_path):
    content = video(tmp_path / "a.mkv", [96 + k for k in range(12)], clock=Fraction(1, 32)).read_bytes()
    (tmp_path / "a.mkv").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cut short"):
        read_cine(tmp_path / "a.mkv")


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".avi"])
def test_a_sample_aspect_ratio_is_undone(tmp_path, suffix):
    wide = np.stack([np.asarray(Image.fromarray(frame).resize((250, 150))) for frame in FRAMES])
    cine = read_cine(video(tmp_path / f"a{suffix}", range(12), clock=Fraction(1, 32), aspect=Fraction(4, 5), frames=wide))
    assert cine.frames.shape == (12, 188, 250)
    assert read_image(tmp_path / f"a{suffix}").shape == (188, 250)


@pytest.mark.parametrize(("matrix", "turn"), [((0, 1, -1, 0), lambda f: np.rot90(f, -1)), ((-1, 0, 0, 1), lambda f: f[:, ::-1])])
def test_a_display_matrix_is_followed(tmp_path, matrix, turn):
    path = video(tmp_path / "a.mp4", range(12), clock=Fraction(1, 32))
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40  # version 0: the matrix follows 40 bytes
    for place, value in zip((0, 1, 3, 4), matrix, strict=True):
        content[start + 4 * place : start + 4 * place + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(content)
    assert np.abs(read_image(path).astype(int) - turn(FRAMES[0])).mean() < 6


# --- pictures


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_followed(tmp_path, suffix, orientation):
    image = Image.fromarray(FRAMES[0])
    exif = Image.Exif()
    exif[274] = orientation
    how = {".webp": {"lossless": True}, ".tif": {"compression": "tiff_lzw"}}.get(suffix, {})
    image.save(tmp_path / f"a{suffix}", exif=exif, **how)
    stored = FRAMES[0]
    mirrored = {2: stored[:, ::-1], 4: stored[::-1], 5: stored.T, 7: stored.T[::-1, ::-1]}
    upright = {1: stored, 3: stored[::-1, ::-1], 6: np.rot90(stored, -1), 8: np.rot90(stored), **mirrored}[orientation]
    assert np.abs(read_image(tmp_path / f"a{suffix}").astype(int) - upright).mean() < 6


def test_an_uncompressed_tiff_on_its_side_is_refused(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(FRAMES[0]).save(tmp_path / "a.tif", exif=exif)
    with pytest.raises(InputError, match="save it upright"):
        read_image(tmp_path / "a.tif")


def test_pages_of_a_tiff_are_frames(tmp_path):
    pages = [Image.fromarray(frame) for frame in FRAMES]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(InputError, match="12 pages follow each other; give the frame rate with --fps"):
        read_cine(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_cine(tmp_path / "a.tif", fps=32).frames, FRAMES)
    assert describe(tmp_path / "a.tif", fps=32)["format"] == "TIFF"
    pages[0].save(tmp_path / "j.tif", save_all=True, append_images=pages[1:], tiffinfo={270: "ImageJ=1.54f\nfinterval=0.04\n"})
    assert read_cine(tmp_path / "j.tif").fps == pytest.approx(25)
    pages[0].save(tmp_path / "s.tif", save_all=True, append_images=[pages[1].resize((100, 75))])
    with pytest.raises(InputError, match="differ in size"):
        read_cine(tmp_path / "s.tif", fps=32)


@pytest.mark.parametrize("used", [8, 12, 16])
@pytest.mark.parametrize("suffix", [".tif", ".png"])
def test_deep_pictures_are_as_bright_as_the_bits_they_use(tmp_path, suffix, used):
    deep = np.round(FRAMES[0] * ((2**used - 1) / 255.0)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / f"a{suffix}")
    assert np.abs(read_image(tmp_path / f"a{suffix}").astype(int) - FRAMES[0]).max() <= 1


def test_an_animated_webp_has_its_durations_and_its_name(tmp_path):
    pictures = [Image.fromarray(frame).convert("RGB") for frame in FRAMES]
    durations = [31, 31, 32] * 4
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=durations, lossless=True)
    facts = describe(tmp_path / "a.webp")
    assert (facts["format"], facts["frames"]) == ("WebP", 12)
    assert facts["fps"] == pytest.approx(32, rel=0.01)


def test_a_gif_that_states_no_durations_says_so(tmp_path):
    pictures = [Image.fromarray(frame) for frame in FRAMES]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    assert "states no durations" in describe(tmp_path / "a.gif")["warnings"][0]
    pictures[0].save(tmp_path / "b.gif", save_all=True, append_images=pictures[1:], duration=30)
    assert "28.6 to 40.0 frames/s" in describe(tmp_path / "b.gif")["warnings"][0]


def test_a_resolution_that_differs_both_ways_is_undone(tmp_path):
    wide = Image.fromarray(FRAMES[0]).resize((250, 150))
    for suffix in (".jpg", ".png", ".tif", ".bmp"):
        wide.save(tmp_path / f"a{suffix}", dpi=(90, 72))
        height, width = read_image(tmp_path / f"a{suffix}").shape
        assert (height, width) == (pytest.approx(187.5, abs=1), 250)  # PNG and BMP keep whole pixels per metre


# --- research formats


def test_one_second_a_frame_and_arrays_without_times(tmp_path):
    write(Cine(FRAMES, np.arange(12) * 1.0), tmp_path / "a.nii")
    write(Cine(FRAMES, np.arange(12) * 31.25), tmp_path / "ms.npz")
    np.savez(tmp_path / "timeless.npz", frames=FRAMES)
    for name in ("a.nii", "ms.npz", "timeless.npz"):
        for read in (read_cine, describe):
            with pytest.raises(InputError, match="give the frame rate with --fps"):
                read(tmp_path / name)
        assert read_cine(tmp_path / name, fps=32).fps == pytest.approx(32)


def test_deep_arrays_are_as_bright_as_the_bits_they_use(tmp_path):
    deep = np.round(FRAMES * (4095 / 255.0)).astype(np.uint16)
    np.savez(tmp_path / "a.npz", frames=deep, times_s=np.arange(12) / 32)
    cine = read_cine(tmp_path / "a.npz")
    assert np.abs(cine.frames.astype(int) - FRAMES).max() <= 1
    assert "uses 12" in cine.notes[0]


def test_beats_of_a_clock_that_pauses_do_not_crash():
    times = np.concatenate([np.arange(40) / 30, 6.0 + np.arange(40) / 30])
    volume = 100 + 30 * np.cos(2 * np.pi * times / 0.9)
    assert all(beat.es_s > beat.ed_s for beat in find_beats(times, volume))
    assert isinstance(find_beats(np.arange(20) * 30.0, volume[:20]), tuple)


def test_notes_are_in_the_json_of_info(tmp_path, dataset):
    from echogen.cli import app

    dataset.SequenceOfUltrasoundRegions = [region((0, 0, 319, 239), MM / 1.6)]
    result = CliRunner().invoke(app, ["info", "--json", str(saved(tmp_path, dataset))])
    assert any("1.6 times as large" in warning for warning in json.loads(result.stdout)["warnings"])
