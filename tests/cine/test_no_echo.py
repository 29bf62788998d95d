"""What is no echo is refused: photographs, an ECG page, an X-ray."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from echogen import InputError
from echogen.cine import to_sector


def ecg_page(paper, grid, ink):
    picture = Image.new("L", (400, 300), paper)
    pen = ImageDraw.Draw(picture)
    for place in range(0, 400, 10):
        pen.line([(place, 0), (place, 300)], fill=grid)
        pen.line([(0, place), (400, place)], fill=grid)
    columns = np.arange(400)
    beat = np.exp(-((((columns % 80) - 40) / 2) ** 2)) + 0.2 * np.exp(-((((columns % 80) - 60) / 6) ** 2))
    for row in (70, 170, 270):
        pen.line(list(zip(columns.tolist(), (row - 50 * beat).tolist(), strict=True)), fill=ink, width=2)
    return np.asarray(picture)


def chest_xray(seed):
    rows, columns = np.indices((300, 260))
    down, across = rows / 300 - 0.5, columns / 260 - 0.5
    picture = 150.0 + 60 * np.exp(-((across / 0.05) ** 2)) + 15 * np.sin(60 * down + 30 * across**2)
    for side in (-0.2, 0.2):
        picture -= 110 * np.exp(-((((across - side) / 0.13) ** 2 + ((down + 0.05) / 0.28) ** 2) ** 2))
    picture += np.random.default_rng(seed).normal(0, 4, picture.shape)
    return np.clip(picture * np.exp(-(((2 * np.abs(across)) ** 12) + ((2 * np.abs(down)) ** 12))), 0, 255).astype(np.uint8)


def photograph(seed, dark_corners):
    rows, columns = np.indices((240, 320))
    frequency = np.hypot(np.fft.fftfreq(240)[:, None], np.fft.fftfreq(320)[None])
    frequency[0, 0] = 1
    noise = np.random.default_rng(seed).normal(size=(240, 320))
    picture = np.real(np.fft.ifft2(np.fft.fft2(noise) / frequency**1.1))
    picture = (picture - picture.min()) / np.ptp(picture)
    if dark_corners:
        picture *= np.exp(-((((rows - 120) / 72) ** 2 + ((columns - 160) / 96) ** 2) ** 2))
    return (255 * picture).astype(np.uint8)


PICTURES = {
    "white ECG page": ecg_page(255, 200, 0),
    "dark ECG page": ecg_page(0, 30, 255),
    "X-ray": chest_xray(0),
    **{f"photograph {seed}": photograph(seed, False) for seed in range(3)},
    **{f"photograph with dark corners {seed}": photograph(seed, True) for seed in range(3)},
}


@pytest.mark.parametrize("name", PICTURES)
def test_it_is_refused_in_one_sentence(name):
    with pytest.raises(InputError, match="does not look like an echocardiogram"):
        to_sector(PICTURES[name])


@pytest.mark.parametrize("name", ["camera", "coins", "page", "text", "moon", "cell", "brick", "retina"])
def test_real_photographs_are_refused(name):
    data = pytest.importorskip("skimage.data")
    picture = Image.fromarray(getattr(data, name)()).convert("L")
    with pytest.raises(InputError, match="does not look like an echocardiogram"):
        to_sector(np.asarray(picture))
