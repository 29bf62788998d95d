"""ECGs without an end: a simulated one, the same for the same seed wherever one begins to look, and one that somebody feeds."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from echogen.app.serve.limits import Refused
from echogen.arrays import Floats
from echogen.errors import InputError
from echogen.phantom.electrical import draw_style, make_ecg
from echogen.phantom.rhythm import Rhythm, make_rhythm
from echogen.records import Ecg

RATE_HZ = 250.0
#: Leads used, of twelve simulated ones.
LEADS = ("II", "V1", "V5")
#: A piece of the signal, and the beats that are drawn at a time, in s.
PIECE_S, _BEATS_S = 20.0, 60.0
#: Beats before and after a piece that still show in it.
_AROUND_S = 5.0
_FIRST_BEAT_S = -3.0


def _intervals(rhythm: str, heart_rate_bpm: float, seed: int, block: int) -> tuple[Floats, Floats, NDArray[np.str_], Floats]:
    """RR before each beat of a minute, and of each beat the P onset from R (nan: none), its kind, the QRS onset from R."""
    drawn = make_rhythm(rhythm, heart_rate_bpm, 0.0, _BEATS_S, np.random.default_rng([seed, block, 1]))
    inside = np.flatnonzero((drawn.r_s >= 0) & (drawn.r_s < _BEATS_S))
    r = drawn.r_s[inside]
    return r - drawn.r_s[inside - 1], drawn.p_onset_s[inside] - r, drawn.kind[inside], drawn.qrs_onset_s[inside] - r


class EndlessEcg:
    """A simulated ECG from 0 s on without an end, as pieces of `PIECE_S`, leads `LEADS` at `RATE_HZ`, without noise.

    Which signal there is at a time follows from rhythm, rate and seed alone. Another rhythm or rate of the same seed has the
    same shape of its waves. after_s: pieces that end before it are left out.
    """

    def __init__(self, rhythm: str, heart_rate_bpm: float, seed: int, after_s: float = 0.0) -> None:
        self.rhythm, self.heart_rate_bpm, self.seed = rhythm, heart_rate_bpm, seed
        style = draw_style(np.random.default_rng([seed, 0, 2]))
        self._style = type(style)(**{
            **{name: getattr(style, name) for name in style.__dataclass_fields__},
            "wander_mv": 0.0, "mains_mv": 0.0, "muscle_mv": 0.0, "white_mv": 0.0,
        })  # fmt: skip
        self._next = max(0, int(after_s // PIECE_S))
        self._blocks = 0
        self._r = np.array([_FIRST_BEAT_S - 0.8])
        self._p, self._onset, self._kind = np.array([np.nan]), np.array([-0.04]), np.array(["normal"])

    def __iter__(self) -> Iterator[Ecg]:
        return self

    def __next__(self) -> Ecg:
        first, self._next = self._next * PIECE_S, self._next + 1
        last = first + PIECE_S
        self._draw_beats(first - _AROUND_S, last + _AROUND_S)
        beats = Rhythm(self.rhythm, self._r, self._r + self._p, self._kind, self._r + self._onset)
        rhythm = beats.between(first - _AROUND_S, last + _AROUND_S)
        random = np.random.default_rng([self.seed, self._next, 3])
        whole = make_ecg(rhythm, first, last, random, rate_hz=RATE_HZ, style=self._style)
        return Ecg(np.stack([whole.lead(name) for name in LEADS]), RATE_HZ, LEADS, first)

    def _draw_beats(self, since_s: float, until_s: float) -> None:
        while self._r[-1] < until_s:
            rr, p, kind, onset = _intervals(self.rhythm, self.heart_rate_bpm, self.seed, self._blocks)
            self._blocks += 1
            self._r = np.concatenate([self._r, self._r[-1] + np.cumsum(rr)])
            self._p, self._onset = np.concatenate([self._p, p]), np.concatenate([self._onset, onset])
            self._kind = np.concatenate([self._kind, kind])
            old = max(0, int(np.searchsorted(self._r, since_s)) - 1)
            self._r, self._p, self._onset, self._kind = (v[old:] for v in (self._r, self._p, self._onset, self._kind))


class Feed:
    """An ECG that arrives while it is recorded; the last `KEPT_S` are kept. Used from one event loop, read from any thread."""

    KEPT_S = 20.0

    def __init__(self, rate_hz: float, lead_names: tuple[str, ...]) -> None:
        self.rate_hz, self.lead_names = rate_hz, lead_names
        self.pieces: deque[Ecg] = deque()
        self.samples, self.ended = 0, False
        self.changed = asyncio.Event()

    @property
    def end_s(self) -> float:
        """The end of what has arrived, in s since the first sample."""
        return self.samples / self.rate_hz

    def add(self, samples: bytes) -> None:
        """Append samples: float32, little endian, in mV, all leads of a moment beside each other.

        Raises `InputError` for bytes that are no whole samples, values that are not finite, and more than 20 s at once.
        """
        leads = len(self.lead_names)
        if not samples or len(samples) % (4 * leads):
            raise InputError(f"A message of a feed holds whole samples: {4 * leads} bytes for each moment.")
        values = np.frombuffer(samples, "<f4").reshape(-1, leads).T
        if values.shape[1] > self.KEPT_S * self.rate_hz:
            raise InputError("This is too much ECG at once; send it as it is recorded.")
        self.pieces.append(Ecg(values, self.rate_hz, self.lead_names, self.end_s))
        self.samples += values.shape[1]
        while self.pieces[0].end_s < self.end_s - self.KEPT_S:
            self.pieces.popleft()
        self._tell()

    def end(self) -> None:
        """No more will come."""
        self.ended = True
        self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def listen(self) -> Iterator[Ecg]:
        """The pieces that are kept, and those that come; ends where nothing new has arrived, to go on from when asked again."""
        return _Listener(self)


class _Listener:
    """Never waits: who asks makes sure that enough has arrived. Fell-behind listeners are told so."""

    def __init__(self, feed: Feed) -> None:
        self._feed, self._until_s = feed, None if not feed.pieces else feed.pieces[0].start_s

    def __iter__(self) -> Iterator[Ecg]:
        return self

    def __next__(self) -> Ecg:
        for piece in list(self._feed.pieces):
            if self._until_s is None or piece.start_s >= self._until_s - 1e-9:
                if self._until_s is not None and piece.start_s > self._until_s + 1e-6:
                    raise InputError("This computer is too slow for the live ECG and has lost its thread; start again.")
                self._until_s = piece.end_s
                return piece
        raise StopIteration


class Feeds:
    """The live ECGs by name."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._feeds: dict[str, Feed] = {}

    def open(self, name: str, rate_hz: float, lead_names: tuple[str, ...]) -> Feed:
        """A new feed. Raises `InputError` where the name is in use, `Refused` (503) where there are too many."""
        if name in self._feeds:
            raise InputError(f"Somebody feeds {name!r} already; choose another name.")
        if len(self._feeds) >= self.most:
            raise Refused(503, f"The service is busy with {self.most} live ECGs; try again in 30 seconds.", 30)
        feed = self._feeds[name] = Feed(rate_hz, lead_names)
        return feed

    def close(self, name: str) -> None:
        """End a feed and forget it."""
        self._feeds.pop(name).end()

    def find(self, name: str) -> Feed:
        """The feed of a name. Raises `InputError` where there is none."""
        if name not in self._feeds:
            known = ", ".join(sorted(self._feeds)) or "none"
            raise InputError(f"There is no live ECG named {name!r}; those being fed: {known}.")
        return self._feeds[name]

    @property
    def names(self) -> list[str]:
        """Those being fed now."""
        return sorted(self._feeds)
