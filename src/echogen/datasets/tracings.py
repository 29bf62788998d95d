"""Traced left ventricles of EchoNet's data sets: outlines in pixels, areas, masks, and the choice of ED and ES."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from echogen.arrays import Floats, Mask
from echogen.errors import InputError
from echogen.records import STRUCTURES, UNLABELLED, Beat, ByteArray, Cine


@dataclass(frozen=True)
class Tracing:
    """The two traced frames of a video; the one with the larger area is end-diastole.

    ed_frame: Index of the end-diastolic frame, from 0.
    es_frame: Index of the end-systolic frame, from 0.
    ed_outline: End-diastolic outline (n, 2) x, y in pixels.
    es_outline: End-systolic outline (n, 2) x, y in pixels.
    """

    ed_frame: int
    es_frame: int
    ed_outline: Floats
    es_outline: Floats

    def masks(self, height: int, width: int) -> tuple[Mask, Mask]:
        """Masks (height, width) of the cavity at ED and at ES."""
        return outline_mask(self.ed_outline, height, width), outline_mask(self.es_outline, height, width)


def traced_masks(tracing: Tracing, cine: Cine) -> ByteArray:
    """Masks (frames, height, width) of a traced video: the cavity at ED and ES, `UNLABELLED` in all other frames.

    Raises `InputError` for a tracing of a frame that the cine does not have.
    """
    if not 0 <= min(tracing.ed_frame, tracing.es_frame) <= max(tracing.ed_frame, tracing.es_frame) < len(cine.frames):
        raise InputError(f"The tracings name a frame past the {len(cine.frames)} frames of the video; get the video again.")
    masks = np.full(cine.frames.shape, UNLABELLED, np.uint8)
    for frame, cavity in zip((tracing.ed_frame, tracing.es_frame), tracing.masks(*cine.frames.shape[1:]), strict=True):
        masks[frame] = np.where(cavity, STRUCTURES["lv"], STRUCTURES["background"])
    return masks


def tracing_of(outlines: Mapping[int, Floats]) -> Tracing | None:
    """Tracing from the largest and the smallest of a video's outlines, given by frame; None for fewer than two."""
    if len(outlines) < 2:
        return None
    by_area = sorted(outlines, key=lambda frame: polygon_area(outlines[frame]))
    ed, es = by_area[-1], by_area[0]
    return Tracing(ed, es, outlines[ed], outlines[es])


def polygon_area(outline: Floats) -> float:
    """Area of a polygon (n, 2) in squared units of its points, by the shoelace formula."""
    x, y = outline.T
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def outline_mask(outline: Floats, height: int, width: int) -> Mask:
    """Mask (height, width) of the pixels whose centres lie inside an outline (n, 2) x, y, by the even-odd rule."""
    rows, columns = np.mgrid[:height, :width]
    inside = np.zeros((height, width), dtype=bool)
    for (x1, y1), (x2, y2) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if y1 != y2:
            inside ^= ((y1 > rows) != (y2 > rows)) & (columns < x1 + (rows - y1) * (x2 - x1) / (y2 - y1))
    return inside


def beat_between(
    cine: Cine, ed_frame: int, es_frame: int, name: str, edv_ml: float | None = None, esv_ml: float | None = None
) -> tuple[Beat, ...]:
    """Beat from an end-diastolic to a later end-systolic frame; empty where the end-systolic one is not later.

    cine: The video.
    ed_frame: Index of the end-diastolic frame, from 0.
    es_frame: Index of the end-systolic frame, from 0.
    name: Name of the video in messages.
    edv_ml: End-diastolic volume in ml; None if not known.
    esv_ml: End-systolic volume in ml; None if not known.
    Raises `InputError` where the video has fewer frames.
    """
    if ed_frame >= es_frame:
        return ()
    if ed_frame < 0 or es_frame >= len(cine.frames):
        raise InputError(
            f"The data set names frame {es_frame} of {name}, which has {len(cine.frames)} frames; get the video again."
        )
    return (Beat(float(cine.times_s[ed_frame]), float(cine.times_s[es_frame]), edv_ml, esv_ml),)
