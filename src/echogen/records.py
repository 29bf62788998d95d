"""Records that pass between all parts: recordings (`Ecg`, `Cine`, `Study`) and wishes for a video (`Conditions`).

Records are frozen, carry units in their field names, are checked once when made, and know nothing of files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import ByteArray
from echogen.deprecation import renamed_keyword, renamed_property
from echogen.errors import InputError

VIEWS = ("A4C", "A2C")
SEXES = ("m", "f")
#: Class ids of a segmentation mask.
STRUCTURES = {"background": 0, "lv": 1, "myocardium": 2, "la": 3, "rv": 4, "ra": 5}
#: Id in all pixels of a mask whose frame nobody outlined, as most frames of a clip of which only ED and ES were traced.
UNLABELLED = 255

FloatArray = NDArray[np.float32]
SecondsArray = NDArray[np.float64]


@dataclass(frozen=True)
class Ecg:
    """Electrocardiogram of one or more leads.

    signal_mv: (leads, samples) float32 in mV, finite.
    rate_hz: sampling rate in Hz, any positive number.
    lead_names: name of each row, such as "II" or "V5".
    start_s: time of sample 0 in s, on the clock that the ECG shares with a `Cine`.
    Raises `InputError` when shapes disagree, values are not finite, or the rate is not positive.

    >>> ecg = Ecg(np.zeros((1, 1000)), rate_hz=250.0, lead_names=("II",))
    >>> ecg.duration_s
    4.0
    >>> part = ecg.between(1.0, 2.5)
    >>> part.start_s, part.end_s
    (1.0, 2.5)
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
        """Number of samples over the sampling rate, in s."""
        return self.signal_mv.shape[1] / self.rate_hz

    @property
    def end_s(self) -> float:
        """Start plus duration, in s."""
        return self.start_s + self.duration_s

    @property
    def times_s(self) -> SecondsArray:
        """Time of each sample in s, (samples,)."""
        return self.start_s + np.arange(self.signal_mv.shape[1]) / self.rate_hz

    def lead(self, name: str) -> FloatArray:
        """Return one lead in mV, (samples,), by its name in upper or lower case; raises `InputError` if it is not there."""
        for index, own in enumerate(self.lead_names):
            if own.upper() == name.upper():
                return self.signal_mv[index]
        raise InputError(f"This ECG has no lead {name!r}; it has {', '.join(self.lead_names)}.")

    def between(self, start_s: float, end_s: float) -> Ecg:
        """Return the part from start_s to end_s on the same clock; raises `InputError` for a part without a sample."""
        first = max(0, int(np.ceil((start_s - self.start_s) * self.rate_hz - 1e-6)))
        last = min(self.signal_mv.shape[1], int(np.ceil((end_s - self.start_s) * self.rate_hz - 1e-6)))
        if last <= first:
            raise InputError(
                f"The ECG covers {self.start_s:.2f} to {self.end_s:.2f} s; nothing lies between {start_s:.2f} and {end_s:.2f} s."
            )
        return replace(self, signal_mv=self.signal_mv[:, first:last], start_s=self.start_s + first / self.rate_hz)


@dataclass(frozen=True)
class Cine:
    """Grey echocardiogram video.

    frames: (frames, height, width) uint8.
    times_s: time of each frame in s, (frames,) strictly increasing.
    mm_per_pixel: side of the square pixels in mm; None: unknown.
    view: one of `VIEWS`; None: unknown.
    notes: guesses of the reader, one sentence each.
    Raises `InputError` when shapes disagree or times do not increase.

    >>> first = Cine(np.zeros((2, 128, 128), np.uint8), np.array([0.0, 0.04]))
    >>> second = Cine(np.zeros((3, 128, 128), np.uint8), np.array([0.08, 0.12, 0.16]))
    >>> whole = Cine.join([first, second])
    >>> whole.frames.shape, round(whole.fps), round(whole.duration_s, 3)
    ((5, 128, 128), 25, 0.2)
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

    @classmethod
    def join(cls, parts: Sequence[Cine]) -> Cine:
        """Join consecutive parts of one video; pixel size and view are those of the first part.

        Raises `InputError` for no part, for parts of different height or width, and for times that do not increase.
        """
        if not parts:
            raise InputError("There is no part of a video to join; give at least one.")
        if len({part.frames.shape[1:] for part in parts}) > 1:
            raise InputError("The parts of a video must have the same height and width to be joined.")
        frames, times = (np.concatenate(arrays) for arrays in zip(*((part.frames, part.times_s) for part in parts), strict=True))
        return replace(parts[0], frames=frames, times_s=times)

    @property
    def fps(self) -> float:
        """Frames per second, one over the median frame interval; nan for a single frame."""
        if len(self.times_s) < 2:
            return float("nan")
        return float(1.0 / np.median(np.diff(self.times_s)))

    @property
    def duration_s(self) -> float:
        """Time from the first frame to one median interval past the last frame, in s; 0 for a single frame."""
        if len(self.times_s) < 2:
            return 0.0
        return float(self.times_s[-1] - self.times_s[0] + np.median(np.diff(self.times_s)))


@dataclass(frozen=True)
class Beat:
    """One heart beat; anything but its ED and ES may be unknown (None).

    ed_s: time of end-diastole in s.
    es_s: time of the end-systole that follows it, in s.
    edv_ml: volume of the left ventricle at end-diastole, in ml.
    esv_ml: volume of the left ventricle at end-systole, in ml.
    r_s: time of the R peak in s.
    """

    ed_s: float
    es_s: float
    edv_ml: float | None = None
    esv_ml: float | None = None
    r_s: float | None = None

    @property
    def ef_percent(self) -> float | None:
        """Ejection fraction (EDV - ESV) / EDV in %; None where a volume is unknown."""
        if self.edv_ml is None or self.esv_ml is None or self.edv_ml <= 0:
            return None
        return 100.0 * (self.edv_ml - self.esv_ml) / self.edv_ml


@dataclass(frozen=True)
class Study:
    """An ECG and a cine on one clock, with their labels.

    ecg: None where none was recorded.
    cine: the video.
    ef_percent: ejection fraction in %; None: unknown.
    sex: one of `SEXES`; None: unknown.
    beats: true or measured beats, in the order of time.
    masks: (frames, height, width) uint8 with the ids of `STRUCTURES`, on the frames of the cine, `UNLABELLED` in frames that
        nobody outlined; None: none.
    Raises `InputError` for masks of another shape than the frames.
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
class FrameMap:
    """A map with one picture for each time, such as a mask or a sketch of a video to make.

    values: (times, height, width), any number type, finite.
    times_s: (times,) strictly increasing, in s on the clock of the video.
    Raises `InputError` when shapes disagree, values are not finite or times do not increase.
    """

    values: NDArray[np.generic]
    times_s: SecondsArray

    def __post_init__(self) -> None:
        values, times = np.asarray(self.values), np.asarray(self.times_s, dtype=np.float64)
        if values.ndim != 3 or 0 in values.shape or times.shape != values.shape[:1]:
            raise InputError(
                f"A map needs a (times, height, width) array and as many times, but these have shapes {values.shape} "
                f"and {times.shape}."
            )
        if not np.isfinite(values).all() or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise InputError("A map needs finite values, and times that are finite and strictly increasing.")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "times_s", times)


