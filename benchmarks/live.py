"""An hour of live video: python benchmarks/live.py [--minutes 60] -> docs/live.md.

A recording is repeated without an end and handed over in pieces of 50 ms, as they would be recorded (--real-time 1) or as fast as
the video goes. --minutes: of video.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

import echogen
from common import DOCS, arguments, recordings
from echogen.bench import looped, measure_live, measure_machine, memory_mb
from echogen.bench.live import timed_parts
from echogen.benchmark.markdown import table, write_section
from echogen.records import Ecg

MINUTE_S = 60.0


@dataclass
class Minute:
    """What happened while a minute of video was made."""

    frames: int = 0
    computed_s: float = 0.0
    parts_s: list[float] = field(default_factory=list)
    late: int = 0
    memory_mb: float = float("nan")

    def cells(self, name: str, fps: float) -> list[str]:
        parts = 1000 * np.array(self.parts_s)
        return [
            name,
            str(self.frames),
            f"{self.frames / self.computed_s:.0f}",
            f"{np.median(parts):.0f}",
            f"{np.percentile(parts, 99):.0f}",
            f"{parts.max():.0f}",
            str(self.late),
            f"{self.memory_mb:.0f}",
        ]


def in_time(pieces: Iterator[Ecg]) -> Iterator[Ecg]:
    """Pieces no sooner than they would be recorded."""
    begin = time.monotonic()
    for piece in pieces:
        time.sleep(max(0.0, piece.end_s - (time.monotonic() - begin)))
        yield piece


def soak(heart: echogen.Generator, ecg: Ecg, minutes: int, real_time: bool) -> list[Minute]:
    """Go along with the ECG; one entry a minute of video."""
    assert heart.live_timing is not None
    pieces = looped(ecg)
    found = [Minute()]
    begin = heart.live_timing.lead_in_s
    seconds = minutes * MINUTE_S
    stream = timed_parts(heart, in_time(pieces) if real_time else pieces, time.monotonic, seconds=seconds, ef_percent=55.0)
    for part, took in stream:
        if part.times_s[0] - begin >= len(found) * MINUTE_S:
            found[-1].memory_mb = memory_mb()
            print(" | ".join(found[-1].cells(str(len(found)), heart.native_fps)), flush=True)
            found.append(Minute())
        now = found[-1]
        now.frames += len(part.frames)
        now.computed_s += took
        now.parts_s.append(took)
        now.late += took > len(part.frames) / heart.native_fps and len(part.frames) > 1
    found[-1].memory_mb = memory_mb()
    return found


def shown(minutes: list[Minute]) -> list[int]:
    """Some of the minutes: the first five, then about ten more, and the last."""
    every = max(1, len(minutes) // 12)
    return sorted({*range(min(5, len(minutes))), *range(every - 1, len(minutes), every), len(minutes) - 1})


def main() -> None:
    options = arguments(__doc__ or "", minutes=60, real_time=0)
    device = torch.device("cpu")
    machine = measure_machine(device)
    ecg = echogen.read_ecg(recordings()[0].path)
    heart = echogen.Generator.from_pretrained(options.model, device)
    assert heart.live_timing is not None
    run = measure_live(heart, ecg, device)
    found = soak(heart, ecg, options.minutes, bool(options.real_time))
    header = ["minute", "frames", "frames/s", "part, median ms", "99 %", "worst", "parts late", "memory, MB"]
    rows = [found[index].cells(str(index + 1), heart.native_fps) for index in shown(found)]
    memory = [minute.memory_mb for minute in found]
    command = f"`python benchmarks/live.py --minutes {options.minutes}{' --real-time 1' if options.real_time else ''}`"
    text = (
        f"Generator {heart.name} ({heart.weights_hash}), {machine.device}, {machine.threads} threads, {run.dtype}, 128 x 128. "
        f"The 12-lead recording of 1000 Hz inside pydicom, repeated, in pieces of 50 ms, "
        f"{'in real time' if options.real_time else 'as fast as the video goes'}; {options.minutes} min of video. "
        f"From the last piece of ECG that it needs to the first frame: {1000 * run.first_frame_median:.0f} ms, at most "
        f"{1000 * run.first_frame_worst:.0f} ms of {run.starts} starts. A part holds {1000 * run.part_s:.0f} ms of video and "
        f"needs {1000 * run.future_s:.0f} ms of ECG beyond; it is late when it took longer than it "
        "lasts. frames/s: while computing. "
        f"Memory after the first minute {memory[0]:.0f} MB, after the last {memory[-1]:.0f} MB. Load average before: "
        f"{machine.load_before:.2f}{'' if machine.idle else ' (NOT idle: an upper bound)'}. Command: {command}.\n\n"
        + table(header, rows)
    )
    print(text)
    length = "An hour" if options.minutes == 60 else f"{options.minutes} minutes"
    write_section(DOCS / "live.md", f"{length} of live video", text)


if __name__ == "__main__":
    main()
