"""Image files of research (NIfTI, MetaImage): numbers on a grid of any spacing, as grey frames with square pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from echogen.arrays import ByteArray
from echogen.cine.timing import ASK_FOR_RATE
from echogen.errors import InputError
from echogen.records import Cine, SecondsArray

#: Pixels whose sides differ by less than this share count as square.
_SQUARE = 0.005


@dataclass(frozen=True)
class StoredImage:
    """values: (T, H, W) of any type, rows downwards. width_mm, height_mm: of a pixel, 0 if unknown. times_s: (T,) or None."""

    values: NDArray[np.generic]
    width_mm: float = 0.0
    height_mm: float = 0.0
    times_s: SecondsArray | None = None
    view: str | None = None


def as_cine(image: StoredImage, name: str, fps: float | None = None) -> Cine:
    """The grey cine of a stored image. name: how messages call the file; fps: in Hz, instead of the file's times.

    Values of 0..255 stay; a fractional image of 0..1 and whole numbers that reach past 255 are spread over 0..255.
    Raises `InputError` for values that are no grey levels, or more than one frame of unknown time.
    """
    values = image.values
    if not values.size or values.dtype.kind not in "fiub":
        raise InputError(f"{name} holds no grey pictures; give a cine of one number a pixel.")
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0:
        raise InputError(f"{name} holds values that are negative or no numbers, not grey levels; give a cine of 0..255.")
    spread = high > 255 or (values.dtype.kind in "fb" and 0 < high <= 1)
    grey = grey_levels(values.astype(np.float32) * (255.0 / high) if spread else values)
    frames, mm_per_pixel = with_square_pixels(grey, image.width_mm, image.height_mm)
    times = image.times_s
    if fps is not None or (times is None and len(frames) == 1):
        times = np.arange(len(frames)) / (fps or 1.0)
    if times is None:
        raise InputError(f"{name} does not say how fast its {len(frames)} frames follow each other; {ASK_FOR_RATE}.")
    return Cine(frames, times, mm_per_pixel, image.view)


def grey_levels(values: NDArray[np.generic]) -> ByteArray:
    """Numbers within 0..255 as uint8, rounded."""
    return np.asarray(values) if values.dtype == np.uint8 else np.rint(values).astype(np.uint8)


def with_square_pixels(
    frames: ByteArray, width_mm: float, height_mm: float, *, labels: bool = False
) -> tuple[ByteArray, float | None]:
    """Frames (T, H, W) with square pixels of the smaller side, and that side in mm (None where a side is not positive).

    labels: the values are ids, which are never mixed. Raises `InputError` for pixels more than 100 times longer than wide.
    """
    small, large = sorted((width_mm, height_mm))
    if not (small > 0 and np.isfinite(large)):
        return frames, None
    if large > 100 * small:
        raise InputError(f"Pixels of {width_mm:g} x {height_mm:g} mm are no picture; correct the spacing in the file's header.")
    if large - small > _SQUARE * small:
        size = (round(frames.shape[2] * width_mm / small), round(frames.shape[1] * height_mm / small))
        how = Image.Resampling.NEAREST if labels else Image.Resampling.BILINEAR
        frames = np.stack([np.asarray(Image.fromarray(frame).resize(size, how)) for frame in frames])
    return frames, float(small)
