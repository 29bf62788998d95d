import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pydicom.data import get_testdata_file

from echogen import InputError
from echogen.cine import Sector, find_sector, read_cine, to_sector


def fan_picture(height, width, sector, seed=0, frames=1):
    """Speckle inside a fan on black, as an echo machine shows it."""
    rng = np.random.default_rng(seed)
    speckle = np.clip(rng.rayleigh(45, (frames, height, width)), 0, 255).astype(np.uint8)
    return np.where(sector.inside(height, width), np.maximum(speckle, 12), 0).astype(np.uint8)


CANONICAL = Sector(6, 64, 112, 0.62, 0.62)


def test_canonical_frames_pass_unchanged():
    frames = fan_picture(128, 128, CANONICAL, frames=3)
    result, factor = to_sector(frames)
    assert factor == 1.0
    np.testing.assert_array_equal(result, frames)
    still, _ = to_sector(frames[0])
    np.testing.assert_array_equal(still, frames[0])


def test_larger_canonical_pictures_are_only_resized():
    frames = fan_picture(512, 512, Sector(24, 256, 448, 0.62, 0.62))
    result, factor = to_sector(frames)
    assert factor == 4.0
    expected = frames.reshape(1, 128, 4, 128, 4).mean(axis=(2, 4))
    assert np.abs(result - expected).mean() < 4


@settings(max_examples=15)
@given(
    apex=st.tuples(st.floats(5, 60), st.floats(290, 330)),
    radius=st.floats(200, 340),
    half_angle=st.floats(0.45, 0.80),
    seed=st.integers(0, 1000),
)
def test_a_fan_anywhere_lands_in_the_canonical_place(apex, radius, half_angle, seed):
    sector = Sector(*apex, radius, half_angle, half_angle)
    picture = fan_picture(480, 640, sector, seed)[0]
    pen_image = Image.fromarray(picture)
    pen = ImageDraw.Draw(pen_image)
    pen.text((8, 8), "PATIENT 0815\nMI 0.9", fill=255)
    pen.rectangle((20, 462, 620, 478), fill=180)
    pen.rectangle((628, 60, 634, 300), fill=200)
    found = find_sector(np.asarray(pen_image))
    assert abs(found.apex_row - apex[0]) < 0.03 * radius
    assert abs(found.apex_column - apex[1]) < 0.03 * radius
    assert abs(found.radius - radius) < 0.03 * radius
    result, factor = to_sector(np.asarray(pen_image))
    assert factor == pytest.approx(found.radius / 112)
    assert result.shape == (128, 128)
    assert result[:5, :40].max() == 0
    assert result[121:].max() == 0


def test_pydicom_cine_is_found_from_its_motion():
    cine = read_cine(get_testdata_file("examples_ybr_color.dcm"))
    sector = find_sector(cine.frames)
    # Measured on the edges of the moving part: the tip near row 8, column 169; the arc near row 204.
    assert abs(sector.apex_row - 8) < 5
    assert abs(sector.apex_column - 169.5) < 4
    assert abs(sector.apex_row + sector.radius - 203) < 4
    assert 0.7 < min(sector.left, sector.right) <= max(sector.left, sector.right) < 0.82
    result, factor = to_sector(cine.frames)
    assert result.shape == (30, 128, 128)
    assert factor == pytest.approx(sector.radius / 112)
    # Menu bar, marks and text are gone; the heart is there.
    assert result[:, 121:].max() == 0
    assert result[:, 20:110, 30:100].mean() > 10
    # A single frame, whose sides are dark, is found about as well.
    still = find_sector(cine.frames[0])
    assert abs(still.apex_column - sector.apex_column) < 8
    assert abs(still.apex_row + still.radius - sector.apex_row - sector.radius) < 8


