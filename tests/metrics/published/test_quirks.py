"""What published scripts do besides: distances of single clips against the general ones, round trips, the choice of samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echogen import InputError
from echogen.metrics.evaluation.collectors import Pair
from echogen.metrics.pictures.likeness import StructuralSimilarity
from echogen.metrics.published.protocol_clips import HeldClip
from echogen.metrics.published.quirks import (
    BestPicture,
    ClipDistance,
    few_sample_distance,
    nearest_sample,
    scaled_features,
    through_gif,
    through_jpeg,
)
from echogen.metrics.sets.frechet import frechet_distance
from echogen.records import Cine


class Brightness:
    """Features of a picture that follow its grey values: a stand-in of any image network."""

    name, metric, dims, frames, fps = "brightness", "FID", 16, 1, None

    def __call__(self, video: np.ndarray) -> np.ndarray:
        small = video[:, 0].reshape(len(video), 4, video.shape[2] // 4, 4, video.shape[3] // 4)
        return small.mean(axis=(2, 4)).reshape(len(video), 16).astype(np.float32)


def clip(name: str, seed: int, frames: int = 12) -> HeldClip:
    pictures = np.random.default_rng(seed).integers(0, 256, (frames, 32, 32)).astype(np.uint8)
    return HeldClip(name, Cine(pictures, np.arange(frames) / 30.0), as_it_is=True)


@given(st.integers(0, 1000), st.integers(2, 11), st.integers(2, 11), st.integers(1, 30))
def test_the_short_way_is_the_frechet_distance(seed: int, n: int, m: int, dims: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, dims)), rng.normal(0.5, 2.0, size=(m, dims))
    assert few_sample_distance(a, b) == pytest.approx(frechet_distance(a, b), rel=1e-6, abs=1e-6)
    assert few_sample_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_features_are_stretched_within_their_clip() -> None:
    scaled = scaled_features(np.array([[1.0, 5.0], [3.0, 5.0], [2.0, 5.0]], dtype=np.float32))
    assert scaled.tolist() == [[0.0, 0.0], [1.0, 0.0], [0.5, 0.0]]


def test_distances_of_single_clips() -> None:
    fid, fvd = ClipDistance("fid_per_clip", network=Brightness), ClipDistance("fvd_per_clip", video=True, network=Brightness)
    first, second = clip("a", 0), clip("b", 1)
    for collector in (fid, fvd):
        collector.add(Pair(first, clip("a", 0)))
        collector.add(Pair(second, clip("b", 2), first))
        assert collector.kept("own")[0] == pytest.approx(0, abs=1e-6)
        (figure,) = collector.figures().values()
        assert figure.generated.n == 2
        assert figure.generated.value > 0
        assert figure.control.n == 1
    network = Brightness()
    a, b = (network(c.cine.frames[:11, None]) for c in (second, clip("b", 2)))
    assert fid.kept("own")[1] == pytest.approx(frechet_distance(a, b) / 11)


def test_without_weights_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ECHOGEN_WEIGHTS", str(tmp_path))
    with pytest.raises(InputError, match="FID needs the published weights file"):
        ClipDistance("fid_per_clip")


def test_the_best_of_three_is_the_most_similar() -> None:
    real = clip("a", 0)
    noisy = np.clip(real.cine.frames.astype(int) + 5, 0, 255).astype(np.uint8)
    near = HeldClip("a_2", Cine(noisy, real.cine.times_s), as_it_is=True)
    best, plain = (BestPicture("ssim_best", "1", StructuralSimilarity, max) for _ in range(2))
    best.add_best([Pair(clip("a", 0), clip("a", 3)), Pair(clip("a_2", 0), near), Pair(clip("a_3", 0), clip("a_3", 4))])
    plain.add(Pair(clip("a_2", 0), near))
    assert best.figures()["ssim_best"].generated.value == plain.figures()["ssim_best"].generated.value > 0.9


def test_round_trips_lose_a_little() -> None:
    rows = np.linspace(0, 255, 64)
    frames = np.stack([np.tile(np.roll(rows, 5 * k), (48, 1)) for k in range(3)]).astype(np.uint8)
    assert np.abs(through_gif(frames).astype(int) - frames).max() <= 4
    jpeg = through_jpeg(frames)
    assert jpeg.shape == frames.shape
    assert 0 < np.abs(jpeg.astype(int) - frames).mean() < 3


def test_the_sample_nearest_to_its_ef_is_kept() -> None:
    assert nearest_sample([30.0, 52.0, None], [50.0, 50.0, 50.0]) == 1
    assert nearest_sample([30.0, 52.0, 71.0], [31.0, 60.0, 71.5]) == 2
    assert nearest_sample([None, None], [50.0, 50.0]) == 0
