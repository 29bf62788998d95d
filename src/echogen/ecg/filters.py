"""Cleaning and resampling of ECGs; every filter is zero-phase, so no event moves in time."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal as dsp

from echogen.arrays import Floats
from echogen.errors import InputError
from echogen.records import Ecg

PASS_BAND_HZ = (0.5, 40.0)
MAINS_HZ = (50.0, 60.0)
#: Mains is present where its spectral density exceeds that of its neighbourhood by this factor.
_MAINS_RATIO = 6.0
_SINC_LOBES = 16
_CHUNK = 65536
#: Up to so many samples the weights of their neighbours are kept: a live ECG asks for the same ones again and again.
_KEPT_KERNEL = 4096


def zero_phase(sections: Any, signal: Floats) -> Floats:
    """Second-order sections forward and backward over the last axis, also for signals shorter than the usual padding."""
    padding = min(3 * (2 * len(sections) + 1) * 40, signal.shape[-1] - 1)
    return np.asarray(dsp.sosfiltfilt(sections, signal, padtype="even", padlen=max(padding, 0)))


def band_pass(signal: Floats, rate_hz: float, low_hz: float | None, high_hz: float | None, order: int = 2) -> Floats:
    """Zero-phase Butterworth band pass (either edge may be None); edges at or above 0.45 rate are left open."""
    result = signal - np.median(signal, axis=-1, keepdims=True)
    if high_hz is not None and high_hz < 0.45 * rate_hz:
        result = zero_phase(_butterworth(order, high_hz, "lowpass", rate_hz), result)
    if low_hz is not None:
        result = zero_phase(_butterworth(order, low_hz, "highpass", rate_hz), result)
    return result


@lru_cache(maxsize=64)
def _butterworth(order: int, edge_hz: float, kind: str, rate_hz: float) -> Floats:
    """Second-order sections; a live ECG asks for the same ones several times a second."""
    return np.asarray(dsp.butter(order, edge_hz, kind, fs=rate_hz, output="sos"))


def mains_frequency(signal: Floats, rate_hz: float) -> float | None:
    """50.0 or 60.0 where that mains hum stands out of the spectrum of a (samples,) signal sampled above 110 Hz, else None."""
    if rate_hz <= 110.0 or signal.shape[-1] < 2 * rate_hz:
        return None
    part = signal[: int(120 * rate_hz)]
    frequencies, density = dsp.welch(part, rate_hz, nperseg=int(2 * rate_hz))
    best: tuple[float, float] | None = None
    for mains in MAINS_HZ:
        if mains > rate_hz / 2 - 2:
            continue
        distance = np.abs(frequencies - mains)
        around = np.median(density[(distance > 2) & (distance < 8)])
        ratio = float(density[distance <= 0.75].max() / max(around, 1e-30))
        if ratio > _MAINS_RATIO and (best is None or ratio > best[0]):
            best = (ratio, mains)
    return best[1] if best else None


def clean(ecg: Ecg) -> Ecg:
    """Keep 0.5-40 Hz of every lead: no baseline wander, no muscle noise, no mains; same clock and shape.

    A notch at 50 or 60 Hz is added to a lead where that mains hum is present and the rate is above 110 Hz.
    """
    result = np.empty_like(ecg.signal_mv)
    for row, lead in enumerate(ecg.signal_mv):
        values = lead.astype(np.float64)
        mains = mains_frequency(values, ecg.rate_hz)
        if mains is not None:
            values = zero_phase(dsp.tf2sos(*dsp.iirnotch(mains, 30.0, ecg.rate_hz)), values - np.median(values))
        result[row] = band_pass(values, ecg.rate_hz, *PASS_BAND_HZ, order=3)
    return replace(ecg, signal_mv=result)


def resample(ecg: Ecg, rate_hz: float) -> Ecg:
    """The same ECG at another rate, by anti-aliased interpolation at the exact sample times.

    Windowed-sinc interpolation (Hann, 16 lobes each side) evaluated at start_s + k / rate_hz, so that odd rates such as
    513.625 Hz do not drift. Content above 0.475 of the lower of the two rates is removed. Raises `InputError` for a rate that is
    not positive.
    """
    if not (np.isfinite(rate_hz) and rate_hz > 0):
        raise InputError(f"The sampling rate must be a positive number of Hz, not {rate_hz}.")
    if rate_hz == ecg.rate_hz:
        return ecg
    samples = ecg.signal_mv.shape[1]
    count = max(int(np.floor((samples - 1) * rate_hz / ecg.rate_hz + 1e-9)) + 1, 1)
    half = int(np.ceil(_SINC_LOBES / min(1.0, rate_hz / ecg.rate_hz)))
    result = np.empty((len(ecg.lead_names), count), dtype=np.float32)
    chunk = max(_CHUNK * _SINC_LOBES // half, 256)
    for first in range(0, count, chunk):
        last = min(first + chunk, count)
        around = _sinc if last - first > _KEPT_KERNEL else _kept_sinc
        taken, weights = around(first, last, ecg.rate_hz, rate_hz)
        index = np.clip(taken, 0, samples - 1)
        for row, lead in enumerate(ecg.signal_mv):
            result[row, first:last] = np.einsum("nt,nt->n", lead[index], weights)
    return replace(ecg, signal_mv=result, rate_hz=rate_hz)


def _sinc(first: int, last: int, from_hz: float, to_hz: float) -> tuple[NDArray[np.int64], Floats]:
    """Old samples that each of the samples first..last at the new rate is made of, and their weights, (samples, taps) both."""
    ratio = min(1.0, to_hz / from_hz)
    half = int(np.ceil(_SINC_LOBES / ratio))
    taps = np.arange(-half + 1, half + 1)
    position = np.arange(first, last) * (from_hz / to_hz)
    whole = np.floor(position).astype(np.int64)
    distance = taps[None, :] - (position - whole)[:, None]
    weights = np.sinc(0.95 * ratio * distance) * (0.5 + 0.5 * np.cos(np.pi * distance / half)).clip(0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    return whole[:, None] + taps[None, :], weights


_kept_sinc = lru_cache(maxsize=4)(_sinc)