@dataclass(frozen=True)
class ConditionRule:
    """Meaning of a field of `Conditions`, and the values that it may have.

    label: what an error sentence calls the condition.
    meaning: one sentence for documentation.
    unit: of a number, "" for anything else.
    between: open interval in which a number must lie.
    choices: words that are allowed; empty where anything is.
    """

    label: str
    meaning: str
    unit: str = ""
    between: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()

    def check(self, value: Any) -> None:
        """Raise `InputError` for a value that the condition cannot have; None, an absent condition, always passes."""
        if value is None:
            return
        if self.between is not None and not self.between[0] < value < self.between[1]:
            low, high = self.between
            raise InputError(f"The {self.label} must lie between {low:g} and {high:g} {self.unit}, not {value}.")
        if self.choices and value not in self.choices:
            raise InputError(f"The {self.label} must be one of {', '.join(self.choices)}, not {value!r}.")


def _rule(label: str, meaning: str, **more: Any) -> dict[str, ConditionRule]:
    """Return the metadata of a field of `Conditions`."""
    return {"rule": ConditionRule(label, meaning, **more)}


@dataclass(frozen=True)
class Conditions:
    """Conditions for a video to make; each may be absent (None). A new condition is one more field here, with its rule.

    ecg: electrocardiogram on the clock of the video.
    reference: cine whose first frame shows the heart; a frame of unknown time is a reference image.
    ef_percent: ejection fraction in %, between 0 and 100.
    view: one of `VIEWS`.
    text: a sentence about the echo.
    sex: of the patient, one of `SEXES`.
    maps: per-frame maps by name, such as "mask", "sketch" or "flow"; empty: none.
    Raises `InputError` for values out of range.

    >>> conditions = Conditions(ef_percent=35.0, view="A4C")
    >>> sorted(conditions.names)
    ['ef_percent', 'view']
    >>> Conditions(ef_percent=120.0)
    Traceback (most recent call last):
    echogen.errors.InputError: The ejection fraction must lie between 0 and 100 %, not 120.0.
    """

    ecg: Ecg | None = field(default=None, metadata=_rule("ECG", "Electrocardiogram on the clock of the video."))
    reference: Cine | None = field(default=None, metadata=_rule("reference", "Cine whose first frame shows the heart."))
    ef_percent: float | None = field(
        default=None,
        metadata=_rule("ejection fraction", "Ejection fraction of the left ventricle.", unit="%", between=(0.0, 100.0)),
    )
    view: str | None = field(default=None, metadata=_rule("view", "Apical four- or two-chamber view.", choices=VIEWS))
    text: str | None = field(default=None, metadata=_rule("text", "Sentence about the echo."))
    sex: str | None = field(default=None, metadata=_rule("sex", "Sex of the patient.", choices=SEXES))
    maps: Mapping[str, FrameMap] = field(default_factory=dict, metadata=_rule("maps", "Per-frame maps by name, such as a mask."))

    def __post_init__(self) -> None:
        for name, rule in self.rules().items():
            rule.check(getattr(self, name))

    @classmethod
    def rules(cls) -> dict[str, ConditionRule]:
        """Return the rule of every condition by its name, in the order of the fields."""
        return {each.name: each.metadata["rule"] for each in fields(cls)}

    @property
    def names(self) -> frozenset[str]:
        """Names of the conditions that are present; a map counts by its own name, such as "maps.mask"."""
        present = {name for name in self.rules() if name != "maps" and getattr(self, name) is not None}
        return frozenset(present | {f"maps.{name}" for name in self.maps})

    #: Older name of `reference`.
    frames = renamed_property("frames", "reference")


Conditions.__init__ = renamed_keyword("frames", "reference")(Conditions.__init__)  # type: ignore[method-assign]
