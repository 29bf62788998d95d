"""Departures of published echo evaluations from their papers: distances of single clips, image features, GIF and JPEG.

Such figures say nothing by themselves; they are here so that a figure can stand beside a published one of the same making.
Sources: the public evaluation scripts of ECHOPulse (distances) and EchoDiffusion (GIF, JPEG, best of three).
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from echogen.arrays import ByteArray
from echogen.datasets.paired_folder import resize
from echogen.metrics.evaluation.collectors import ByClip, Pair, Picture
from echogen.metrics.evaluation.figures import Figure, mean_row
from echogen.metrics.pictures.likeness import ClipMetric
from echogen.metrics.sets.features import FeatureNetwork, Features, InceptionFeatures

#: Frames of a clip in ECHOPulse's scripts.
ECHOPULSE_FRAMES = 11
#: ECHOPulse's script makes pictures of this side for its FVD.
_IMAGE_SIDE = 224
#: JPEG quality that ImageMagick takes where the source has none of its own.
_JPEG_QUALITY = 92


def few_sample_distance(features_a: Features, features_b: Features) -> float:
    """Fréchet distance (ddof 1) of two sets (n, dims) and (m, dims) with fewer samples than dims: that of `frechet_distance`,
    by an n x m matrix instead of a dims x dims one.

    The roots of the covariances are the deviations R = (X - mean)' / sqrt(n - 1), so tr((A B)^(1/2)) is the sum of the singular
    values of R' S.
    """
    (mean_a, root_a), (mean_b, root_b) = (_mean_and_root(features) for features in (features_a, features_b))
    overlap = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    shift = float(((mean_a - mean_b) ** 2).sum())
    return max(shift + float((root_a**2).sum() + (root_b**2).sum() - 2.0 * overlap), 0.0)


def _mean_and_root(features: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values = np.asarray(features, dtype=np.float64)
    mean = values.mean(axis=0)
    return mean, (values - mean) / np.sqrt(max(len(values) - 1, 1))


def scaled_features(features: Features) -> Features:
    """Features (n, dims) of one clip with every dimension stretched to 0..1 over that clip; one that does not vary becomes 0."""
    low, spread = features.min(axis=0), np.ptp(features, axis=0)
    return np.asarray((features - low) / np.where(spread > 0, spread, 1.0), dtype=np.float32)


class ClipDistance(ByClip):
    """Mean over clips of the Fréchet distance between a clip's frames and those of its real clip: ECHOPulse's "FID" and "FVD".

    The first eleven frames count, and the first distance is divided by eleven; for the second, frames are made 224 x 224 and
    every feature is stretched to 0..1 within its clip. Both take an image network; ours is Inception v3 of 2015 and theirs
    Keras' of ImageNet. Their script pairs files as the folder lists them; here clips of one name are pairs. Raises
    `InputError` without the weights.
    """

    def __init__(self, name: str, *, video: bool = False, network: Callable[[], FeatureNetwork] = InceptionFeatures) -> None:
        super().__init__()
        self.name, self.video, self._network = name, video, network()

    def add(self, pair: Pair) -> None:
        """Take in a pair of at least two frames; the control is the real clip before."""
        if pair.real is None or pair.generated is None:
            return
        self._compare(pair, "own", pair.frames)
        if pair.other is not None:
            self._compare(pair, "control", pair.control_frames)

    def _compare(self, pair: Pair, what: str, frames: tuple[ByteArray, ByteArray]) -> None:
        if len(frames[0]) < 2:
            return
        real, generated = (self._features(part[:ECHOPULSE_FRAMES]) for part in frames)
        distance = few_sample_distance(real, generated)
        self.keep(pair, what, distance if self.video else distance / ECHOPULSE_FRAMES)

    def _features(self, frames: ByteArray) -> Features:
        if self.video:
            frames = resize(frames, _IMAGE_SIDE)
        features = self._network(frames[:, None])
        return scaled_features(features) if self.video else features

    def figures(self) -> dict[str, Figure]:
        """One figure."""
        how = "image features stretched within each clip" if self.video else "divided by 11"
        control = mean_row(self.kept("control"))
        note = f"Mean over clips of a distance between single clips ({how}): no {self.name.split('_')[0].upper()}."
        return {self.name: Figure(mean_row(self.kept("own")), "1", control=control if control.n else None, note=note)}


def through_gif(frames: ByteArray) -> ByteArray:
    """Frames (T, H, W) after a GIF of 256 adaptive colours, as a script leaves them that writes colour pictures."""
    pictures = [Image.fromarray(np.repeat(frame[..., None], 3, axis=2)).quantize(256) for frame in frames]
    return np.stack([np.asarray(picture.convert("L")) for picture in pictures])


def through_jpeg(frames: ByteArray) -> ByteArray:
    """Frames (T, H, W) after JPEG files of quality 92, one a frame."""

    def kept(frame: ByteArray) -> ByteArray:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=_JPEG_QUALITY)
        return np.asarray(Image.open(file).convert("L"))

    return np.stack([kept(frame) for frame in frames])


class BestPicture(Picture):
    """A picture metric of the best of several samples, which the metric itself chooses, as EchoDiffusion's script does."""

    def __init__(self, name: str, unit: str, metric: Callable[[], ClipMetric], best: Callable[..., Pair]) -> None:
        """best: max or min."""
        super().__init__(name, unit, metric)
        self._best = best

    def add_best(self, pairs: list[Pair]) -> None:
        """Take in the best of the pairs of one real clip with each of its samples."""
        self.add(self._best(pairs, key=lambda pair: self._metric.measure(pair.frames[1], pair.frames[0])))


#: Round trips by name.
ROUND_TRIPS: dict[str, Callable[[ByteArray], ByteArray]] = {"gif": through_gif, "jpeg": through_jpeg}


def nearest_sample(seen_percent: list[float | None], asked_percent: list[float | None]) -> int:
    """Return the index of the sample whose EF (in %) is nearest to the one asked for; one without an EF is the last choice."""
    pairs = zip(seen_percent, asked_percent, strict=True)
    return int(np.argmin([np.inf if seen is None or asked is None else abs(seen - asked) for seen, asked in pairs]))
