"""Tables and pictures of docs/benchmark.md: python benchmarks/phantom_bench.py OPTIONS, those of `echogen benchmark`."""

from __future__ import annotations

import sys

from common import DOCS
from echogen.cli import main

if __name__ == "__main__":
    sys.argv = ["echogen", "benchmark", *sys.argv[1:], "--output", str(DOCS)]
    main()
