"""An ECG as ST-MEM takes it: by ST-MEM's own recipe, or as the published ECHOPulse code made it from one beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import signal as dsp

from echogen.arrays import Floats
from echogen.ecg.filters import resample
from echogen.ecg.leads import STANDARD_LEADS
from echogen.errors import InputError
from echogen.records import Ecg, FloatArray

RATE_HZ = 250.0
SAMPLES = 2250
#: The Butterworth filters, of this order each and run forward and backward, and their edges in Hz.
FILTERS, ORDER = (("highpass", 0.67), ("lowpass", 40.0)), 5
#: Number of repetitions of the beat in the published ECHOPulse code, and the row it is put in.
BEATS, LEAD_II = 16, 1
_MARGIN_S = 0.5


@dataclass(frozen=True, eq=False)
class StMemInput:
    """Standardised leads: signal (leads, samples) float32 without unit; leads: the index of each row in `STANDARD_LEADS`.

    start_s: the time of sample 0 on the clock of the ECG.
    """

    signal: FloatArray
    leads: tuple[int, ...]
    start_s: float


def st_mem_input(
    ecg: Ecg,
    start_s: float | None = None,
    *,
    leads: Sequence[str] | None = None,
    samples: int = SAMPLES,
    rate_hz: float = RATE_HZ,
) -> StMemInput:
    """A window of an ECG by ST-MEM's own recipe: 0.67-40 Hz at 250 Hz, standardised over all its leads and samples together.

    start_s: where the window begins on the clock of the ECG (to the nearest sample after it); None is the ECG's start.
    leads: which leads to take; None takes those of the twelve standard leads that are there. Only the window is looked at.
    Source: Na et al., ICLR 2024 (Butterworth of order 5, forward and backward).
    Raises `InputError` when the ECG ends before the window does, a lead is unknown or missing, or the window is flat.
    """
    rows = _rows(ecg, leads)
    start = ecg.start_s if start_s is None else start_s
    length_s = samples / rate_hz
    if start < ecg.start_s - 1e-6 or ecg.end_s < start + length_s - 0.5 / ecg.rate_hz - 1e-6:
        raise InputError(
            f"The ECG encoder needs {length_s:g} s from {start:.2f} s on, but the ECG covers {ecg.start_s:.2f} to"
            f" {ecg.end_s:.2f} s; give a longer recording or an earlier start."
        )
    chosen = Ecg(ecg.signal_mv[list(rows)], ecg.rate_hz, tuple(ecg.lead_names[row] for row in rows), ecg.start_s)
    window = chosen.between(start, start + length_s + _MARGIN_S)
    _refuse_flat(window.signal_mv)
    part = resample(window, rate_hz)
    signal = part.signal_mv[:, :samples].astype(np.float64)
    # Rates that do not divide leave the last instants of the window without a sample of their own.
    signal = np.pad(signal, ((0, 0), (0, samples - signal.shape[1])), mode="edge")
    for kind, edge_hz in FILTERS:
        signal = dsp.sosfiltfilt(dsp.butter(ORDER, edge_hz, kind, fs=rate_hz, output="sos"), signal)
    indices = tuple(STANDARD_LEADS.index(_standard(name) or "") for name in part.lead_names)
    return StMemInput(_standardised(signal).astype(np.float32), indices, part.start_s)


def z_normalise(trace: ArrayLike) -> Floats:
    """A trace (samples,) in any unit with mean 0 and (population) standard deviation 1.

    Raises `InputError` for a trace that is flat, not finite, or shorter than 2 samples.
    """
    return _standardised(_trace(trace))


def published_input(trace: ArrayLike, samples: int = SAMPLES, num_leads: int = 12) -> FloatArray:
    """One beat as the published ECHOPulse code gives it to ST-MEM: (num_leads, samples) float32, all zero but row 1.

    The trace (samples,), in any unit, is normalised, repeated 16 times and stretched to `samples`, so that heart rate and
    time are lost: only for its released weights. Errors as in `z_normalise`.
    """
    result = np.zeros((num_leads, samples), dtype=np.float32)
    result[LEAD_II] = _tiled(z_normalise(trace), samples)
    return result


def notebook_input(trace: ArrayLike, samples: int = SAMPLES, num_leads: int = 12) -> FloatArray:
    """Input like `published_input`, but normalised last over all rows together: the other rows hold a constant below 0.

    The variant in the published evaluation notebook. Errors as in `z_normalise`.
    """
    rows = np.zeros((num_leads, samples))
    rows[LEAD_II] = _tiled(_trace(trace), samples)
    return _standardised(rows).astype(np.float32)


def _standard(name: str) -> str | None:
    """The standard lead of that name, upper or lower case; the modified limb leads MLI to MLIII count as I to III."""
    plain = name.upper().removeprefix("ML")
    return next((lead for lead in STANDARD_LEADS if lead.upper() == plain), None)


def _rows(ecg: Ecg, leads: Sequence[str] | None) -> list[int]:
    """The rows of the ECG to take."""
    if leads is None:
        rows = [row for row, name in enumerate(ecg.lead_names) if _standard(name)]
        if not rows:
            raise InputError(
                f"The ECG encoder must know which lead it sees, and {', '.join(ecg.lead_names)} is none of the standard leads;"
                " name the lead, for instance II."
            )
        return rows
    there = [name.upper() for name in ecg.lead_names]
    for lead in leads:
        if _standard(lead) is None:
            raise InputError(f"The ECG encoder knows the leads {', '.join(STANDARD_LEADS)}, not {lead!r}.")
        if lead.upper() not in there:
            raise InputError(f"This ECG has no lead {lead!r}; it has {', '.join(ecg.lead_names)}.")
    if not leads:
        raise InputError("The ECG encoder needs at least one lead; name one, for instance II.")
    return [there.index(lead.upper()) for lead in leads]


def _trace(trace: ArrayLike) -> Floats:
    values = np.asarray(trace, dtype=np.float64)
    if values.ndim != 1 or values.size < 2 or not np.isfinite(values).all():
        raise InputError(
            f"The ECG encoder needs one trace of at least 2 finite samples, but this one has shape {values.shape}"
            f"{'' if np.isfinite(values).all() else ' and holds values that are not finite'}."
        )
    _refuse_flat(values)
    return values


def _refuse_flat(signal: NDArray[np.floating]) -> None:
    """Raise `InputError` when every row (..., samples) is constant, up to rounding."""
    if (np.ptp(signal, axis=-1) <= 1e-9 * np.abs(signal).max(axis=-1)).all():
        raise InputError("The ECG is flat, so nothing can be seen in it; give a recording with heart beats.")


def _standardised(values: Floats) -> Floats:
    """All values to mean 0 and SD 1, over all axes together."""
    return np.asarray((values - values.mean()) / values.std())


def _tiled(beat: Floats, samples: int) -> Floats:
    """The beat 16 times, stretched so that its first and last sample lie at both ends of `samples`."""
    repeated = np.tile(beat, BEATS)
    return np.interp(np.linspace(0.0, 1.0, samples), np.linspace(0.0, 1.0, repeated.size), repeated)
