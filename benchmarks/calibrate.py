"""Older way to calibrate a generator, kept for one release: python benchmarks/calibrate.py --model DIR.

It calls the code behind `echogen calibrate DIR`.
"""

from __future__ import annotations

from common import arguments
from echogen.calibration import calibrate


def main() -> None:
    options = arguments(__doc__ or "", hearts=96, lag_hearts=24, processes=2)
    found = calibrate(options.model, hearts=options.hearts, es_hearts=options.lag_hearts, processes=options.processes)
    print(found.timing, found.ef_pairs, found.ef_spread)


if __name__ == "__main__":
    main()
