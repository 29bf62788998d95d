"""QRS detection: two detectors that share neither filter nor threshold, and a rule for where they disagree.

`energy_detector` follows Pan and Tompkins (IEEE Trans Biomed Eng 1985): slope energy against a running level, with search-back.
`wavelet_detector` takes the modulus of Mexican-hat wavelets at two QRS widths against a level that splits its peaks in two
classes (Otsu, 1979), block by block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy import signal as dsp

from echogen.arrays import Floats
from echogen.ecg.filters import band_pass

Indices = NDArray[np.int64]

REFRACTORY_S = 0.2
SAME_BEAT_S = 0.1
#: The beats of an ECG mostly have a contrast over 5. Peaks of noise, a sine or a ramp stay under 2.5, and there detectors differ.
LEAST_CONTRAST, CLEAR_CONTRAST = 2.0, 5.0
_BLOCK_S = 10.0


@dataclass(frozen=True)
class Detection:
    """QRS complexes of one lead.

    peaks: (beats,) sample positions of the dominant deflection, to a fraction of a sample.
    agreement: share of the beats that both detectors found, 0..1. contrast: QRS energy at the beats over that of quiet signal.
    """

    peaks: Floats
    agreement: float
    contrast: float

    @property
    def convincing(self) -> bool:
        """Tell heart beats from peaks of noise: beats are clear, or fainter and found by both detectors."""
        faint = self.contrast < 0.8 * CLEAR_CONTRAST
        return self.peaks.size > 0 and self.contrast * (self.agreement if faint else 1.0) >= LEAST_CONTRAST


def find_peaks(values: Floats, rate_hz: float) -> Indices:
    """Local maxima that are as far apart as beats can be."""
    found, _ = dsp.find_peaks(values, distance=max(int(REFRACTORY_S * rate_hz), 1))
    return np.asarray(found, dtype=np.int64)


def _running_level(positions: Indices, heights: Floats, samples: int, rate_hz: float) -> Floats:
    """The usual height of a QRS around each candidate: the median, over about 9 s, of the highest candidate of each 1.5 s."""
    width = 1.5 * rate_hz
    bins = np.minimum((positions / width).astype(np.int64), int(samples / width))
    highest = np.zeros(int(samples / width) + 1)
    np.maximum.at(highest, bins, heights)
    if highest.size > 1 and samples % width < 0.75 * width:
        highest[-1] = max(highest[-1], highest[-2])
    level = ndimage.median_filter(highest, size=min(7, highest.size), mode="nearest")
    return np.asarray(level[bins])


def slope_energy(signal: Floats, rate_hz: float) -> Floats:
    """Root of the mean squared slope of the 5-20 Hz band over 0.1 s, in mV/s, of one lead or several (leads, samples)."""
    band = band_pass(signal, rate_hz, 5.0, 20.0)
    slope = np.gradient(band, axis=-1) * rate_hz
    return np.sqrt(np.maximum(ndimage.uniform_filter1d(slope**2, max(int(0.1 * rate_hz), 1)), 0.0))


def energy_detector(signal: Floats, rate_hz: float) -> Indices:
    """Sample positions of QRS complexes by slope energy; possibly empty."""
    energy = slope_energy(signal, rate_hz)
    candidates = find_peaks(energy, rate_hz)
    if candidates.size == 0:
        return candidates
    heights = energy[candidates]
    level = _running_level(candidates, heights, len(signal), rate_hz)
    # A T wave follows within 0.36 s and is much flatter than the QRS before it.
    accepted: list[int] = []
    for n in np.flatnonzero(heights > 0.4 * level):
        if accepted and candidates[n] - candidates[accepted[-1]] < 0.36 * rate_hz and heights[n] < 0.6 * heights[accepted[-1]]:
            continue
        accepted.append(int(n))
    keep = np.array(accepted, dtype=np.int64)
    if keep.size > 2:
        # Search back in gaps longer than 1.66 of the usual interval, with a level of less than half.
        usual = ndimage.median_filter(np.diff(candidates[keep]).astype(np.float64), size=9, mode="nearest")
        for gap in np.flatnonzero(np.diff(candidates[keep]) > 1.66 * usual):
            between = np.arange(keep[gap] + 1, keep[gap + 1])
            apart = np.minimum(candidates[between] - candidates[keep[gap]], candidates[keep[gap + 1]] - candidates[between])
            between = between[(apart > 0.36 * rate_hz) & (heights[between] > 0.18 * level[between])]
            if between.size:
                accepted.append(int(between[np.argmax(heights[between])]))
    return candidates[np.sort(np.array(accepted, dtype=np.int64))]


def _otsu(heights: Floats) -> float:
    """The level that splits heights in two classes with the largest variance between them."""
    ordered = np.sort(heights)
    count = np.arange(1, ordered.size)
    sums = np.cumsum(ordered)
    low = sums[:-1] / count
    high = (sums[-1] - sums[:-1]) / (ordered.size - count)
    split = int(np.argmax(count * (ordered.size - count) * (high - low) ** 2))
    return float(0.5 * low[split] + 0.5 * high[split])


def wavelet_detector(signal: Floats, rate_hz: float) -> Indices:
    """Sample positions of QRS complexes by wavelet modulus; possibly empty."""
    centred = signal - np.median(signal)
    narrow, wide = (
        -ndimage.gaussian_laplace(centred, max(width * rate_hz, 0.8)) * (width * rate_hz) ** 2 for width in (0.014, 0.028)
    )
    modulus = ndimage.gaussian_filter1d(np.sqrt(narrow**2 + 0.5 * wide**2), max(0.03 * rate_hz, 0.8))
    candidates = find_peaks(modulus, rate_hz)
    heights = modulus[candidates]
    block = (candidates / (_BLOCK_S * rate_hz)).astype(np.int64)
    accepted = []
    for number in np.unique(block):
        # Neighbouring blocks count too, so that every block holds several beats.
        near = np.abs(block - number) <= 1
        if near.sum() < 3:
            continue
        level = min(_otsu(heights[near]), 0.6 * float(np.percentile(heights[near], 95)))
        accepted.append(candidates[(block == number) & (heights > level)])
    return np.concatenate(accepted) if accepted else candidates[:0]


def _matches(ours: Indices, theirs: Indices, tolerance: float) -> NDArray[np.bool_]:
    """Mark those of `ours` that have one of `theirs` within the tolerance."""
    if ours.size == 0 or theirs.size == 0:
        return np.zeros(ours.size, dtype=np.bool_)
    right = np.searchsorted(theirs, ours).clip(0, theirs.size - 1)
    left = (right - 1).clip(0)
    return np.asarray(np.minimum(np.abs(theirs[right] - ours), np.abs(theirs[left] - ours)) <= tolerance)


def irregularity(peaks: Indices | Floats, rate_hz: float) -> float:
    """Measure how unlike heart beats a series of peaks is: spread of its intervals, worse for impossible rates."""
    if peaks.size < 3:
        return 10.0
    intervals = np.diff(peaks) / rate_hz
    usual = float(np.median(intervals))
    penalty = 0.0 if 0.25 <= usual <= 2.5 else 2.0
    return float(np.median(np.abs(np.diff(intervals))) / usual + np.mean(np.abs(intervals - usual) > 0.5 * usual) + penalty)


def merge(one: Indices, other: Indices, energy: Floats, rate_hz: float) -> tuple[Indices, float]:
    """The beats of two detectors and the share both found.

    Beats that both have are kept. A beat of only one is kept if it is about as strong as those and not close to another.
    If they share less than half, the detector with the more regular rhythm is believed alone.
    """
    tolerance = SAME_BEAT_S * rate_hz
    common = one[_matches(one, other, tolerance)]
    agreement = common.size / max(one.size, other.size, 1)
    if agreement < 0.5:
        better = min((one, other), key=lambda peaks: irregularity(peaks, rate_hz))
        return better, agreement
    strength = float(np.median(energy[common]))
    beats = list(common)
    single = np.concatenate([one[~_matches(one, other, tolerance)], other[~_matches(other, one, tolerance)]])
    usual = float(np.median(np.diff(common))) if common.size > 1 else rate_hz
    for peak in sorted(single, key=lambda p: -energy[p]):
        apart = float(np.min(np.abs(np.array(beats) - peak)))
        strong = energy[peak] > 0.5 * strength and apart > 0.45 * usual
        if strong or (energy[peak] > 0.25 * strength and apart > 0.75 * usual):
            beats.append(peak)
    return np.sort(np.array(beats, dtype=np.int64)), agreement


def refine(signal: Floats, peaks: Indices, rate_hz: float) -> Floats:
    """Positions moved to the dominant deflection of each QRS, to a fraction of a sample (parabola through three samples).

    The polarity is that of most beats; a beat whose other deflection is much larger (an ectopic one) takes that.
    """
    band = band_pass(signal, rate_hz, 3.0, 40.0)
    reach = max(round(0.08 * rate_hz), 1)
    offsets = np.arange(-reach, reach + 1)
    window = band[np.clip(peaks[:, None] + offsets, 0, len(band) - 1)]
    # A gentle taper prefers the middle where deflections are alike.
    tapered = window * np.cos(0.35 * np.pi * offsets / reach)
    highest, lowest = tapered.max(axis=1), -tapered.min(axis=1)
    upright = np.median(highest) >= 0.8 * np.median(lowest)
    use_high = highest > 0.5 * lowest if upright else highest > 2.0 * lowest
    at = peaks + offsets[np.where(use_high, tapered.argmax(axis=1), tapered.argmin(axis=1))]
    at = np.clip(at, 1, len(band) - 2)
    before, here, after = band[at - 1], band[at], band[at + 1]
    bend = before - 2 * here + after
    shift = np.where(np.abs(bend) > 1e-12, 0.5 * (before - after) / np.where(np.abs(bend) > 1e-12, bend, 1.0), 0.0)
    refined = at + np.clip(shift, -0.5, 0.5)
    keep = np.concatenate([[True], np.diff(refined) > 0.6 * REFRACTORY_S * rate_hz])
    return np.asarray(refined[keep])


def contrast(energy: Floats, peaks: Indices, rate_hz: float) -> float:
    """Median slope energy at the beats over that of the quietest quarter of the signal."""
    if peaks.size == 0:
        return 0.0
    return float(np.median(energy[peaks]) / max(float(np.percentile(energy, 25)), 1e-12))


def detect_qrs(signal: Floats, rate_hz: float) -> Detection:
    """Find the QRS complexes of one lead, (samples,) in mV."""
    signal = np.asarray(signal, dtype=np.float64)
    if len(signal) < 0.5 * rate_hz or np.ptp(signal) <= 0:
        return Detection(np.empty(0), 0.0, 0.0)
    energy = slope_energy(signal, rate_hz)
    peaks, agreement = merge(energy_detector(signal, rate_hz), wavelet_detector(signal, rate_hz), energy, rate_hz)
    if peaks.size == 0:
        return Detection(np.empty(0), 0.0, 0.0)
    return Detection(refine(signal, peaks, rate_hz), agreement, contrast(energy, peaks, rate_hz))
