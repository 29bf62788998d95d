"""The segmenters that are shipped, and the error that measuring with them has on clips whose truth is known."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from echogen.networks.config import load_network
from echogen.networks.segmenter import Segmenter

#: Folder of the shipped weights.
WEIGHTS = Path(__file__).parent.parent / "weights"
#: The folder of the one that measures: "segmenter", which judged all published figures, or "reader", which also reads real echo.
DEFAULT = "segmenter"


@lru_cache(maxsize=2)
def load_segmenter(name: str = DEFAULT) -> Segmenter:
    """A shipped segmenter, "segmenter" or "reader", on the CPU. Raises `InputError` when its files are damaged."""
    return load_network(Segmenter, WEIGHTS / name)


@lru_cache(maxsize=2)
def truth_error(name: str = DEFAULT) -> dict[str, Any]:
    """Error of measuring truth clips: n, ef_mae_percent, ef_bias_percent, es_median_ms, matched_fraction, command."""
    values: dict[str, Any] = json.loads((WEIGHTS / name / "truth_error.json").read_text(encoding="utf-8"))
    return values