def test_real_video_and_camus_still_are_found(test_data):
    nibabel = pytest.importorskip("nibabel")
    video = read_cine(test_data / "echo_video" / "echotracker_input.mp4")
    sector = find_sector(video.frames)
    assert abs(sector.apex_column - 512.4) < 8
    assert abs(sector.apex_row + 9.8) < 15
    assert abs(sector.apex_row + sector.radius - 767) < 8
    still = np.asarray(nibabel.load(test_data / "echo_camus" / "patient0213_4CH_ED.nii").dataobj).T.astype(np.uint8)
    camus = find_sector(still)
    assert abs(camus.apex_row) < 5
    assert abs(camus.apex_column - 225) < 4
    assert abs(camus.radius - 421) < 6
    result, _ = to_sector(still)
    again, factor = to_sector(result)
    assert factor == 1.0
    np.testing.assert_array_equal(again, result)


def test_pictures_that_are_no_echo_are_refused():
    rng = np.random.default_rng(0)
    ramp = np.tile(np.linspace(0, 255, 200).astype(np.uint8), (150, 1))
    photo = np.asarray(Image.fromarray(rng.integers(0, 256, (6, 8), dtype=np.uint8)).resize((320, 240), Image.Resampling.BICUBIC))
    square = np.zeros((240, 320), np.uint8)
    square[60:200, 80:240] = rng.integers(20, 200, (140, 160))
    upside_down = fan_picture(300, 300, Sector(20, 150, 250, 0.6, 0.6))[0, ::-1]
    text = Image.new("L", (320, 240))
    ImageDraw.Draw(text).text((20, 40), "no echo here\nonly words", fill=255)
    pictures = [ramp, ramp.T, photo, square, upside_down, np.asarray(text), rng.integers(0, 256, (128, 128), dtype=np.uint8)]
    pictures += [np.full((128, 128), level, np.uint8) for level in (0, 90, 255)] + [np.zeros((3, 5), np.uint8)]
    for picture in pictures:
        with pytest.raises(InputError, match="echocardiogram"):
            to_sector(picture)
    for wrong in (np.zeros((8, 8)), np.zeros(5, np.uint8), np.zeros((0, 8, 8), np.uint8)):
        with pytest.raises(InputError):
            to_sector(wrong)


def test_real_pictures_that_are_no_echo_are_refused(test_data):
    pictures = sorted((test_data / "echo_dicom" / "negatives_not_echo").glob("*.dcm"))
    assert pictures
    for path in pictures:
        with pytest.raises(InputError, match="echocardiogram"):
            to_sector(read_cine(path).frames)


def test_a_panel_below_the_arc_is_left_out():
    sector = Sector(10, 160, 180, 0.7, 0.7)
    frames = fan_picture(240, 320, sector, frames=8)
    rng = np.random.default_rng(1)
    frames[:, 196:230, 50:190] = rng.integers(0, 200, (8, 34, 140), dtype=np.uint8)
    found = find_sector(frames)
    assert found.radius == pytest.approx(180, abs=5)
    assert found.apex_row == pytest.approx(10, abs=5)


def test_a_fan_that_was_zoomed_into_is_found_without_its_tip():
    sector = Sector(-30, 190, 420, 1.0, 1.0)
    found = find_sector(fan_picture(288, 384, sector, frames=8))
    inside = sector.inside(288, 384)
    assert (found.inside(288, 384) & inside).sum() > 0.93 * inside.sum()


def test_apical_cines_of_patients_are_found(test_data):
    names = ("echocv3_Image-43_A4C.dcm", "echonetdocs_Example1_A4C.mp4", "godicom_I_000009_A4C.dcm", "godicom_I_000022_A2C.dcm")
    for name in names:
        cine = read_cine(test_data / "real" / "cines" / name)
        found = find_sector(cine.frames)
        # The whole fan is in the picture or cut by its edge; none reaches into the panel of an ECG at the foot.
        assert found.apex_row + found.radius < 1.45 * cine.frames.shape[1]
        if name.startswith("echocv3"):
            assert found.apex_row + found.radius == pytest.approx(517, abs=8)
