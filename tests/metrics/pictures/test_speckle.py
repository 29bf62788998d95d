import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from echogen.metrics.pictures import speckle

ROWS, COLUMNS = np.mgrid[:128, :128]
DOWN, ACROSS = ROWS - speckle.APEX_ROW, COLUMNS - speckle.APEX_COLUMN
RADIUS, ANGLE = np.hypot(DOWN, ACROSS), np.arctan2(ACROSS, DOWN)
REGION = (RADIUS > 30) & (RADIUS < 105) & (np.abs(ANGLE) < 0.5)


def fan_texture(axial_sigma, lateral_sigma_deg, seed=0):
    """Gaussian texture of known width along the beam (px) and across it (degrees), in the canonical fan."""
    noise = np.random.default_rng(seed).standard_normal((480, 720))  # 0.25 px by 0.125 degrees
    polar = gaussian_filter(noise, (axial_sigma * 4, lateral_sigma_deg * 8), mode="wrap")
    return 100 + 20 * map_coordinates(polar / polar.std(), [RADIUS * 4, np.rad2deg(ANGLE) * 8 + 360], order=1)


@pytest.mark.parametrize(("axial", "degrees"), [(0.9, 1.2), (1.2, 2.0)])
def test_widths_are_those_of_the_texture(axial, degrees):
    texture = np.stack([fan_texture(axial, degrees, seed) for seed in range(3)])
    found_axial, found_lateral = speckle.speckle_widths(texture, REGION)
    # White noise filtered with sigma has a Gaussian autocorrelation of sigma sqrt(2): FWHM = 2.355 x 1.414 sigma.
    width = 2 * np.sqrt(2 * np.log(2)) * np.sqrt(2)
    assert found_axial == pytest.approx(width * axial, rel=0.15)
    assert found_lateral == pytest.approx(width * np.deg2rad(degrees) * RADIUS[REGION].mean(), rel=0.2)


def test_contrast_and_correlation():
    random = np.random.default_rng(0)
    first, second = fan_texture(1, 1.5, 1), fan_texture(1, 1.5, 2)
    mixed = 100 + 0.8 * (first - 100) + 0.6 * (second - 100)
    assert speckle.frame_correlation(np.stack([first, mixed]), REGION) == pytest.approx(0.8, abs=0.08)
    assert speckle.frame_correlation(np.stack([first, first]), REGION) == pytest.approx(1)
    assert np.isnan(speckle.frame_correlation(first, REGION))
    white = 100 + 10 * random.standard_normal((128, 128))
    assert speckle.speckle_contrast(white, REGION) == pytest.approx(0.1, rel=0.05)
    # A slow change of brightness is no speckle.
    assert speckle.speckle_contrast(white + 0.5 * ROWS, REGION) * (white + 0.5 * ROWS)[REGION].mean() == pytest.approx(
        10, rel=0.1
    )


def test_percentiles_in_a_region():
    frames = np.broadcast_to(np.arange(128, dtype=np.uint8), (2, 128, 128))
    region = np.zeros((128, 128), bool)
    region[:, :101] = True
    assert speckle.grey_percentiles(frames, region) == (10, 50, 90)
    assert np.isnan(speckle.grey_percentiles(frames, ~np.ones((128, 128), bool))[1])


def test_statistics_of_an_empty_region_are_unknown():
    found = speckle.speckle_statistics(np.zeros((2, 128, 128), np.uint8), np.zeros((128, 128), bool))
    assert np.isnan([found.axial_px, found.lateral_px, found.contrast, found.frame_correlation]).all()
