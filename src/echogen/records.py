"""The records that pass between all parts: what was recorded (`Ecg`, `Cine`, `Study`) and what is asked for (`Conditions`).

They are frozen, carry their units in their field names, are checked once when made, and know nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from echogen.errors import InputError

VIEWS = ("A4C", "A2C")
SEXES = ("m", "f")
#: Class ids of a segmentation mask.
STRUCTURES = {"background": 0, "lv": 1, "myocardium": 2, "la": 3, "rv": 4, "ra": 5}

FloatArray = NDArray[np.float32]
SecondsArray = NDArray[np.float64]
ByteArray = NDArray[np.uint8]


@dataclass(frozen=True)
class Ecg:
    """An electrocardiogram.

    signal_mv: (leads, samples) float32 in mV, finite. rate_hz: samples per second, any positive float.
    lead_names: one per row. start_s: the time of sample 0 on the clock it shares with a `Cine`.
    Raises `InputError` when shapes disagree, values are not finite, or the rate is not positive.
    """

    signal_mv: FloatArray
    rate_hz: float
    lead_names: tuple[str, ...]
    start_s: float = 0.0

    def __post_init__(self) -> None:
        signal = np.ascontiguousarray(self.signal_mv, dtype=np.float32)
        names = tuple(str(name) for name in self.lead_names)
        if signal.ndim != 2 or 0 in signal.shape:
            raise InputError(f"An ECG needs a (leads, samples) array that is not empty, but this one has shape {signal.shape}.")
        if len(names) != signal.shape[0]:
            raise InputError(f"The ECG has {signal.shape[0]} leads but {len(names)} lead names.")
        if not np.isfinite(signal).all():
            raise InputError("The ECG contains values that are not finite numbers; clean or cut out those samples first.")
        if not (np.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise InputError(f"The ECG sampling rate must be a positive number of Hz, not {self.rate_hz}.")
        object.__setattr__(self, "signal_mv", signal)
        object.__setattr__(self, "lead_names", names)
        object.__setattr__(self, "rate_hz", float(self.rate_hz))
        object.__setattr__(self, "start_s", float(self.start_s))

    @property
    def duration_s(self) -> float:
        """Samples / rate, in s."""
        return self.signal_mv.shape[1] / self.rate_hz

    @property
    def end_s(self) -> float:
        """Start + duration, in s."""
        return self.start_s + self.duration_s

    @property
    def times_s(self) -> SecondsArray:
        """(samples,) the time of each sample in s."""
        return self.start_s + np.arange(self.signal_mv.shape[1]) / self.rate_hz

    def lead(self, name: str) -> FloatArray:
        """(samples,) one lead in mV, by name, upper or lower case. Raises `InputError` if it is not there."""
        for index, own in enumerate(self.lead_names):
            if own.upper() == name.upper():
                return self.signal_mv[index]
        raise InputError(f"This ECG has no lead {name!r}; it has {', '.join(self.lead_names)}.")

    def between(self, start_s: float, end_s: float) -> Ecg:
        """The part from start_s to end_s on the same clock. Raises `InputError` if that part holds no sample."""
        first = max(0, int(np.ceil((start_s - self.start_s) * self.rate_hz - 1e-6)))
        last = min(self.signal_mv.shape[1], int(np.ceil((end_s - self.start_s) * self.rate_hz - 1e-6)))
        if last <= first:
            raise InputError(
                f"The ECG covers {self.start_s:.2f} to {self.end_s:.2f} s; nothing lies between {start_s:.2f} and {end_s:.2f} s."
            )
        return replace(self, signal_mv=self.signal_mv[:, first:last], start_s=self.start_s + first / self.rate_hz)


@dataclass(frozen=True)
class Cine:
    """A grey echocardiogram video.

    frames: (frames, height, width) uint8. times_s: (frames,) strictly increasing, in s.
    mm_per_pixel: square pixels, or None if unknown. view: "A4C", "A2C" or None. notes: what a reader had to guess, in sentences.
    Raises `InputError` when shapes disagree or times do not increase.
    """

    frames: ByteArray
    times_s: SecondsArray
    mm_per_pixel: float | None = None
    view: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        frames = np.asarray(self.frames)
        times = np.asarray(self.times_s, dtype=np.float64)
        if frames.ndim != 3 or 0 in frames.shape:
            raise InputError(
                f"A cine needs a (frames, height, width) array that is not empty, but this one has shape {frames.shape}."
            )
        if frames.dtype != np.uint8:
            raise InputError(f"Cine frames must be 8-bit grey values (uint8), not {frames.dtype}.")
        if times.shape != (frames.shape[0],):
            raise InputError(f"The cine has {frames.shape[0]} frames but {times.size} frame times.")
        if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise InputError("The frame times of a cine must be finite and strictly increasing.")
        if self.mm_per_pixel is not None and not (np.isfinite(self.mm_per_pixel) and self.mm_per_pixel > 0):
            raise InputError(f"The pixel size of a cine must be a positive number of mm, not {self.mm_per_pixel}.")
        if self.view is not None and self.view not in VIEWS:
            raise InputError(f"The view must be one of {', '.join(VIEWS)}, not {self.view!r}.")
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "times_s", times)

    @property
    def fps(self) -> float:
        """Frames per second: the inverse of the median frame interval; nan for a single frame."""
        if len(self.times_s) < 2:
            return float("nan")
        return float(1.0 / np.median(np.diff(self.times_s)))

    @property
    def duration_s(self) -> float:
        """From the first frame to one median interval past the last, in s; 0 for a single frame."""
        if len(self.times_s) < 2:
            return 0.0
        return float(self.times_s[-1] - self.times_s[0] + np.median(np.diff(self.times_s)))


@dataclass(frozen=True)
class Beat:
    """One heart beat: R peak, end-diastole and end-systole in s; volumes in ml. What is unknown is None.

    The beat's ED precedes its ES; `ef_percent` follows from the volumes.
    """

    ed_s: float
    es_s: float
    edv_ml: float | None = None
    esv_ml: float | None = None
    r_s: float | None = None

    @property
    def ef_percent(self) -> float | None:
        """(EDV - ESV) / EDV in %, or None where a volume is unknown."""
        if self.edv_ml is None or self.esv_ml is None or self.edv_ml <= 0:
            return None
        return 100.0 * (self.edv_ml - self.esv_ml) / self.edv_ml


@dataclass(frozen=True)
class Study:
    """An ECG and a cine on one clock, and what is known about them.

    ef_percent, view and sex describe the heart; beats the truth or the reading per beat;
    masks: (frames, height, width) uint8 with the ids of `STRUCTURES`, on the frames of the cine.
    """

    ecg: Ecg | None
    cine: Cine
    ef_percent: float | None = None
    sex: str | None = None
    beats: tuple[Beat, ...] = ()
    masks: ByteArray | None = None

    def __post_init__(self) -> None:
        if self.masks is not None and self.masks.shape != self.cine.frames.shape:
            raise InputError(f"Masks of shape {self.masks.shape} do not fit frames of shape {self.cine.frames.shape}.")


@dataclass(frozen=True)
class Conditions:
    """What is asked of a generator; anything may be absent (None).

    ecg: an `Ecg` on the clock of the video to make. frames: a `Cine`, first frame first; a frame of unknown time is a
    reference image. ef_percent: 0..100. view, sex, text as they say. maps: per-frame maps by name (mask, sketch, flow).
    Raises `InputError` for values out of range.
    """

    ecg: Ecg | None = None
    frames: Cine | None = None
    ef_percent: float | None = None
    view: str | None = None
    text: str | None = None
    sex: str | None = None
    maps: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.ef_percent is not None and not 0 < self.ef_percent < 100:
            raise InputError(f"The ejection fraction must lie between 0 and 100 %, not {self.ef_percent}.")
        if self.view is not None and self.view not in VIEWS:
            raise InputError(f"The view must be one of {', '.join(VIEWS)}, not {self.view!r}.")
        if self.sex is not None and self.sex not in SEXES:
            raise InputError(f"The sex must be m or f, not {self.sex!r}.")
