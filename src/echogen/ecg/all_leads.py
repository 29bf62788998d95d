"""What the other leads say of the beats of one: whether they are beats at all, and which it misses.

A lead across the heart's axis may show a P wave larger than its QRS; a broad, smooth ventricular beat may hardly stand out in it.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from echogen.ecg.detectors import REFRACTORY_S, find_peaks, slope_energy
from echogen.ecg.filters import band_pass

Floats = NDArray[np.float64]

#: A lead whose strong signal does not exceed its quiet one by this factor is noise, or flatter than this.
_LEAST_RATIO, _LEAST_MV_PER_S = 4.0, 0.2
#: So many samples a second are enough.
_ENOUGH_HZ = 200.0
#: Beats of one lead at which the leads together have less than this share of what they have near by are none.
_LEAST_SHARE, _NEAR_S = 0.6, 0.3
#: How far around a moment its height is looked for, where a beat is and where one may be.
_AT_S, _AROUND_S = 0.06, 0.1
#: A beat that was missed has this share of the usual slope and size, and of the usual size in the lead that misses it; of the
#: slope, more soon after another beat, and after another missed one more than its T wave has.
_SLOPE, _SLOPE_SOON, _OWN_T, _SIZE, _OWN_SIZE, _SOON_S = 0.28, 0.40, 0.6, 0.5, 0.25, 0.36
#: What follows most beats by the same time and so soon is their T wave; alike is what is at least this much of it.
_T_UNTIL_S, _ALIKE = 0.55, 0.7


class AllLeads:
    """Slope and size of a signal (leads, samples) in mV, as half of the leads that show beats have them; about 1 in a QRS.

    Nothing is said where fewer than two leads show any.
    """

    def __init__(self, leads: NDArray[np.float32] | Floats, rate_hz: float) -> None:
        self._step = max(int(rate_hz / _ENOUGH_HZ), 1)
        self.rate_hz = rate_hz / self._step
        thinned = self._thinned(np.asarray(leads, dtype=np.float64))
        slopes = slope_energy(thinned, self.rate_hz)
        quiet, strong = np.percentile(slopes, (25, 98), axis=1, keepdims=True)
        shows = (strong > np.maximum(_LEAST_RATIO * quiet, _LEAST_MV_PER_S))[:, 0]
        self.known = shows.sum() > 1
        self._leads, slopes, quiet, strong = (values[shows] for values in (thinned, slopes, quiet, strong))
        shares = np.clip((slopes - quiet) / np.maximum(strong - quiet, 1e-9), 0.0, 2.0)
        self.slope: Floats = np.median(shares, axis=0) if self.known else np.empty(0)

    @cached_property
    def size(self) -> Floats:
        """(samples,) the size of the signal."""
        sizes = self._size(self._leads)
        return np.asarray(np.median(sizes / np.percentile(sizes, 98, axis=1, keepdims=True), axis=0))

    def confirms(self, peaks: Floats) -> bool:
        """Whether the beats of one lead, at fractional samples, lie where the leads together have theirs."""
        if not self.known or peaks.size == 0:
            return True
        peaks = self._at(peaks)
        share = self._highest(self.slope, peaks, _AT_S) / np.maximum(self._highest(self.slope, peaks, _NEAR_S), 1e-9)
        return float(np.median(share)) >= _LEAST_SHARE

    def completed(self, peaks: Floats, signal: Floats) -> Floats:
        """The beats of one lead, whose signal (samples,) this is, and those that it misses, in order of time."""
        if not self.known or peaks.size < 2:
            return peaks
        missed = self._missed(self._at(peaks), self._thinned(signal))
        return np.sort(np.concatenate([peaks, missed * self._step + (self._step - 1) / 2]))

    def _missed(self, peaks: Floats, signal: Floats) -> Floats:
        candidates = find_peaks(self.slope, self.rate_hz)
        heights, sizes, owns = (
            self._highest(values, candidates, around) / max(float(np.median(self._highest(values, peaks, _AT_S))), 1e-9)
            for values, around in ((self.slope, 0.0), (self.size, _AROUND_S), (self._size(signal), _AROUND_S))
        )
        usual = float(np.median(self._highest(self.slope, peaks, _AT_S)))
        large = (heights >= _SLOPE) & (sizes >= _SIZE) & (owns >= _OWN_SIZE)
        beats, added = list(peaks), dict[float, float]()
        for n in sorted(np.flatnonzero(large), key=lambda n: -heights[n]):
            at, height = float(candidates[n]), float(heights[n])
            away = (at - np.array(beats)) / self.rate_hz
            if np.abs(away).min() <= REFRACTORY_S:
                continue
            if (away > 0).any():
                last = int(np.argmin(np.where(away > 0, away, np.inf)))
                least = max(_SLOPE_SOON, _OWN_T * added.get(beats[last], 0.0))
                alike = self._highest(self.slope, peaks + away[last] * self.rate_hz, 0.04) > _ALIKE * height * usual
                if (away[last] < _SOON_S and height < least) or (away[last] < _T_UNTIL_S and alike.mean() > 0.5):
                    continue
            beats.append(at)
            added[at] = height
        return np.array(list(added))

    def _thinned(self, signal: Floats) -> Floats:
        whole = signal.shape[-1] // self._step * self._step
        return signal[..., :whole].reshape(*signal.shape[:-1], -1, self._step).mean(-1)

    def _at(self, peaks: Floats) -> Floats:
        return np.asarray((peaks - (self._step - 1) / 2) / self._step)

    def _size(self, signal: Floats) -> Floats:
        return np.abs(band_pass(signal, self.rate_hz, 1.0, 20.0))

    def _highest(self, values: Floats, samples: Floats | NDArray[np.int64], around_s: float) -> Floats:
        reach = round(around_s * self.rate_hz)
        near = np.rint(samples).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)
        return np.asarray(values[near.clip(0, len(values) - 1)].max(axis=1))
