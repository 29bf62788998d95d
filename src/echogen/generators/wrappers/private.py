"""A generator that keeps copies of what it learned from to itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from echogen.errors import InputError
from echogen.generators.base import Generator
from echogen.records import Cine, Ecg


class Filter(Protocol):
    """What tells copies: `similarity` of a clip to the nearest one that was learned from; above `threshold` it is a copy."""

    threshold: float

    def similarity(self, cine: Cine) -> float:
        """The largest similarity, -1..1."""


@dataclass(frozen=True)
class Privacy:
    """How a clip passed: its similarity, at most the threshold; the tries that it took; the seed that made it."""

    similarity: float
    threshold: float
    tries: int
    seed: int

    def to_json(self) -> dict[str, float | int]:
        """similarity, threshold, tries, seed."""
        return asdict(self)


class Private:
    """Wraps a generator: a clip whose similarity to what it learned from is above the threshold is dropped and drawn anew.

    Called like the generator, whose other attributes it has. The tries draw with the seeds seed, seed + 1, ...; the first that
    passes is given.
    """

    def __init__(self, generator: Generator, filter: Filter, tries: int = 8) -> None:
        if tries < 1:
            raise InputError(f"A private generator needs at least one try, not {tries}.")
        self.generator, self.filter, self.tries = generator, filter, tries

    def __getattr__(self, name: str) -> Any:
        """What the wrapped generator has."""
        if name == "generator":  # not there yet, as when unpickled
            raise AttributeError(name)
        return getattr(self.generator, name)

    def draw(self, ecg: Ecg | None, *, seed: int = 0, **asked: Any) -> tuple[Cine, Privacy]:
        """The whole video and how it passed; asked: as `Generator.__call__` takes it.

        Raises `InputError` when none of the tries passes, and what the generator raises.
        """
        found = []
        for attempt in range(self.tries):
            cine = self.generator(ecg, seed=seed + attempt, **asked)
            found.append(self.filter.similarity(cine))
            if found[-1] <= self.filter.threshold:
                return cine, Privacy(found[-1], self.filter.threshold, attempt + 1, seed + attempt)
        raise InputError(
            f"All {self.tries} clips that {self.generator.name} drew resemble one that it learned from (similarity at least "
            f"{min(found):.3f}, allowed is {self.filter.threshold:.3f}); ask for another seed, EF, view or first frame."
        )

    def __call__(self, ecg: Ecg | None, *, seed: int = 0, **asked: Any) -> Cine:
        """The whole video; see `draw`."""
        return self.draw(ecg, seed=seed, **asked)[0]

    def stream(self, ecg: Ecg | None, *, seed: int = 0, **asked: Any) -> Iterator[Cine]:
        """The whole video as one part: nothing of a clip is let out before all of it was judged, so memory is not constant.

        ecg: whole, not in pieces as they arrive. Raises `InputError` for pieces.
        """
        if ecg is not None and not isinstance(ecg, Ecg):
            raise InputError("A private generator judges whole clips; join the pieces of the ECG before it is given.")
        yield self.draw(ecg, seed=seed, **asked)[0]
