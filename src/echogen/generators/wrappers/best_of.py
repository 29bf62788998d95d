"""Feedback loop of EchoDiffusion: of several videos, the one whose ejection fraction is nearest to the one asked for.

Source: Reynaud et al., "Feature-conditioned cascaded video diffusion models", MICCAI 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from echogen.errors import InputError
from echogen.generators.sampling import Sampling, Span
from echogen.generators.video_generator import GeneratedVideo, Progress, VideoGenerator
from echogen.generators.wrappers.whole import WholeVideoWrapper
from echogen.records import Cine, Conditions, Ecg

#: A video -> its ejection fraction in %, None where the video shows none.
Scorer = Callable[[Cine], float | None]


@dataclass(frozen=True)
class Selection:
    """Record of a choice among videos; video i was drawn with the seed `seed` + i.

    asked_percent: ejection fraction that was asked for, in %.
    seen_percent: ejection fraction of every video, in %; None where a video shows none.
    chosen: number of the video that was kept, from 0.
    seed: of the first video.
    """

    asked_percent: float
    seen_percent: tuple[float | None, ...]
    chosen: int
    seed: int

    @property
    def selected_error(self) -> float | None:
        """Absolute EF error of the video that was kept, in points; None where it shows no EF."""
        return self._error(self.chosen)

    @property
    def unselected_error(self) -> float | None:
        """Absolute EF error of the first video, as it is without a choice, in points; None where it shows no EF."""
        return self._error(0)

    def _error(self, index: int) -> float | None:
        seen = self.seen_percent[index]
        return None if seen is None else abs(seen - self.asked_percent)

    def to_json(self) -> dict[str, Any]:
        """Return asked_percent, seen_percent (a list), chosen (its number), seed (of the kept video), both errors in points."""
        return {
            "asked_percent": self.asked_percent,
            "seen_percent": list(self.seen_percent),
            "chosen": self.chosen,
            "seed": self.seed + self.chosen,
            "selected_error": self.selected_error,
            "unselected_error": self.unselected_error,
        }


class BestOf(WholeVideoWrapper):
    """Wrapper that draws n videos with the seeds seed, seed + 1, ..., and keeps the one of the nearest ejection fraction.

    A network that chooses must not also score (Goodhart's law), so figures of the videos need another one than the scorer.
    """

    whole_because = "Clips are chosen whole"

    def __init__(self, generator: VideoGenerator, scorer: Scorer, n: int = 3) -> None:
        """Wrap a generator; scorer: tells the EF of a video; n: videos drawn. Raises `InputError` for less than one."""
        super().__init__(generator)
        if n < 1:
            raise InputError(f"A choice needs at least one clip, not {n}.")
        self.scorer, self.n = scorer, n

    def check(self, conditions: Conditions) -> None:
        """Raise `InputError` for conditions that the wrapped generator does not take, or without an ejection fraction."""
        if conditions.ef_percent is None:
            raise InputError("The clip of the closest ejection fraction can only be kept where one is asked for.")
        super().check(conditions)

    def draw_all(
        self,
        ecg: Ecg | None,
        conditions: Conditions | None = None,
        sampling: Sampling | None = None,
        span: Span | None = None,
        *,
        progress: Progress | None = None,
        **keywords: Any,
    ) -> tuple[list[Cine], Selection]:
        """Return all videos in the order of their seeds, and the choice among them; arguments and errors as of a call.

        A video that shows no EF is the last choice.
        """
        request = self._checked("draw_all", ecg, conditions, sampling, span, keywords)
        videos, selection = self._draw_all(*request, progress)
        return [video.cine for video in videos], selection

    def draw(self, ecg: Ecg | None, *records: Any, **keywords: Any) -> tuple[Cine, Selection]:
        """Return the video that was kept, and the record of the choice; see `draw_all`."""
        cines, selection = self.draw_all(ecg, *records, **keywords)
        return cines[selection.chosen], selection

    def make(
        self, ecg: Ecg | None, conditions: Conditions, sampling: Sampling, span: Span, progress: Progress | None = None
    ) -> GeneratedVideo:
        """Make the videos and keep one, with the note "selection"."""
        videos, selection = self._draw_all(ecg, conditions, sampling, span, progress)
        kept = videos[selection.chosen]
        return replace(kept, notes={**kept.notes, "selection": selection.to_json()})

    def _draw_all(
        self, ecg: Ecg | None, conditions: Conditions, sampling: Sampling, span: Span, progress: Progress | None
    ) -> tuple[list[GeneratedVideo], Selection]:
        asked = conditions.ef_percent
        assert asked is not None
        seeds = range(sampling.seed, sampling.seed + self.n)
        videos = [self.generator.make(ecg, conditions, replace(sampling, seed=seed), span, progress) for seed in seeds]
        seen = tuple(self.scorer(video.cine) for video in videos)
        errors = [np.inf if each is None else abs(each - asked) for each in seen]
        return videos, Selection(asked, seen, int(np.argmin(errors)), sampling.seed)
