"""Echo video in the colours in which it was stored: what the machine drew over it is told from the echo by its colour."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from echogen.arrays import ByteArray
from echogen.cine.dicom import read_dicom_colour
from echogen.cine.pictures import decode_pictures
from echogen.cine.reading import file_kind, read_cine
from echogen.cine.timing import check_fps
from echogen.cine.video import decode_video
from echogen.errors import InputError
from echogen.records import SecondsArray

_ECG_REGION, _SECONDS = 10, 4


@dataclass(frozen=True)
class ColourCine:
    """An echo video in colour.

    frames: (T, H, W, 3) uint8 RGB. times_s: (T,) strictly increasing. heart_rate_bpm: as a DICOM file states it, else None.
    ecg_seconds_per_pixel: of the region that a DICOM file calls its ECG, in stored pixels, else None.
    Raises `InputError` when shapes disagree or times do not increase.
    """

    frames: ByteArray
    times_s: SecondsArray
    heart_rate_bpm: float | None = None
    ecg_seconds_per_pixel: float | None = None

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or 0 in self.frames.shape or self.frames.dtype != np.uint8:
            raise InputError(
                "Colour frames must be a (frames, height, width, 3) array of 8-bit values, "
                f"not {self.frames.shape} of {self.frames.dtype}."
            )
        times = np.asarray(self.times_s, dtype=np.float64)
        if times.shape != self.frames.shape[:1] or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise InputError(f"The {len(self.frames)} colour frames need as many finite times that increase.")
        object.__setattr__(self, "times_s", times)


def read_colour(path: str | Path, *, fps: float | None = None) -> ColourCine:
    """Read an echo video or still in its colours; a file that holds only grey comes as grey.

    What `read_cine` reads, with the same times and errors; pixels stay as they are stored, also where they are not square.
    fps: frames per second in Hz instead of the file's own times.
    """
    path = Path(path)
    check_fps(fps)
    kind = file_kind(path)
    if kind == "dicom":
        frames, times, dataset = read_dicom_colour(path, fps)
        return ColourCine(frames, times, _stated_rate(dataset), _seconds_per_pixel(dataset))
    if kind == "picture":
        return ColourCine(*decode_pictures(path, fps, _colour_picture, channels=3)[:2])
    if kind == "video":
        return ColourCine(*decode_video(path, fps, _colour_frame, channels=3))
    grey = read_cine(path, fps=fps)
    return ColourCine(np.repeat(grey.frames[..., None], 3, axis=-1), grey.times_s)


def _colour_picture(image: Image.Image) -> ByteArray:
    return np.array(image.convert("RGB"))


def _colour_frame(frame: Any, reformatter: Any) -> ByteArray:
    return np.asarray(reformatter.reformat(frame, format="rgb24").to_ndarray())


def _stated_rate(dataset: Any) -> float | None:
    """The HeartRate of a DICOM file in bpm; machines without electrodes write 0, and a damaged one counts as not stated."""
    try:
        rate = float(dataset.get("HeartRate", 0) or 0)
    except Exception:
        return None
    return rate if 20 <= rate <= 300 else None


def _seconds_per_pixel(dataset: Any) -> float | None:
    """The time scale of the region of type ECG (DICOM PS3.3 C.8.5.5.1), where its coordinates are those of the stored frames.

    One that is damaged counts as not stated.
    """
    try:
        for region in dataset.get("SequenceOfUltrasoundRegions", None) or ():
            if region.get("RegionDataType") != _ECG_REGION or region.get("PhysicalUnitsXDirection") != _SECONDS:
                continue
            step = abs(float(region.get("PhysicalDeltaX", 0) or 0))
            right, bottom = int(region.get("RegionLocationMaxX1", 0)), int(region.get("RegionLocationMaxY1", 0))
            inside = right <= int(dataset.Columns) and bottom <= int(dataset.Rows)
            if inside and math.isfinite(step) and 1e-4 < step < 0.5:
                return step
    except Exception:
        return None
    return None
