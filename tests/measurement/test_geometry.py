import numpy as np
import pytest

from echogen.measurement import lv_geometry
from echogen.physiology import area_length_volume_ml


@pytest.mark.parametrize("tilt", [-0.4, -0.15, 0.0, 0.2, 0.4])
@pytest.mark.parametrize(("a", "b"), [(30.0, 14.0), (25.0, 9.0), (30.0, 20.0)])
def test_volume_of_an_ellipsoid(chambers, a, b, tilt):
    masks = chambers(np.full(3, a), np.full(3, b), tilt, cut=None)
    area, length = lv_geometry(masks, 0.8)
    # Area-length is exact for an ellipsoid of revolution: 4/3 pi a b^2.
    assert area_length_volume_ml(area, length)[0] == pytest.approx(4 / 3 * np.pi * a * b**2 * 0.8**3 / 1000, rel=0.03)


@pytest.mark.parametrize("tilt", [-0.4, 0.0, 0.3])
@pytest.mark.parametrize(("a", "b"), [(30.0, 14.0), (25.0, 9.0), (30.0, 20.0)])
def test_long_axis_reaches_from_the_mitral_plane(chambers, a, b, tilt):
    area, length = lv_geometry(chambers(np.full(3, a), np.full(3, b), tilt), 1.0)
    along = np.linspace(-a, 0.42 * a, 10_001)
    assert area[0] == pytest.approx(np.trapezoid(2 * b * np.sqrt(1 - (along / a) ** 2), along), rel=0.02)
    assert length == pytest.approx(np.full(3, 1.42 * a), rel=0.02)


def test_length_bridges_frames_without_ventricle(chambers):
    masks = chambers(np.full(9, 28.0), np.full(9, 12.0))
    masks[4] = 0
    area, length = lv_geometry(masks, 1.0)
    assert area[4] == 0
    assert np.ptp(length) < 0.5
    area, length = lv_geometry(np.zeros((4, 128, 128), np.uint8), 1.0)
    assert not area.any()
    assert not length.any()
