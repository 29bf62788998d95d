"""One lead of an ECG as a network reads it: cleaned, in units of its own size, cut to a window."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from echogen.ecg_window.spec import EcgWindowSpec

#: Percentile of |x| that becomes 1: the height of the QRS complexes rather than of a single artefact.
SIZE_PERCENTILE = 99
#: Smallest size in mV that a lead is divided by, so that the noise of a flat lead is not blown up.
LEAST_SIZE_MV = 0.02


def normalised_lead(lead_mv: NDArray[np.float32]) -> NDArray[np.float32]:
    """(samples,) a cleaned lead around 0, in units of its own size: the 99th percentile of |x|, at least 0.02 mV."""
    centred = lead_mv - np.median(lead_mv)
    size = max(float(np.percentile(np.abs(centred), SIZE_PERCENTILE)), LEAST_SIZE_MV)
    return (centred / size).astype(np.float32)


def lead_window(
    lead: NDArray[np.float32], lead_start_s: float, start_s: float, samples: int, spec: EcgWindowSpec
) -> NDArray[np.float32]:
    """(samples,) part of a lead that begins spec.before_s before the video's start_s; zeros where there is no ECG.

    lead: (n,) at spec.rate_hz, its first sample at lead_start_s.
    """
    first = round((start_s - spec.before_s - lead_start_s) * spec.rate_hz)
    window = np.zeros(samples, np.float32)
    here = slice(max(first, 0), min(first + samples, len(lead)))
    if here.stop > here.start:
        window[here.start - first : here.stop - first] = lead[here]
    return window
