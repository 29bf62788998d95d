"""An ECG that a generator follows, whole or piece by piece as it is recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from echogen.errors import InputError
from echogen.records import Ecg


class EcgStream:
    """An ECG, whole or arriving in pieces, of which only the part that a window still needs is kept.

    Times are counted in samples from the ECG's beginning, so that they are the same for any cut into pieces.
    start_s: time of the first sample, in s; 0 without an ECG.
    Raises `InputError` for pieces of other leads or another rate, a gap between pieces, or no piece at all.
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
        """Time of the end of the pieces that have arrived, in s; infinite without an ECG."""
        if self._held is None:
            return np.inf
        arrived = sum(piece.signal_mv.shape[1] for piece in self._arrived)
        return self._at(self._held.end_s + arrived / self._held.rate_hz)

    @property
    def kept_s(self) -> float:
        """Duration of the ECG that is kept in memory, in s."""
        return 0.0 if self._held is None else self._held.duration_s

    def _at(self, time_s: float) -> float:
        """Time of the sample nearest to time_s, in s."""
        assert self._held is not None
        return self.start_s + round((time_s - self.start_s) * self._held.rate_hz) / self._held.rate_hz

    def _take_piece(self) -> None:
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
        """Return the ECG from start_s to end_s, as far as there is one, and forget what lies before it; None without any."""
        if self._held is None:
            return None
        streaming = not self._ended
        while not self._ended and self.end_s < end_s - 1e-9:
            self._take_piece()
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
