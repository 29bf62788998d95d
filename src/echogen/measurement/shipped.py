"""The segmenter that is shipped, and the error that measuring with it has on clips whose truth is known."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from echogen.networks.config import load_network
from echogen.networks.segmenter import Segmenter

_FOLDER = Path(__file__).parent.parent / "weights" / "segmenter"


@lru_cache(maxsize=1)
def load_segmenter() -> Segmenter:
    """The shipped segmenter, on the CPU. Raises `InputError` when its files are damaged."""
    return load_network(Segmenter, _FOLDER)


@lru_cache(maxsize=1)
def truth_error() -> dict[str, Any]:
    """Error of measuring truth clips: n, ef_mae_percent, ef_bias_percent, es_median_ms, matched_fraction, command."""
    values: dict[str, Any] = json.loads((_FOLDER / "truth_error.json").read_text(encoding="utf-8"))
    return values
