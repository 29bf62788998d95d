"""Heart rates printed into echo pictures: read where they stand beside their word, and nothing made up elsewhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from echogen.cine.drawn_rate import printed_rates


def _frames(texts: list[tuple[int, int, str]], size: int = 16, count: int = 3) -> np.ndarray:
    """Dark frames with texts at (column, row), (count, 300, 400, 3)."""
    image = Image.new("RGB", (400, 300), (5, 5, 8))
    pen = ImageDraw.Draw(image)
    for column, row, text in texts:
        pen.text((column, row), text, fill=(210, 210, 210), font=ImageFont.load_default(size=size))
    return np.stack([np.asarray(image)] * count)


@pytest.mark.parametrize(
    "texts",
    [
        [(40, 60, "89 bpm")],
        [(40, 60, "HR= 89bpm")],
        [(40, 60, "HR 89")],
        [(44, 60, "89"), (40, 82, "BPM")],
        [(40, 60, "HR"), (42, 82, "89")],
    ],
)
def test_a_rate_is_read_beside_above_and_below_its_word(texts: list[tuple[int, int, str]]) -> None:
    others = [(200, 40, "56Hz"), (200, 60, "20.0cm"), (200, 100, "Gn 77"), (200, 140, "50 mm/s"), (200, 180, "113/62")]
    assert printed_rates(_frames(texts + others)) == (89, 89, 89)


def test_a_display_that_changes_gives_its_range() -> None:
    frames = np.concatenate([_frames([(40, 60, f"{rate} BPM")], count=4) for rate in (91, 89)])
    read = printed_rates(frames)
    assert read is not None
    assert (read[0], read[2]) == (89, 91)


@pytest.mark.parametrize(
    "text", ["56Hz 20.0cm", "Gn 77", "50 mm/s", "113/62", "2024-03-15 12:04:47", "BPM", "HR --", "7 bpm", "HR 720"]
)
def test_other_numbers_are_no_heart_rate(text: str) -> None:
    assert printed_rates(_frames([(40, 60, text)])) is None


@given(st.integers(0, 2**32 - 1))
def test_noise_is_no_heart_rate(seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (2, 90, 120, 3), dtype=np.uint8)
    assert printed_rates(noise) is None


@given(rate=st.integers(35, 190), size=st.integers(14, 22), word=st.sampled_from(["bpm", "BPM"]))
def test_what_is_read_is_what_is_printed_or_nothing(rate: int, size: int, word: str) -> None:
    read = printed_rates(_frames([(40, 60, f"{rate} {word}")], size))
    assert read is None or read[1] == rate
