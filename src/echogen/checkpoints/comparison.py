"""Comparison of a recorded network's outputs with the outputs of echogen's network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

#: Least recorded margin between the best two logits at which ids are compared; below it rounding may swap the ids.
SURE_MARGIN = 1e-4


@dataclass(frozen=True)
class Comparison:
    """Largest error of one output.

    name: Name of the output.
    error: Largest absolute difference, or a number of wrong ids.
    tolerance: Largest error that passes.
    """

    name: str
    error: float
    tolerance: float = 1e-4

    @property
    def passes(self) -> bool:
        """True if the error is within the tolerance; an error that is not a number is not."""
        return bool(self.error <= self.tolerance)


#: Function from the path of a recorded .npz file, whose folder holds manifest.json and the weights, to its comparisons.
Check = Callable[[Path], list[Comparison]]


def largest_error(ours: Any, recorded: Any) -> float:
    """Largest |ours - recorded|; infinite where shapes differ, or where ours is not finite and the record is."""
    one, other = np.asarray(ours, dtype=np.float64), np.asarray(recorded, dtype=np.float64)
    if one.shape != other.shape or (np.isfinite(other) & ~np.isfinite(one)).any():
        return float("inf")
    same = one == other  # infinities of one sign
    return float(np.max(np.where(same, 0.0, np.abs(one - other)), initial=0.0))


def wrong_ids(ours: Any, recorded: Any, margin: Any = None) -> float:
    """Number of ids that differ, among those whose recorded margin (if there is one) is at least `SURE_MARGIN`."""
    one, other = np.asarray(ours), np.asarray(recorded)
    if one.shape != other.shape:
        return float("inf")
    sure = np.ones(one.shape, bool) if margin is None else np.asarray(margin).reshape(one.shape) >= SURE_MARGIN
    return float(((one != other) & sure).sum())
