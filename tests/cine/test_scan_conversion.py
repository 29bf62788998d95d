"""Beamspace to Cartesian: what was sampled on the beams lies where it was, for any geometry."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echogen import InputError
from echogen.cine.scan_conversion import BeamGeometry, native_mm_per_pixel, scan_convert


def pattern(x_mm, y_mm):
    """A smooth picture with no symmetry, 30..220."""
    return 125 + 60 * np.sin(x_mm / 17.0 + 0.4) + 35 * np.cos(y_mm / 23.0)


def on_beams(geometry, depths, beams):
    depth = np.linspace(geometry.depth_start_mm, geometry.depth_end_mm, depths)[:, None]
    angle = np.linspace(geometry.angle_start_rad, geometry.angle_end_rad, beams)[None]
    return pattern(depth * np.sin(angle), depth * np.cos(angle)).round().astype(np.uint8)


def pixel_centres(geometry, shape, mm_per_pixel):
    left, top, _, _ = geometry.bounds_mm
    return (
        left + (np.arange(shape[1])[None] + 0.5) * mm_per_pixel,
        top + (np.arange(shape[0])[:, None] + 0.5) * mm_per_pixel,
    )


@given(
    start=st.floats(0, 30),
    span=st.floats(60, 150),
    tilt=st.floats(-0.4, 0.4),
    half=st.floats(0.3, 0.8),
    mm_per_pixel=st.floats(0.5, 1.5),
)
def test_every_pixel_shows_what_lies_there(start, span, tilt, half, mm_per_pixel):
    geometry = BeamGeometry(start, start + span, tilt - half, tilt + half)
    picture = scan_convert(on_beams(geometry, 240, 160)[None], geometry, mm_per_pixel)[0]
    x, y = pixel_centres(geometry, picture.shape, mm_per_pixel)
    radius, angle = np.hypot(x, y), np.arctan2(x, y)
    inside = (radius > start) & (radius < start + span) & (np.abs(angle - tilt) < half)
    # An edge pixel may fall on either side by rounding; smoothing along the beam costs a little at coarse pixels.
    away = np.minimum(np.minimum(radius - start, start + span - radius), radius * (half - np.abs(angle - tilt)))
    clear = np.abs(away) > 0.01
    assert (picture[~inside & clear] == 0).all()
    assert np.abs(picture - pattern(x, y))[inside & clear].max() < 3.0
    left, top, right, bottom = geometry.bounds_mm
    assert picture.shape == (round((bottom - top) / mm_per_pixel), round((right - left) / mm_per_pixel))


def test_frames_are_converted_alike_and_points_lie_on_their_pixels():
    geometry = BeamGeometry(0.0, 100.0, -0.6, 0.6)
    assert native_mm_per_pixel(geometry, 201) == 0.5
    frames = np.zeros((70, 201, 121), dtype=np.uint8)
    frames[3:, 120:123, 89:92] = 200  # 60.5 mm deep, at 0.3 rad
    converted = scan_convert(frames, geometry, 0.5)
    assert not converted[:3].any()
    np.testing.assert_array_equal(converted[3:], np.broadcast_to(converted[3], converted[3:].shape))
    rows, columns = np.nonzero(converted[3] > 100)
    point = geometry.pixels((60.5 * np.sin(0.3), 60.5 * np.cos(0.3)), 0.5)
    np.testing.assert_allclose(point, (columns.mean(), rows.mean()), atol=0.3)


def test_coarse_pixels_do_not_flicker_with_single_samples():
    geometry = BeamGeometry(0.0, 100.0, -0.6, 0.6)
    stripes = np.zeros((1, 401, 101), dtype=np.uint8)
    stripes[:, ::2] = 200
    coarse = scan_convert(stripes, geometry, 1.0)[0]
    assert coarse[30:90, 55:65].std() < 30


@pytest.mark.parametrize("wrong", [(10, 10, -1, 1), (0, 100, 0.5, 0.5), (-1, 100, -1, 1), (0, float("nan"), -1, 1)])
def test_what_spans_no_sector_is_refused(wrong):
    with pytest.raises(InputError, match="span no sector"):
        BeamGeometry(*wrong)


def test_a_picture_too_large_is_refused():
    with pytest.raises(InputError, match="give larger pixels"):
        scan_convert(np.zeros((1, 4, 4), dtype=np.uint8), BeamGeometry(0, 100, -0.6, 0.6), 0.01)
