"""Fine texture of a still, and other texture of the same kind: speckle that decorrelates in tissue and flickers in blood.

New texture is the still's own with its phases drawn anew: along the beams and across them it is as coarse as there, and as
strong as the still's is at each place, so that black stays black.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from echogen.arrays import ByteArray, Floats, Mask
from echogen.cine.sector import CANONICAL_SIZE, CanonicalView
from echogen.generators.own_pixels.motion import mirrored
from echogen.generators.random_seeds import mixed_seed

Plane = NDArray[np.float32]

#: Gaussian width that parts fine texture from structure, in pixels of the canonical picture.
COARSE_PX = 1.5
#: Gaussian width over which the strength of the texture is told, in pixels of the canonical picture.
STRENGTH_PX = 2.5
#: Textures that are mixed to a new one.
TEXTURES = 10
#: Deviation of a Gaussian variable over its mean distance from 0.
DEVIATION_PER_MEAN = 1.2533
#: Largest strength over the usual one in tissue; and deviations beyond which fine texture is an edge rather than speckle.
MOST_OVER_USUAL, LIMIT = 1.6, 2.5
#: Gaussian width in pixels of the canonical picture beyond which texture is not alike: what is alike farther off is structure.
ALIKE_PX = 3.0
#: Time in s between independent mixtures of tissue and of blood.
TISSUE_S, BLOOD_S = 0.10, 0.04
#: Purposes of random numbers.
_PHASES, _TISSUE, _BLOOD = 101, 102, 103


@dataclass(frozen=True)
class Grain:
    """Fine texture of a still.

    coarse: (rows, columns) structure of the still, in grey levels.
    strength: (rows, columns) deviation of its speckle, in grey levels.
    textures: (textures, rows, columns) others of its kind, of mean 0 and deviation 1; 0 outside the sector.
    crispness: deviation of the fine texture over the whole sector, edges included, in grey levels.
    seed: of the video.
    """

    coarse: Plane
    strength: Plane
    textures: Plane
    crispness: float
    seed: int

    @classmethod
    def of(cls, still: ByteArray, blood: Plane, view: CanonicalView, inside: Mask, seed: int) -> Self:
        """Take the texture of a still (rows, columns).

        blood: (rows, columns) share of blood, 0..1. view: place of the sector. inside: (rows, columns) True in the sector.
        """
        factor = view.factor
        # Blood and tissue each by itself, so that the edge between them is structure.
        means = [_mean_over(share * inside, still, COARSE_PX * factor) for share in (1.0 - blood, blood)]
        coarse = mirrored((1.0 - blood) * means[0] + blood * means[1], inside).astype(np.float32)
        fine = np.where(inside, still - coarse, 0.0)
        parts = [_mean_over(share * inside, np.abs(fine), STRENGTH_PX * factor) for share in (1.0 - blood, blood)]
        # Edges and thin bright lines are no speckle, which is about equally strong wherever the picture is not black.
        usual = MOST_OVER_USUAL * float(np.median(parts[0][inside & (blood < 0.5)]))
        strength = DEVIATION_PER_MEAN * np.minimum((1.0 - blood) * parts[0] + blood * parts[1], usual)
        strength = mirrored(strength, inside)
        limited = np.clip(fine / np.maximum(strength, 1.0), -LIMIT, LIMIT)
        textures = _others(limited.astype(np.float32), view, inside, mixed_seed(seed, 0, _PHASES))
        return cls(coarse, strength.astype(np.float32), textures, float(fine[inside].std()), seed)

    def tissue(self, time_s: float) -> Plane:
        """Return new texture of tissue at a time in s."""
        return self._mixed(time_s / TISSUE_S, _TISSUE)

    def blood(self, time_s: float) -> Plane:
        """Return new texture of blood at a time in s."""
        return self._mixed(time_s / BLOOD_S, _BLOOD)

    def _mixed(self, place: float, purpose: int) -> Plane:
        """Mix the textures; the mixture turns from one drawn for each whole number into the next."""
        before = int(np.floor(place))
        angle = (place - before) * np.pi / 2
        weights = [self._weights(index, purpose) for index in (before, before + 1)]
        mixture = np.cos(angle) * weights[0] + np.sin(angle) * weights[1]
        mixture /= np.linalg.norm(mixture)
        return np.tensordot(mixture.astype(np.float32), self.textures, 1)

    def _weights(self, index: int, purpose: int) -> Floats:
        draw = np.random.default_rng(mixed_seed(self.seed, index % 2**32, purpose)).normal(size=len(self.textures))
        return draw / np.linalg.norm(draw)


def _mean_over(region: ArrayLike, picture: ArrayLike, sigma_px: float) -> Floats:
    """Gaussian mean of a picture (rows, columns) over a region (0..1), so that nothing beside it leaks in; 0 far from it."""
    weight = np.asarray(region, np.float32)
    both = [ndimage.gaussian_filter(values, sigma_px, truncate=3.0) for values in (weight * np.asarray(picture), weight)]
    return np.asarray(both[0] / np.maximum(both[1], 1e-3))


def _spectrum(values: Plane, alike_px: float) -> Floats:
    """Amplitudes of the spectrum of a texture whose autocorrelation is cut off by a Gaussian."""
    correlation = np.fft.irfft2(np.abs(np.fft.rfft2(values)) ** 2, values.shape)
    away = [np.minimum(np.arange(n), n - np.arange(n)) / alike_px for n in values.shape]
    cut = np.exp(-0.5 * (away[0][:, None] ** 2 + away[1][None] ** 2))
    return np.sqrt(np.maximum(np.fft.rfft2(correlation * cut).real, 0.0))


def _others(normed: Plane, view: CanonicalView, inside: Mask, seed: int) -> Plane:
    """Draw textures (textures, rows, columns) of the kind of one (rows, columns) of deviation 1, in coordinates of the beams."""
    factor, unit = view.factor, len(view.inside) / CANONICAL_SIZE
    apex_row, apex_column = view.box[1] + 6.0 * unit * factor, view.box[0] + 64.0 * unit * factor
    y, x = np.nonzero(inside)
    radius, angle = np.hypot(y + 0.5 - apex_row, x + 0.5 - apex_column), np.arctan2(x + 0.5 - apex_column, y + 0.5 - apex_row)
    low, high = float(radius.min()), float(radius.max())
    left, right = float(angle.min()), float(angle.max())
    depths, beams = int(high - low) + 2, int((right - left) * high) + 2
    r = low + np.arange(depths)[:, None]
    a = left + np.arange(beams)[None] / high
    at = apex_row + r * np.cos(a) - 0.5, apex_column + r * np.sin(a) - 0.5
    polar = ndimage.map_coordinates(normed, at, order=3, mode="constant")
    size = _spectrum(polar, ALIKE_PX * factor)
    rng = np.random.default_rng(seed)
    textures = np.zeros((TEXTURES, *inside.shape), np.float32)
    place = np.stack([radius - low, (angle - left) * high])
    for texture in textures:
        phases = np.fft.rfft2(rng.normal(size=polar.shape))
        drawn = np.fft.irfft2(size * phases / np.maximum(np.abs(phases), 1e-9), polar.shape)
        values = ndimage.map_coordinates(drawn.astype(np.float32), place, order=3, mode="nearest")
        texture[inside] = values / values.std()
    return textures
