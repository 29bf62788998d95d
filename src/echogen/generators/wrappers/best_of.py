"""The feedback loop of EchoDiffusion: of several clips, the one whose ejection fraction is nearest to the one asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from echogen.errors import InputError
from echogen.generators.base import Generator
from echogen.records import Cine, Ecg

#: A clip -> the ejection fraction in % that it shows, None where none can be told.
Scorer = Callable[[Cine], float | None]


@dataclass(frozen=True)
class Selection:
    """What was chosen from: the EF in % that was asked for, those that the clips show, and which clip was kept.

    Seed i of the clips is `seed` + i. Figures of the first clip are those without selection.
    """

    asked_percent: float
    seen_percent: tuple[float | None, ...]
    chosen: int
    seed: int

    @property
    def selected_error(self) -> float | None:
        """|EF seen - asked| in points of the clip that was kept, None where it shows none."""
        return self._error(self.chosen)

    @property
    def unselected_error(self) -> float | None:
        """The same of the first clip, as it is without selection."""
        return self._error(0)

    def _error(self, index: int) -> float | None:
        seen = self.seen_percent[index]
        return None if seen is None else abs(seen - self.asked_percent)

    def to_json(self) -> dict[str, Any]:
        """asked_percent, seen_percent (a list), chosen (its number), seed (of the kept clip), both errors in points."""
        return {
            "asked_percent": self.asked_percent,
            "seen_percent": list(self.seen_percent),
            "chosen": self.chosen,
            "seed": self.seed + self.chosen,
            "selected_error": self.selected_error,
            "unselected_error": self.unselected_error,
        }


class BestOf:
    """Wraps a generator: n clips are drawn with the seeds seed, seed + 1, ..., and the one of the closest EF is given.

    Called like the generator, whose other attributes it has. scorer: says the EF of a clip; a network that selects must not
    also score (Goodhart's law), so figures of the clips need another one.
    """

    def __init__(self, generator: Generator, scorer: Scorer, n: int = 3) -> None:
        if n < 1:
            raise InputError(f"A choice needs at least one clip, not {n}.")
        self.generator, self.scorer, self.n = generator, scorer, n

    def __getattr__(self, name: str) -> Any:
        """What the wrapped generator has."""
        if name == "generator":  # not there yet, as when unpickled
            raise AttributeError(name)
        return getattr(self.generator, name)

    def draw_all(
        self, ecg: Ecg | None, *, ef_percent: float | None = None, seed: int = 0, **asked: Any
    ) -> tuple[list[Cine], Selection]:
        """All clips in the order of their seeds, and the selection among them; asked: as `Generator.__call__` takes it.

        A clip that shows no EF is the last choice. Raises `InputError` without an EF, and what the generator raises.
        """
        if ef_percent is None:
            raise InputError("The clip of the closest ejection fraction can only be kept where one is asked for.")
        clips = [self.generator(ecg, ef_percent=ef_percent, seed=seed + index, **asked) for index in range(self.n)]
        seen = tuple(self.scorer(clip) for clip in clips)
        errors = [np.inf if each is None else abs(each - ef_percent) for each in seen]
        return clips, Selection(ef_percent, seen, int(np.argmin(errors)), seed)

    def draw(self, ecg: Ecg | None, **asked: Any) -> tuple[Cine, Selection]:
        """The clip that was kept, and how; see `draw_all`."""
        clips, selection = self.draw_all(ecg, **asked)
        return clips[selection.chosen], selection

    def __call__(self, ecg: Ecg | None, **asked: Any) -> Cine:
        """The clip that was kept; see `draw_all`."""
        return self.draw(ecg, **asked)[0]

    def stream(self, ecg: Ecg | None, **asked: Any) -> Iterator[Cine]:
        """The clip that was kept as one part, since all are judged whole. Raises `InputError` for an ECG in pieces."""
        if ecg is not None and not isinstance(ecg, Ecg):
            raise InputError("Clips are chosen whole; join the pieces of the ECG before it is given.")
        yield self(ecg, **asked)
