"""Fit what EF to give to a generator so that its videos have the one asked for: python benchmarks/calibrate.py --model DIR.

Hearts of seeds 60,000 and up, half of them with a first frame; no benchmark uses them. The result goes into generator.json.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from common import arguments, held_out
from echogen.generators import EchoPulse, Generator
from ejection import SECONDS, first_frame, measured_ef

GIVEN = (15.0, 30.0, 45.0, 60.0, 78.0)
FIRST_SEED = 60_000


def made(job: tuple[str, int]) -> list[float]:
    """The EF of the videos of one heart, for each EF given."""
    model, index = job
    heart = Generator.from_pretrained(model)
    assert isinstance(heart, EchoPulse)
    heart.config = replace(heart.config, ef_calibration=())
    case = held_out(FIRST_SEED + index, 2.5)
    image, start = first_frame(case)
    shared = {"seconds": SECONDS, "view": case.cine.view, "seed": case.seed, "frames": image if index % 2 else None}
    return [measured_ef(heart(case.ecg, start_s=start, ef_percent=ef, **shared)) for ef in GIVEN]


def main() -> None:
    options = arguments(__doc__ or "", hearts=10, processes=2)
    with ProcessPoolExecutor(options.processes) as pool:
        table = np.array(list(pool.map(made, [(options.model, i) for i in range(options.hearts)])))
    means = np.maximum.accumulate(np.nanmean(table, axis=0) + 1e-3 * np.arange(len(GIVEN)))
    pairs = [[given, round(float(mean), 1)] for given, mean in zip(GIVEN, means, strict=True)]
    print(pairs, np.nanstd(table, axis=0).round(1))
    path = Path(options.model) / "generator.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["ef_calibration"] = pairs
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
