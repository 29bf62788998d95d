import numpy as np
import pytest
import torch
from scipy import ndimage

from echogen.phantom.texture import MOTION_PX, blurred, smooth_motion


@pytest.mark.parametrize("sigma", [0.8, 2.0, 4.0])
def test_a_blur_is_that_of_scipy(sigma: float) -> None:
    picture = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(0))
    expected = ndimage.gaussian_filter(picture.numpy(), (0, sigma, sigma), mode="constant", truncate=5.0)
    # scipy divides by the sum of the samples of a bell, not by its area.
    np.testing.assert_allclose(blurred(picture, sigma).numpy(), expected, atol=1e-3)


def test_smooth_motion_keeps_what_moves_as_a_whole_and_quiets_what_trembles() -> None:
    row, column = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    tissue = (row - 32).square() + (column - 32).square() > 12**2
    true = torch.stack([2.0 + 0.02 * row, -3.0 + 0.03 * column]) * tissue
    noise = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(1)) * tissue
    smooth = smooth_motion((true + noise)[None])[0]
    wall = tissue & ((row - 32).square() + (column - 32).square() < 20**2)
    assert float((smooth - true)[:, wall].abs().mean()) < 0.15
    # Blood, which has no displacement of its own, follows the wall beside it rather than pulling it back.
    beside = ~tissue & ((row - 32).square() + (column - 32).square() > (12 - MOTION_PX) ** 2)
    assert float(smooth[0, beside].mean()) == pytest.approx(2.6, abs=0.3)
