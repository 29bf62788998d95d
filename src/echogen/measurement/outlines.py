"""Chambers of a video on the pixels of its own pictures, whichever geometry the network saw them in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from echogen.arrays import ByteArray
from echogen.cine.sector import CANONICAL_APEX_ROW, CANONICAL_RADIUS, CANONICAL_SIZE, find_sector, to_sector
from echogen.records import Cine


@dataclass(frozen=True)
class Outlines:
    """A cine and its chambers.

    cine: The video as its file holds it, (T, H, W).
    masks: Chambers (T, h, w) with the ids of `STRUCTURES`, on the pixels of the cine or in the canonical geometry, 128 x 128.
    frames: Indices (T,) of the frames of the cine that the masks belong to; None for all of them.
    """

    cine: Cine
    masks: ByteArray
    frames: tuple[int, ...] | None = None

    def on_pictures(self, enlarged: int = 1) -> ByteArray:
        """Chambers (T, H, W) on the pixels of the cine's own pictures, or (T, nH, nW) where these are enlarged n times."""
        height, width = self.cine.frames.shape[1:]
        factor, left, top = 1.0, 0.0, 0.0
        if self.masks.shape[1:] != (height, width):
            factor, left, top = _canonical_place(self.cine.frames)
        if (factor, left, top, enlarged) == (1.0, 0.0, 0.0, 1):
            return self.masks
        size = (width * enlarged, height * enlarged)
        step = 1.0 / (factor * enlarged)
        # Pillow's affine transform: x of the mask = a x + b y + c of the picture, between pixel centres.
        place = (step, 0.0, -left / factor, 0.0, step, -top / factor)
        return np.stack([_transformed(mask, size, place) for mask in self.masks])


def _canonical_place(frames: ByteArray) -> tuple[float, float, float]:
    """Pixels of a picture per pixel of the canonical geometry, and the left and top of that geometry in the picture."""
    height, width = frames.shape[1:]
    if height == width == CANONICAL_SIZE:
        return 1.0, 0.0, 0.0
    if height == width and to_sector(frames)[1] == width / CANONICAL_SIZE:
        return width / CANONICAL_SIZE, 0.0, 0.0
    sector = find_sector(frames)
    factor = sector.radius / CANONICAL_RADIUS
    return factor, sector.apex_column - CANONICAL_SIZE / 2 * factor, sector.apex_row - CANONICAL_APEX_ROW * factor


def _transformed(mask: ByteArray, size: tuple[int, int], place: tuple[float, float, float, float, float, float]) -> ByteArray:
    """A mask resampled so that the borders of its chambers stay smooth: the likeliest chamber by linear interpolation."""
    ids = np.unique(np.append(mask, 0))
    shares = [
        np.asarray(
            Image.fromarray((mask == each).astype(np.float32)).transform(
                size, Image.Transform.AFFINE, place, Image.Resampling.BILINEAR
            )
        )
        for each in ids[1:]
    ]
    if not shares:
        return np.zeros(size[::-1], np.uint8)
    background = 1.0 - np.sum(shares, axis=0)
    return np.asarray(ids[np.argmax([background, *shares], axis=0)], dtype=np.uint8)
