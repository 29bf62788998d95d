"""Beats of one lead checked against the other leads: false ones, and those that it misses.

A lead across the heart's axis may show a P wave larger than its QRS; a broad, smooth ventricular beat may hardly stand out in it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import Floats
from echogen.ecg.detectors import REFRACTORY_S, find_peaks, slope_energy

#: A lead whose strong signal does not exceed its quiet one by this factor is noise, or flatter than this.
_LEAST_RATIO, _LEAST_MV_PER_S = 4.0, 0.2
#: So many samples a second are enough.
_ENOUGH_HZ = 200.0
#: Beats of one lead at which the leads together have less than this share of what they have near by are none.
_LEAST_SHARE, _NEAR_S = 0.6, 0.3
#: Time in s around a moment within which its height is looked for.
_AT_S = 0.06
#: A beat that was missed is as steep as this share of the usual one, in so many leads and this share of those that show beats.
_SLOPE, _LEAST_LEADS, _LEADS_SHARE = 0.34, 3, 1 / 3
#: Soon after another beat it is steeper than most T waves.
_SLOPE_SOON, _SOON_S = 0.6, 0.36
#: Waves that follow most beats by the same time, so soon and no steeper, are their T waves; before most of them come P waves.
_T_UNTIL_S, _HIGHEST_T, _P_UNTIL_S, _HIGHEST_P = 0.55, 0.45, 0.3, 0.7
#: So near to an end, a signal that is cut off may look steep.
_EDGE_S = 0.15
#: Alike is what is at least this share of it.
_ALIKE = 0.7


class AllLeads:
    """Steepness of a signal (leads, samples) in mV in the leads that show beats; about 1 in a QRS.

    slope: in half of those leads. steep: in a third of them, for a beat that most leads hardly show. Nothing is said where
    fewer than two leads show any.
    """

    def __init__(self, leads: NDArray[np.float32] | Floats, rate_hz: float) -> None:
        self._step = max(int(rate_hz / _ENOUGH_HZ), 1)
        self.rate_hz = rate_hz / self._step
        thinned = self._thinned(np.asarray(leads, dtype=np.float64))
        slopes = slope_energy(thinned, self.rate_hz)
        quiet, strong = np.percentile(slopes, (25, 98), axis=1, keepdims=True)
        shows = (strong > np.maximum(_LEAST_RATIO * quiet, _LEAST_MV_PER_S))[:, 0]
        self.known = shows.sum() > 1
        slopes, quiet, strong = (values[shows] for values in (slopes, quiet, strong))
        shares = np.clip((slopes - quiet) / np.maximum(strong - quiet, 1e-9), 0.0, 2.0)
        self.slope: Floats = np.median(shares, axis=0) if self.known else np.empty(0)
        count = min(len(shares), max(_LEAST_LEADS, round(_LEADS_SHARE * len(shares))))
        self.steep: Floats = np.sort(shares, axis=0)[-count] if self.known else np.empty(0)

    def confirms(self, peaks: Floats) -> bool:
        """Tell whether the beats of one lead, at fractional samples, lie where the leads together have theirs."""
        if not self.known or peaks.size == 0:
            return True
        peaks = self._at(peaks)
        share = self._highest(self.slope, peaks, _AT_S) / np.maximum(self._highest(self.slope, peaks, _NEAR_S), 1e-9)
        return float(np.median(share)) >= _LEAST_SHARE

    def completed(self, peaks: Floats) -> Floats:
        """The beats of one lead, at fractional samples, and those that it misses, in order of time."""
        if not self.known or peaks.size < 2:
            return peaks
        missed = self._missed(self._at(peaks))
        return np.sort(np.concatenate([peaks, missed * self._step + (self._step - 1) / 2]))

    def _missed(self, peaks: Floats) -> Floats:
        steep, beats = self.steep, list(peaks)
        candidates = find_peaks(steep, self.rate_hz)
        usual = float(np.median(self._highest(steep, peaks, _AT_S)))
        heights = steep[candidates] / max(usual, 1e-9)
        edge = _EDGE_S * self.rate_hz
        heights[(candidates < edge) | (candidates > len(steep) - edge)] = 0.0
        for n in sorted(np.flatnonzero(heights >= _SLOPE), key=lambda n: -heights[n]):
            at, height = float(candidates[n]), float(heights[n])
            away = (at - np.array(beats)) / self.rate_hz
            if np.abs(away).min() <= REFRACTORY_S:
                continue
            last, following = float(away[away > 0].min(initial=np.inf)), float(-away[away < 0].max(initial=-np.inf))
            if last < _SOON_S and (height < _SLOPE_SOON or self._alike(peaks, last, height * usual)):
                continue
            if last < _T_UNTIL_S and height < _HIGHEST_T and self._alike(peaks, last, height * usual):
                continue
            if following < _P_UNTIL_S and height < _HIGHEST_P and self._alike(peaks, -following, height * usual):
                continue
            beats.append(at)
        return np.array(beats[len(peaks) :])

    def _alike(self, peaks: Floats, offset_s: float, height: float) -> bool:
        """Tell whether most beats have something about as steep at this time after them."""
        there = self._highest(self.steep, peaks + offset_s * self.rate_hz, 0.04)
        return float(np.mean(there > _ALIKE * height)) > 0.5

    def _thinned(self, signal: Floats) -> Floats:
        whole = signal.shape[-1] // self._step * self._step
        return signal[..., :whole].reshape(*signal.shape[:-1], -1, self._step).mean(-1)

    def _at(self, peaks: Floats) -> Floats:
        return np.asarray((peaks - (self._step - 1) / 2) / self._step)

    def _highest(self, values: Floats, samples: Floats | NDArray[np.int64], around_s: float) -> Floats:
        reach = round(around_s * self.rate_hz)
        near = np.rint(samples).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
        return np.asarray(values[near.clip(0, len(values) - 1)].max(axis=1))
