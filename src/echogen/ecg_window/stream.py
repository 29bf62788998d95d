"""An ECG that a generator follows, whole or piece by piece as it is recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from echogen.errors import InputError
from echogen.records import Ecg


class EcgStream:
    """An ECG, whole or arriving in pieces; keeps only what a window still needs.

    Times are counted in samples from its beginning, so that they are the same however it was cut.
    """

    def __init__(self, ecg: Ecg | Iterable[Ecg] | None) -> None:
        self._pieces: Iterator[Ecg] = iter(())
        self._held: Ecg | None = None
        self._arrived: list[Ecg] = []
        self.start_s, self._ended = 0.0, True
        if isinstance(ecg, Ecg):
            self._held = ecg
        elif ecg is not None:
            self._pieces, self._ended = iter(ecg), False
            self._held = next(self._pieces, None)
            if self._held is None:
                raise InputError("The ECG stream ended before its first sample.")
        if self._held is not None:
            self.start_s = self._held.start_s

    @property
    def end_s(self) -> float:
        """The end of what has arrived; infinite without an ECG."""
        if self._held is None:
            return np.inf
        arrived = sum(piece.signal_mv.shape[1] for piece in self._arrived)
        return self._at(self._held.end_s + arrived / self._held.rate_hz)

    def _at(self, time_s: float) -> float:
        """The time of the sample that is nearest to one."""
        assert self._held is not None
        return self.start_s + round((time_s - self.start_s) * self._held.rate_hz) / self._held.rate_hz

    def _more(self) -> None:
        piece, held, end_s = next(self._pieces, None), self._held, self.end_s
        assert held is not None
        if piece is None:
            self._ended = True
        elif piece.lead_names != held.lead_names or piece.rate_hz != held.rate_hz:
            raise InputError("A piece of the ECG stream has other leads or another rate than the pieces before it.")
        elif abs(piece.start_s - end_s) > 1.5 / piece.rate_hz:
            raise InputError(f"The ECG stream has a gap: a piece ended at {end_s:.3f} s, the next is from {piece.start_s:.3f} s.")
        else:
            self._arrived.append(piece)

    def around(self, start_s: float, end_s: float) -> Ecg | None:
        """The ECG between the two times, as far as there is one."""
        if self._held is None:
            return None
        streaming = not self._ended
        while not self._ended and self.end_s < end_s - 1e-9:
            self._more()
        if self._arrived:
            signal = np.concatenate([piece.signal_mv for piece in (self._held, *self._arrived)], axis=1)
            self._held, self._arrived = replace(self._held, signal_mv=signal), []
        if self._held.end_s <= start_s:
            return None
        if streaming and self._held.start_s < start_s - 1.0:
            self._held = self._between(start_s, self._held.end_s)
        return self._between(start_s, end_s)

    def _between(self, start_s: float, end_s: float) -> Ecg:
        assert self._held is not None
        part = self._held.between(start_s, end_s)
        return replace(part, start_s=self._at(part.start_s))
