"""Calibration of a generator's folder, by held-out hearts that no benchmark uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from echogen.arrays import Floats
from echogen.calibration import echodiffusion, echopulse
from echogen.calibration.fit import change_settings, rising_pairs, with_settings
from echogen.errors import InputError
from echogen.generators import EchoDiffusion, EchoPulse, Generator
from echogen.generators.base import GENERATOR_FILE
from echogen.metrics.evaluation.processes import in_processes
from echogen.metrics.heart.timing import TimingReport, pooled_report

Progress = Callable[[float, float], None]

#: Hearts whose EF is measured at each EF given, and hearts whose end-systoles are timed.
HEARTS, ES_HEARTS = 96, 24


@dataclass(frozen=True)
class Calibration:
    """Result of a calibration, as it is written into generator.json.

    ef_pairs: (EF given, mean EF of the videos) in %, both rising.
    ef_spread: standard deviation of the EF of the videos over the hearts in points, one for each EF given.
    ahead_s: mean delay of the video's end-systoles in s, by which its beats are drawn ahead; None for a system without a clock.
    timing: errors of the end-systoles before the delay is made up for; None for a system without a clock.
    """

    ef_pairs: tuple[tuple[float, float], ...]
    ef_spread: tuple[float, ...]
    ahead_s: float | None = None
    timing: TimingReport | None = None


def calibrate(
    folder: str | Path,
    *,
    hearts: int = HEARTS,
    es_hearts: int = ES_HEARTS,
    processes: int = 1,
    progress: Progress | None = None,
) -> Calibration:
    """Calibrate the generator in a folder and write the result into its generator.json.

    hearts: whose EF is measured, once for each EF given. es_hearts: whose end-systoles are timed, where the system has a clock.
    processes: of ECHOPulse. progress: called with the hearts done and all hearts.

    Raises `InputError` for a folder without a generator, a system without a calibration, or videos in which nothing can be
    measured; generator.json is as it was then.
    """
    folder = Path(folder)
    if hearts < 1 or es_hearts < 1:
        raise InputError("A calibration needs at least one heart.")
    if not (folder / GENERATOR_FILE).is_file():
        raise InputError(f"There is no generator in {folder}; join one with echogen assemble.")
    with with_settings(folder, ef_calibration=[]) as plain:
        generator = Generator.from_pretrained(plain)
        if isinstance(generator, EchoDiffusion):
            found = _of_echodiffusion(generator, hearts, progress)
        elif isinstance(generator, EchoPulse):
            found = _of_echopulse(folder, plain, hearts, es_hearts, processes, progress)
        else:
            raise InputError(
                f"Generators of the system {generator.system} have no calibration; only echopulse and echodiffusion."
            )
    changes: dict[str, Any] = {"ef_calibration": [list(pair) for pair in found.ef_pairs]}
    change_settings(folder, **changes, **({} if found.ahead_s is None else {"ahead_s": found.ahead_s}))
    return found


def _of_echodiffusion(generator: EchoDiffusion, hearts: int, progress: Progress | None) -> Calibration:
    parts = []
    for first in range(0, hearts, echodiffusion.HEARTS_AT_ONCE):
        count = min(echodiffusion.HEARTS_AT_ONCE, hearts - first)
        parts.append(echodiffusion.measured_efs(generator, first, count))
        if progress:
            progress(first + count, hearts)
    return _fitted(np.concatenate(parts))


def _of_echopulse(
    folder: Path, plain: Path, hearts: int, es_hearts: int, processes: int, progress: Progress | None
) -> Calibration:
    def report(done: int, before: int) -> None:
        if progress:
            progress(before + done, hearts + es_hearts)

    with with_settings(folder, ahead_s=0.0) as late:
        times = _each(echopulse.es_times, str(late), es_hearts, processes, lambda done: report(done, 0))
    timing = pooled_report(times)
    if not np.isfinite(timing.mean_ms):
        raise InputError(f"No end-systole can be measured in {es_hearts} videos; train the generator longer.")
    rows = _each(echopulse.measured_efs, str(plain), hearts, processes, lambda done: report(done, es_hearts))
    return replace(_fitted(np.array(rows)), ahead_s=round(timing.mean_ms / 1000, 3), timing=timing)


def _fitted(measured: Floats) -> Calibration:
    pairs = rising_pairs(measured)
    return Calibration(pairs, tuple(np.nanstd(measured, axis=0).round(1).tolist()))


def _each(task: Callable[[str, int], Any], folder: str, count: int, processes: int, report: Callable[[int], None]) -> list[Any]:
    """Results of a task for hearts 0 to count - 1; report: called with the number of hearts done."""
    jobs = [(task, folder, index) for index in range(count)]
    results = in_processes(_numbered, jobs, processes) if processes > 1 else (_numbered(*job) for job in jobs)
    found: dict[int, Any] = {}
    for index, result in results:
        found[index] = result
        report(len(found))
    return [found[index] for index in range(count)]


def _numbered(task: Callable[[str, int], Any], folder: str, index: int) -> tuple[int, Any]:
    return index, task(folder, index)
