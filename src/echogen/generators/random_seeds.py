"""Seeds of independent random numbers, from a video's seed, a window's number and the purpose of the numbers."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """The random choices of an ECHOPulse video; the numbers are part of what a seed means, so they never change."""

    TOKENS = 0
    """Codes of a window's tokens and their order."""
    SPECKLE_NOISE = 1
    """Speckle that is new in every frame."""
    EF = 2
    """Ejection fraction where none is asked for."""
    CAVITY = 3
    """Size of the cavity at end-diastole where no frame shows it."""
    FIRST_FRAME = 4
    """Codes of a candidate of the first frame."""
    MACHINE = 5
    """Ultrasound machine whose speckle the video has."""


def mixed_seed(*numbers: int) -> int:
    """One seed of 63 bits from several numbers; other numbers, or another order, give an independent one."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
