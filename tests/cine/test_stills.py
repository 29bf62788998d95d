"""First frames of echo files in the canonical picture."""

from pathlib import Path

import numpy as np
import pytest

import echogen as package
from echogen.cine.stills import canonical_still
from echogen.errors import InputError


@pytest.mark.parametrize("name", ["echocv3_Image-43_A4C.dcm", "fodicom_DIRW0007_A4C.dcm", "vitalab_a4c_sequence.nii.gz"])
def test_the_sector_of_a_video_is_found_where_its_first_frame_is_full_of_text(test_data: Path, name: str) -> None:
    still = canonical_still(test_data / "real/cines" / name)
    assert still.shape == (128, 128)
    assert (still[:4] > 40).mean() < 0.1  # the menu above the sector is gone
    assert (still[20:110, 40:88] > 20).mean() > 0.3


def test_what_shows_no_sector_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (4, 90, 120)).astype(np.uint8)
    package.write(package.Cine(noise, np.arange(4) / 25), tmp_path / "a.npz")
    with pytest.raises(InputError, match="does not look like an echocardiogram"):
        canonical_still(tmp_path / "a.npz")
