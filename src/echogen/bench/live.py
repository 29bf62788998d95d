"""Speed of a generator that follows an ECG during its recording."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from echogen.bench.video import name_of, now
from echogen.ecg import find_landmarks
from echogen.errors import InputError
from echogen.generators import Generator
from echogen.records import Cine, Ecg

#: Length in s of the pieces in which an ECG arrives.
PIECE_S = 0.05


@dataclass(frozen=True)
class LiveRun:
    """Speed of one generator that follows an ECG; all times in s.

    model: Name of the generator.
    dtype: Type of its weights, for instance bfloat16.
    frames: Number of frames made.
    fps: Frames per second of the video.
    frames_per_second: Frames made in one second when no piece of the ECG has to be waited for.
    cpu_seconds_per_frame: CPU time of all threads for one frame.
    streams: Number of videos of `fps` that this speed serves, one after the other.
    part_s: Length of the video in one part.
    future_s: Length of the ECG that a part needs beyond its end.
    starts: Number of streams begun to time the first frame.
    first_frame_median: Time from the last piece of ECG that the first frame needs until that frame is made, median.
    first_frame_worst: The same time, longest.
    part_median: Time from the last piece of ECG that a further part needs until that part is made, median.
    part_worst: The same time, longest.
    behind_worst: Longest delay of a frame behind the ECG: part_s, future_s and part_worst together.
    memory_start_mb: Memory of the process before the video in MB; nan where the system does not state it.
    memory_end_mb: Memory of the process after the video in MB; nan where the system does not state it.
    """

    model: str
    dtype: str
    frames: int
    fps: float
    frames_per_second: float
    cpu_seconds_per_frame: float
    streams: int
    part_s: float
    future_s: float
    starts: int
    first_frame_median: float
    first_frame_worst: float
    part_median: float
    part_worst: float
    behind_worst: float
    memory_start_mb: float
    memory_end_mb: float

    def to_json(self) -> dict[str, Any]:
        """All fields for JSON; an unknown value is None."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def memory_mb() -> float:
    """Memory of this process in MB; nan where the system does not state it."""
    status = Path("/proc/self/statm")
    if not status.is_file():
        return math.nan
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def looped(ecg: Ecg, piece_s: float = PIECE_S) -> Iterator[Ecg]:
    """Repeat an ECG from its first to its last R peak without an end, in pieces of piece_s seconds, from 0 s on.

    Raises `InputError` for an ECG of fewer than two beats.
    """
    r_s = find_landmarks(ecg).r_s
    if len(r_s) < 2:
        raise InputError("An ECG of at least two beats is needed to repeat it.")
    first, last = (round((at - ecg.start_s) * ecg.rate_hz) for at in (r_s[0], r_s[-1]))
    signal = ecg.signal_mv[:, first:last]
    length, done = max(round(piece_s * ecg.rate_hz), 1), 0
    while True:
        places = np.arange(done, done + length) % signal.shape[1]
        yield Ecg(signal[:, places], ecg.rate_hz, ecg.lead_names, done / ecg.rate_hz)
        done += length


class ReceivedPieces:
    """Pieces of an ECG, with the time at which the last of them was handed out."""

    def __init__(self, pieces: Iterable[Ecg], clock: Callable[[], float]) -> None:
        self._pieces, self._clock = iter(pieces), clock
        self.handed_s = math.nan

    def __iter__(self) -> Iterator[Ecg]:
        return self

    def __next__(self) -> Ecg:
        piece = next(self._pieces)
        self.handed_s = self._clock()
        return piece


def timed_parts(
    generator: Generator, pieces: Iterable[Ecg], clock: Callable[[], float], **asked: Any
) -> Iterator[tuple[Cine, float]]:
    """Make the parts of a live video, each with the time in s from the last piece of ECG that it needs until it is made."""
    received = ReceivedPieces(pieces, clock)
    assert generator.live_timing is not None
    for part in generator.stream(received, start_s=generator.live_timing.lead_in_s, live=True, **asked):
        yield part, clock() - received.handed_s


def measure_live(
    generator: Generator,
    ecg: Ecg,
    device: torch.device,
    *,
    seconds: float = 8.0,
    starts: int = 5,
    steps: int | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> LiveRun:
    """Measure the speed of a generator that follows a repeated ECG.

    generator: Generator of live video.
    ecg: ECG of two beats or more.
    device: Device of the generator.
    seconds: Length of the video in s, at least a first and two further parts.
    starts: Number of streams begun to time the first frame.
    steps: Decoding steps; None takes the generator's own.
    progress: Called with the work done and the work in all.
    Raises `InputError` as the generator does, for too short a video, and for a generator that cannot follow an ECG.
    """
    live = generator.live_timing
    if live is None:
        raise InputError(f"The generator {generator.name} cannot follow a live ECG.")
    if seconds < live.first_s + 2 * live.part_s or starts < 1:
        raise InputError("A live measurement needs a first and two further parts, and at least one start.")

    def clock() -> float:
        return now(device)

    # A first part warms everything up, and the pieces of the ECG are computed before the clock runs.
    pieces = looped(ecg)
    ready = [next(pieces) for _ in range(math.ceil((live.lead_in_s + seconds + live.delay_s + 1.0) / PIECE_S))]
    for _ in timed_parts(generator, ready, clock, seconds=live.first_s + live.part_s, steps=steps):
        pass
    memory, firsts = memory_mb(), []
    for start in range(starts):
        stream = timed_parts(generator, ready, clock, seconds=live.first_s, steps=steps, seed=start)
        firsts.append(next(stream)[1])
        if progress is not None:
            progress(start + 1, starts + seconds)
    spent: list[float] = []
    frames, cpu = 0, time.process_time()
    for part, needed in timed_parts(generator, ready, clock, seconds=seconds, steps=steps):
        frames += len(part.frames)
        spent.append(needed)
        if progress is not None:
            progress(starts + frames / generator.native_fps, starts + seconds)
    cpu = time.process_time() - cpu
    rate = frames / sum(spent)
    return LiveRun(
        model=generator.name,
        dtype=name_of(getattr(generator, "dtype", torch.float32)),
        frames=frames,
        fps=generator.native_fps,
        frames_per_second=rate,
        cpu_seconds_per_frame=cpu / frames,
        streams=int(rate / generator.native_fps),
        part_s=live.part_s,
        future_s=live.future_s,
        starts=starts,
        first_frame_median=float(np.median(firsts)),
        first_frame_worst=max(firsts),
        part_median=float(np.median(spent[1:])),
        part_worst=max(spent[1:]),
        behind_worst=live.delay_s + max(spent[1:]),
        memory_start_mb=memory,
        memory_end_mb=memory_mb(),
    )
