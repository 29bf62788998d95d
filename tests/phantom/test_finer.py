"""The phantom at other frame rates and sizes shows the same heart."""

import numpy as np

from echogen.datasets.clip_store import draw_recording
from echogen.phantom.simulate import render

HEART, _ = draw_recording(7, 1.0)


def averaged(frames: np.ndarray) -> np.ndarray:
    count, side, _ = frames.shape
    return frames.reshape(count, side // 2, 2, side // 2, 2).mean((2, 4))


def test_twice_the_pixels_show_the_same_picture() -> None:
    times = np.array([0.2, 0.4])
    coarse, fine = render(HEART, times, 7), render(HEART, times, 7, finer=2)
    assert fine.frames.shape == (2, 256, 256)
    inside = (coarse.structure > 0) & (averaged(fine.structure) > 0)
    apart = np.abs(averaged(fine.structure) - coarse.structure)[inside]
    assert np.median(apart) < 2
    assert np.corrcoef(averaged(fine.structure)[inside], coarse.structure[inside])[0, 1] > 0.98
    lv = coarse.labels == 1
    assert ((averaged((fine.labels == 1).astype(float)) > 0.5) == lv).mean() > 0.99
    still = np.abs(coarse.displacement).max() > 0.5
    assert still
    moved = fine.displacement[:, :, ::2, ::2] / 2 - coarse.displacement
    assert np.median(np.abs(moved)[:, 0][lv]) < 0.2
    tissue = coarse.labels == 2
    np.testing.assert_allclose(averaged(fine.frames)[tissue].mean(), coarse.frames[tissue].mean(), rtol=0.08)


def test_a_finer_clock_passes_through_the_same_frames() -> None:
    slow, fast = render(HEART, np.arange(3) / 32, 7), render(HEART, np.arange(5) / 64, 7)
    same = np.abs(fast.structure[::2].astype(int) - slow.structure)
    assert same.max() <= 2
