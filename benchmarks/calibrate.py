"""Fit what EF to give to a generator so that its videos have the one asked for, and how far ahead to ask its hearts to be.

Command: python benchmarks/calibrate.py --model DIR. It takes hearts of seeds 60,000 and up, half of them with a first frame; no
benchmark uses them. The result goes into generator.json. Of a cascade it takes the first stage, from end-diastolic frames.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascade_steps import first_stage, seen_efs, small_videos
from common import arguments, held_out
from echogen.ecg import find_landmarks
from echogen.generators import EchoPulse, Generator
from echogen.generators.echodiffusion.generator import EchoDiffusion
from echogen.metrics.heart.timing import pooled_report
from ejection import SECONDS, first_frame, measured_ef
from timing import es_times, expected

GIVEN = (15.0, 30.0, 45.0, 60.0, 78.0)
FIRST_SEED = 60_000
AT_ONCE = 20  # hearts of a cascade in one batch


def made(job: tuple[str, int]) -> list[float]:
    """The EF of the videos of one heart, for each EF given."""
    model, index = job
    heart = Generator.from_pretrained(model)
    assert isinstance(heart, EchoPulse)
    heart.config = replace(heart.config, ef_calibration=())
    case = held_out(FIRST_SEED + index, 4.0)
    image, start = first_frame(case)
    shared = {"seconds": SECONDS, "view": case.cine.view, "seed": case.seed, "reference": image if index % 2 else None}
    return [measured_ef(heart(case.ecg, start_s=start, ef_percent=ef, **shared)) for ef in GIVEN]


def lag(job: tuple[str, int]) -> tuple[list[float], list[float]]:
    """Measured end-systoles of a video without an EF, and the aortic closures that its ECG lets expect."""
    model, index = job
    heart = Generator.from_pretrained(model)
    assert isinstance(heart, EchoPulse)
    heart.config = replace(heart.config, ahead_s=0.0)
    case = held_out(FIRST_SEED + 100 + index, 6.0)
    cine = heart(case.ecg, seconds=6.0, seed=case.seed)
    return list(es_times(cine)), list(expected(find_landmarks(case.ecg), cine))


def made_small(model: EchoDiffusion, hearts: int) -> NDArray[np.float64]:
    """The same of the first stage of a cascade, for many hearts at once."""
    model.config = replace(model.config, ef_calibration=())
    cascade, steps = first_stage(model)
    found = []
    for first in range(0, hearts, AT_ONCE):
        cases = [held_out(FIRST_SEED + index, 2.0) for index in range(first, min(first + AT_ONCE, hearts))]
        found.append(seen_efs(small_videos(cascade, model.config, cases, GIVEN, steps), model.config))
    return np.concatenate(found).reshape(hearts, len(GIVEN))


def rising_pairs(table: NDArray[np.float64]) -> list[list[float]]:
    """Each EF given, with the mean of the videos it makes, forced to rise."""
    means = np.maximum.accumulate(np.nanmean(table, axis=0) + 1e-3 * np.arange(len(GIVEN)))
    pairs = [[given, round(float(mean), 1)] for given, mean in zip(GIVEN, means, strict=True)]
    print(pairs, np.nanstd(table, axis=0).round(1))
    return pairs


def save(model: str, **changes: Any) -> None:
    """Changes of generator.json."""
    path = Path(model) / "generator.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | changes, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    options = arguments(__doc__ or "", hearts=96, lag_hearts=24, processes=2)
    model = Generator.from_pretrained(options.model)
    if isinstance(model, EchoDiffusion):
        save(options.model, ef_calibration=rising_pairs(made_small(model, options.hearts)))
        return
    with ProcessPoolExecutor(options.processes) as pool:
        late = list(pool.map(lag, [(options.model, i) for i in range(options.lag_hearts)]))
        table = np.array(list(pool.map(made, [(options.model, i) for i in range(options.hearts)])))
    report = pooled_report([(np.array(video), np.array(ecg)) for video, ecg in late])
    print(report)
    save(options.model, ef_calibration=rising_pairs(table), ahead_s=round(report.mean_ms / 1000, 3))


if __name__ == "__main__":
    main()
