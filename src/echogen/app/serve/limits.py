"""Limits of a client's and of all clients' use of the service; who asks for more is told when to come again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Refused(Exception):
    """The service cannot take this now: the HTTP status, one sentence, and in how many seconds it may be asked again."""

    def __init__(self, status: int, sentence: str, retry_after_s: int) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.retry_after_s = status, sentence, retry_after_s


class Slots:
    """So many of one kind at a time. what: their name in the sentence. freed: called after each. Used from one event loop."""

    def __init__(self, most: int, what: str, retry_after_s: int, freed: Callable[[], None] = lambda: None) -> None:
        self.most, self.what, self.retry_after_s, self._freed = most, what, retry_after_s, freed
        self.taken = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold one. Raises `Refused` (503) where all are taken."""
        if self.taken >= self.most:
            raise Refused(
                503,
                f"The service is busy with {self.most} {self.what}; try again in {self.retry_after_s} seconds.",
                self.retry_after_s,
            )
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1
            self._freed()


class RateLimit:
    """A token bucket a client: `per_minute` requests on average, `burst` at once. clock: seconds that never go back."""

    MOST_CLIENTS = 10_000

    def __init__(self, per_minute: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second, self.burst, self.clock = per_minute / 60.0, float(burst), clock
        self._left: dict[str, tuple[float, float]] = {}

    def check(self, client: str) -> None:
        """Count one request of a client. Raises `Refused` (429) where that is one too many."""
        now = self.clock()
        if len(self._left) >= self.MOST_CLIENTS:
            self._left = {name: kept for name, kept in self._left.items() if self._now(*kept, now) < self.burst}
        left = self._now(*self._left.get(client, (self.burst, now)), now)
        if left < 1.0:
            wait = max(1, round((1.0 - left) / self.per_second + 0.5))
            raise Refused(429, f"These are too many requests in a short time; wait {wait} seconds.", wait)
        self._left[client] = (left - 1.0, now)

    def _now(self, left: float, at: float, now: float) -> float:
        return min(self.burst, left + (now - at) * self.per_second)
