"""Seconds to make 64 frames, part by part: python benchmarks/speed.py -> docs/performance.md."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import torch

import echogen
from common import DOCS, arguments, recordings, table
from echogen.generators import EchoPulse
from echogen.measure import load_segmenter, segment
from report import write_section

FRAMES = 64


def matmul_tflops(dtype: torch.dtype) -> float:
    a = torch.randn(1536, 1536).to(dtype)
    best = min(_timed(lambda: a @ a)[0] for _ in range(5))
    return 2 * 1536**3 / best / 1e12


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


class Stopwatch:
    """Adds up the wall time of some of a generator's methods."""

    def __init__(self, generator: EchoPulse) -> None:
        self.seconds: dict[str, float] = {}
        for name in ("_guess", "_conditioning", "_draw"):
            setattr(generator, name, self._around(name, getattr(generator, name)))

    def _around(self, name: str, method: Callable[..., object]) -> Callable[..., object]:
        def timed(*args: object) -> object:
            start = time.perf_counter()
            result = method(*args)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            return result

        return timed


def main() -> None:
    options = arguments(__doc__ or "", repeats=3)
    load = os.getloadavg()[0]
    heart = echogen.Generator.from_pretrained(options.model)
    assert isinstance(heart, EchoPulse)
    ecg = echogen.read_ecg(recordings()[0].path, seconds=8.0)
    watch = Stopwatch(heart)
    length = FRAMES / heart.native_fps
    heart(ecg, seconds=length)
    runs = []
    for _ in range(options.repeats):
        watch.seconds = {}
        wall, cpu = _timed(lambda: heart(ecg, seconds=length))
        runs.append((wall, cpu, dict(watch.seconds)))
    wall, cpu, parts = min(runs, key=lambda run: run[0])
    ecg_s = parts["_conditioning"]
    tokens_s = parts["_guess"] - ecg_s
    rows = [
        ["whole", f"{wall:.2f}", "100 %"],
        ["ECG: clean, landmarks, features", f"{ecg_s:.2f}", f"{100 * ecg_s / wall:.0f} %"],
        [f"tokens: {heart.config.steps} guided steps", f"{tokens_s:.2f}", f"{100 * tokens_s / wall:.0f} %"],
        ["decoding", f"{parts['_draw']:.2f}", f"{100 * parts['_draw'] / wall:.0f} %"],
        [
            "speckle and the rest",
            f"{wall - parts['_guess'] - parts['_draw']:.2f}",
            f"{100 * (wall - parts['_guess'] - parts['_draw']) / wall:.0f} %",
        ],
    ]
    frames = np.zeros((128, 128, 128), np.uint8)
    measuring = min(_timed(lambda: segment(frames, load_segmenter()))[0] for _ in range(options.repeats))
    rows.append(["measuring: segmenting 64 frames", f"{measuring / 2:.2f}", ""])
    text = table(["part", "seconds", "share"], rows)
    note = (
        f"{FRAMES} frames ({length:g} s) of 128 x 128 with decoding, batch 1, {heart.name} "
        f"({heart.weights_hash}), {torch.get_num_threads()} threads, "
        f"bfloat16 autocast, best of {options.repeats}: {wall:.2f} s wall, {cpu:.2f} CPU s, {wall / length:.2f} "
        "s per video second. "
        f"Load average before: {load:.2f}{'' if load < 0.3 else ' (NOT idle: an upper bound)'}. "
        f"The machine's matmul rate: {matmul_tflops(torch.float32):.2f} TFLOP/s float32, "
        f"{matmul_tflops(torch.bfloat16):.2f} bfloat16. "
        "Command: `python benchmarks/speed.py`.\n\n"
    )
    print(note + text)
    write_section(DOCS / "performance.md", "Making 64 frames", note + text)


if __name__ == "__main__":
    main()
