import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from echogen.metrics import image


@pytest.fixture
def pair():
    random = np.random.default_rng(0)
    first = random.integers(0, 256, (3, 48, 40), dtype=np.uint8)
    second = np.clip(first + random.normal(0, 30, first.shape), 0, 255).astype(np.uint8)
    return first, second


def test_ssim_agrees_with_scikit_image(pair):
    first, second = pair
    theirs = [
        structural_similarity(a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255)
        for a, b in zip(first, second, strict=True)
    ]
    assert image.ssim(first, second) == pytest.approx(np.mean(theirs), abs=1e-6)
    assert image.ssim(first[0], second[0]) == pytest.approx(theirs[0], abs=1e-6)
    assert image.ssim(first, first) == pytest.approx(1)


def test_pixel_errors(pair):
    first, second = pair
    difference = first / 255 - second / 255
    assert image.mse(first, second) == pytest.approx((difference**2).mean())
    assert image.mae(first, second) == pytest.approx(np.abs(difference).mean())
    assert image.psnr(first, second) == pytest.approx(peak_signal_noise_ratio(first, second, data_range=255))
    assert image.psnr(first, first) == float("inf")
    assert image.mse(first / 255.0, second) == pytest.approx(image.mse(first, second))
