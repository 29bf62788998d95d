"""The crop that the published ECHOPulse code trains on: dark rows above the sector cut off, the rest stretched to full height."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from echogen.errors import InputError

#: Brighter than this is echo.
LIT = 0.1


def first_lit_row(frame: NDArray[np.floating]) -> int:
    """The lowest row number, above 0, in which a column of a frame (height, width), 0..1, is lit for the first time.

    Columns lit in row 0 do not count. Raises `InputError` when no column is left.
    """
    first = (np.asarray(frame) > LIT).argmax(axis=0)
    if not first.any():
        raise InputError(
            "A frame shows no echo below its first row, so it cannot be cropped to its sector; leave that frame out."
        )
    return int(first[first > 0].min())


def resize_linear(frame: NDArray[np.floating], height: int, width: int) -> NDArray[np.float32]:
    """A frame (rows, columns) at another size, by linear interpolation between pixel centres without smoothing; edges repeat."""
    values = np.asarray(frame, dtype=np.float32)
    return _resize_rows(_resize_rows(values, height).T, width).T


def _resize_rows(values: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    place = np.clip((np.arange(count) + 0.5) * len(values) / count - 0.5, 0, len(values) - 1)
    above = np.floor(place).astype(np.int64)
    below = np.minimum(above + 1, len(values) - 1)
    share = (place - above).astype(np.float32)[:, None]
    return np.asarray(values[above] * (1 - share) + values[below] * share)


def ultrasound_crop(clip: NDArray[np.floating], size: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """A clip (channels, frames, height, width), 0..1, cropped at the top and resized, each channel and frame by itself.

    size: height and width of the result; None keeps the clip's. The picture may jump between frames: only for what the
    released weights were trained on. Raises `InputError` for another shape or a frame that shows no echo below its first row.
    """
    values = np.asarray(clip)
    if values.ndim != 4 or 0 in values.shape:
        raise InputError(f"The crop needs a (channels, frames, height, width) clip that is not empty, not shape {values.shape}.")
    height, width = size or values.shape[2:]
    result = np.empty((*values.shape[:2], height, width), dtype=np.float32)
    for channel, frame in np.ndindex(values.shape[:2]):
        picture = values[channel, frame]
        result[channel, frame] = resize_linear(picture[first_lit_row(picture) :], height, width)
    return result
