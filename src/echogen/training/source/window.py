"""Windows: the stretch of a sample that a task trains on at once, its parts cut on one clock."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import ByteArray, Floats
from echogen.cine.timing import UNIFORM_WITHIN_S
from echogen.datasets.canonical_samples import outlined_frames
from echogen.datasets.patients import patient_of
from echogen.datasets.shards import Sample
from echogen.errors import InputError
from echogen.records import Beat, Ecg


@dataclass(frozen=True)
class WindowShape:
    """Size of a task's windows.

    frames: Number of frames; 0 for a task that takes ECGs only.
    fps: Frames per second, to which clips of another rate are resampled by their frame times.
    ecg_before_s: Length of ECG in s before the first frame; an ECG that begins later is given from its beginning.
    ecg_after_s: Length of ECG in s after the last frame.
    ecg_seconds: Length in s of the ECG of a task that takes ECGs only.
    at_ed: Begin at an end-diastole, where the sample has one early enough.
    longest: Most frames, for windows that last as long as their clip allows; 0 for windows of `frames` frames.
    at_outlined: Put the middle frame on one whose structures are outlined; frames past the clip's ends repeat its ends.
    """

    frames: int
    fps: float = 32.0
    ecg_before_s: float = 2.0
    ecg_after_s: float = 1.0
    ecg_seconds: float = 0.0
    at_ed: bool = False
    longest: int = 0
    at_outlined: bool = False

    @property
    def seconds(self) -> float:
        """Time from the first to the last frame in s, or the length of the ECG where there are no frames."""
        return (self.frames - 1) / self.fps if self.frames else self.ecg_seconds


@dataclass(frozen=True)
class Window:
    """One training example; parts that the sample lacks are None or empty.

    key: Key of the sample in its source.
    times_s: (frames,) time of each frame in s on the sample's clock.
    frames: (frames, height, width) uint8 grey levels.
    reference: (height, width) uint8, a frame from anywhere in the sample.
    masks: (frames, height, width) uint8 ids of `records.STRUCTURES`, of the recorded frame nearest to each time;
        `records.UNLABELLED` in frames that nobody outlined.
    maps: Further arrays by name, frame by frame, such as the phantom's structure without speckle.
    ecg: The ECG around the window, on the same clock.
    recording: All of the sample's ECG, on the same clock.
    beats: Beats of the whole sample, on the same clock.
    ef_percent: Ejection fraction of the sample in %.
    view: View, one of `records.VIEWS`.
    sex: "m" or "f".
    patient: Name of the patient, or of the sample where the source names none.
    labels: All labels of the sample, as plain values.
    """

    key: str
    times_s: Floats
    frames: ByteArray | None = None
    reference: ByteArray | None = None
    masks: ByteArray | None = None
    maps: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)
    ecg: Ecg | None = None
    recording: Ecg | None = None
    beats: tuple[Beat, ...] = ()
    ef_percent: float | None = None
    view: str | None = None
    sex: str | None = None
    patient: str = ""
    labels: Mapping[str, Any] = field(default_factory=dict)

    def part(self, start: int, stop: int) -> Window:
        """The window's frames from start up to, not including, stop, with all else as it is."""
        return replace(
            self,
            times_s=self.times_s[start:stop],
            frames=None if self.frames is None else self.frames[start:stop],
            masks=None if self.masks is None else self.masks[start:stop],
            maps={name: values[start:stop] for name, values in self.maps.items()},
        )


def cut_window(sample: Sample, shape: WindowShape, rng: np.random.Generator) -> Window:
    """A window of a sample that begins at a random time.

    Raises `InputError` for a sample that is shorter than the window.
    """
    if not shape.frames:
        return _cut_ecg(sample, shape, rng)
    cine = sample.cine
    assert cine is not None
    recorded = cine.times_s
    if shape.at_outlined:
        return _window_at(sample, shape, _outlined_start(sample, shape, rng), shape.frames, rng)
    spare = float(recorded[-1] - recorded[0]) - shape.seconds
    # A clip whose last frame is missed by less than half an interval is long enough: its last frame stands for the moment.
    if spare < -0.5 / shape.fps:
        raise InputError(
            f"The sample {sample.key} lasts {recorded[-1] - recorded[0]:.2f} s, but a window needs {shape.seconds:.2f} s; "
            "ask for shorter windows (data.frames) or leave it out."
        )
    start = float(recorded[0]) + _start_offset(recorded, spare, shape.fps, rng)
    if shape.at_ed:
        start = _at_ed(sample, start, float(recorded[0]) + max(spare, 0.0), rng)
    left = math.floor((recorded[-1] - start) * shape.fps + 0.5) + 1
    return _window_at(sample, shape, start, max(shape.frames, min(shape.longest, left)), rng)


