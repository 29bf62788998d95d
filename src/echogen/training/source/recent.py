"""The values that were used last, kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """The last values by key; threads may use one object at the same time.

    kept: Most values that are kept.
    """

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self._values: dict[Hashable, T] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made where it is not among those kept."""
        value = self._values.pop(key, None)  # taken out and put back at the end: the first one was used longest ago
        if value is None:
            value = make()
        self._values[key] = value
        for oldest in list(self._values)[: -self.kept]:
            self._values.pop(oldest, None)
        return value
