"""Speed of a generator that follows an ECG while it is being recorded."""

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

#: An ECG arrives in pieces of this length.
PIECE_S = 0.05


@dataclass(frozen=True)
class LiveRun:
    """One generator going along with an ECG; all times in s.

    frames_per_second: made, when every piece of the ECG is there as soon as it is asked for; streams: how many hearts of fps
    that would be, one after the other. part_s: video in a part; future_s: ECG that a part needs beyond its end. first_frame:
    from the last piece of ECG that it needs until the first frame is there, over `starts` streams; part: the same of the parts
    that follow. behind_worst: how far a frame is behind the ECG when it can be shown, at most: part_s, future_s and part_worst.
    memory in MB, nan where the system does not tell.
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
        """All fields; what is unknown is None."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def memory_mb() -> float:
    """Memory that this process holds, in MB; nan where the system does not tell."""
    status = Path("/proc/self/statm")
    if not status.is_file():
        return math.nan
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def looped(ecg: Ecg, piece_s: float = PIECE_S) -> Iterator[Ecg]:
    """An ECG without an end, from 0 s on, in pieces: the recording from its first to its last R peak, again and again.

    Raises `InputError` where there are not two beats.
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
    """Pieces of an ECG that remember when the last of them was handed out."""

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
    """The parts of a live video, each with the seconds from the last piece of ECG that it needed until it was there."""
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
    """Go along with a repeated ECG for so many seconds of video, and begin anew `starts` times; progress(done, in all).

    Raises `InputError` as the generator does, for less than a first and two further parts, and where it cannot follow an ECG.
    """
    live = generator.live_timing
    if live is None:
        raise InputError(f"The generator {generator.name} cannot follow a live ECG.")
    if seconds < live.first_s + 2 * live.part_s or starts < 1:
        raise InputError("A live measurement needs a first and two further parts, and at least one start.")

    def clock() -> float:
        return now(device)

    # What the first parts need is prepared, so that all is warm and the loop of the ECG costs nothing.
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