def _window_at(sample: Sample, shape: WindowShape, start: float, frames: int, rng: np.random.Generator) -> Window:
    """The window of a number of frames that begins at a time in s."""
    cine = sample.cine
    assert cine is not None
    recorded, times = cine.times_s, start + np.arange(frames) / shape.fps
    nearest = np.abs(recorded[None, :] - times[:, None]).argmin(1)
    recording = ecg = sample.ecg if sample.labels.get("synchronous", True) is not False else None
    if ecg is not None:
        begin, end = times[0] - shape.ecg_before_s, times[-1] + shape.ecg_after_s
        ecg = ecg.between(begin, end) if ecg.start_s < end and ecg.end_s > begin else None
    return Window(
        key=sample.key,
        times_s=times,
        frames=_frames_at(cine.frames, recorded, times),
        reference=np.array(cine.frames[int(rng.integers(len(cine.frames)))]),
        masks=None if sample.masks is None else sample.masks[nearest],
        maps={name: values[nearest] for name, values in sample.maps.items()},
        ecg=ecg,
        recording=recording,
        beats=sample.study.beats,
        ef_percent=sample.labels.get("ef_percent"),
        view=cine.view,
        sex=sample.labels.get("sex"),
        patient=patient_of(sample),
        labels=sample.labels,
    )


def shown_ef_percent(window: Window) -> float | None:
    """Median EF in % of the beats that begin and empty within a window; where none does, that of the nearest beat.

    Where no beat has volumes, the sample's own EF.
    """
    start, end = window.times_s[0], window.times_s[-1]
    known = [(beat, beat.ef_percent) for beat in window.beats if beat.ef_percent is not None]
    shown = [ef for beat, ef in known if beat.ed_s >= start and beat.es_s <= end]
    if shown:
        return float(np.median(shown))
    if known:
        return min(known, key=lambda each: abs(each[0].ed_s + each[0].es_s - start - end))[1]
    return window.ef_percent


def _start_offset(recorded: Floats, spare: float, fps: float, rng: np.random.Generator) -> float:
    """Time in s from the first frame to the window's start; on a recorded frame where the clip has the window's rate already."""
    if spare <= 0:
        return 0.0
    intervals = np.diff(recorded)
    if len(intervals) and np.abs(intervals - 1.0 / fps).max() <= UNIFORM_WITHIN_S:
        return float(recorded[int(rng.integers(int(spare * fps + 1e-6) + 1))] - recorded[0])
    return float(rng.uniform(0.0, spare))


def _outlined_start(sample: Sample, shape: WindowShape, rng: np.random.Generator) -> float:
    """Start in s of a window whose middle frame is outlined."""
    assert sample.cine is not None
    assert sample.masks is not None
    outlined = np.flatnonzero(outlined_frames(sample.masks))
    return float(sample.cine.times_s[int(rng.choice(outlined))]) - (shape.frames // 2) / shape.fps


def _at_ed(sample: Sample, otherwise: float, latest: float, rng: np.random.Generator) -> float:
    """Time in s of one of the sample's end-diastoles up to the latest start; `otherwise` where there is none."""
    assert sample.cine is not None
    earliest = float(sample.cine.times_s[0])
    found = [beat.ed_s for beat in sample.study.beats if earliest - 1e-6 <= beat.ed_s <= latest + 1e-6]
    return float(rng.choice(found)) if found else otherwise


def _frames_at(frames: ByteArray, recorded: Floats, times_s: Floats) -> ByteArray:
    """(T, H, W) the picture at each time: a recorded frame where one lies there, else the mean of both neighbours by distance."""
    if len(recorded) == 1:
        return np.repeat(frames, len(times_s), axis=0)
    position = np.interp(times_s, recorded, np.arange(len(recorded)))
    nearest = np.rint(position).astype(int)
    if np.abs(recorded[nearest] - np.clip(times_s, recorded[0], recorded[-1])).max() <= UNIFORM_WITHIN_S:
        return np.array(frames[nearest])
    before = np.minimum(position.astype(int), len(frames) - 2)
    share = (position - before)[:, None, None]
    return np.rint(frames[before] * (1.0 - share) + frames[before + 1] * share).astype(np.uint8)


def _cut_ecg(sample: Sample, shape: WindowShape, rng: np.random.Generator) -> Window:
    """A window of a sample's ECG alone."""
    ecg = sample.ecg
    assert ecg is not None
    spare = ecg.duration_s - shape.seconds
    if spare < -0.5 / ecg.rate_hz:
        raise InputError(
            f"The ECG of the sample {sample.key} lasts {ecg.duration_s:.2f} s, but a window needs {shape.seconds:.2f} s; "
            "leave it out or train an encoder with a shorter input."
        )
    start = ecg.start_s + (float(rng.uniform(0.0, spare)) if spare > 0 else 0.0)
    part = ecg.between(start, start + shape.seconds)
    sex, patient = sample.labels.get("sex"), patient_of(sample)
    return Window(sample.key, np.array([part.start_s]), ecg=part, sex=sex, patient=patient, labels=sample.labels)
