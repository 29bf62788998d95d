"""Notes on what is no apical view."""

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from scipy import ndimage

from echogen import read_cine, simulate
from echogen.cine import Sector, to_sector
from echogen.measurement import load_segmenter
from echogen.measurement.apical import apical_doubt


@pytest.fixture(scope="module")
def segmenter():
    return load_segmenter()


def sector_of(brightness):
    speckle = ndimage.gaussian_filter(np.random.default_rng(0).rayleigh(1, (256, 256)), 1)
    inside = Sector(12, 128, 224, 0.7, 0.7).inside(256, 256)
    return to_sector(np.where(inside, np.clip(brightness * speckle, 8, 255), 0).astype(np.uint8)[None])[0]


@pytest.mark.parametrize("view", ["A4C", "A2C"])
def test_phantoms_are_apical(segmenter, view):
    assert apical_doubt(simulate(view=view, seconds=0.5, seed=3).cine.frames, segmenter) is None


def test_real_apical_views_are_not_doubted(segmenter, test_data):
    paths = [get_testdata_file("examples_ybr_color.dcm"), test_data / "echo_video" / "echotracker_input.mp4"]
    for path in [*paths, test_data / "echo_camus" / "patient0213_4CH_ED.nii"]:
        assert apical_doubt(to_sector(read_cine(path).frames[::9])[0], segmenter) is None, path


def test_a_sector_without_an_upright_heart_is_doubted(segmenter):
    rows, columns = np.indices((256, 256)) - np.array([130, 120])[:, None, None]
    along, across = columns * np.cos(0.3) + rows * np.sin(0.3), rows * np.cos(0.3) - columns * np.sin(0.3)
    lying = 15 + 70 * np.exp(-(((np.hypot(along / 65, across / 28) - 1.25) / 0.2) ** 2))
    for brightness in (np.full((256, 256), 40.0), lying):
        doubt = apical_doubt(sector_of(brightness), segmenter)
        assert doubt is not None
        assert "apical" in doubt
