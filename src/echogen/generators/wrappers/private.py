"""Private generation: a video that resembles a training clip is dropped and drawn anew."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from echogen.errors import InputError
from echogen.generators.sampling import Sampling, Span
from echogen.generators.video_generator import GeneratedVideo, Progress, VideoGenerator
from echogen.generators.wrappers.whole import WholeVideoWrapper
from echogen.records import Cine, Conditions, Ecg


class Filter(Protocol):
    """Test for copies of training clips.

    threshold: a video whose similarity is above it counts as a copy.
    """

    threshold: float

    def similarity(self, cine: Cine) -> float:
        """Return the similarity of a video to the nearest training clip, -1..1."""


@dataclass(frozen=True)
class Privacy:
    """Record of a video that passed the filter.

    similarity: of the video to the nearest training clip, at most the threshold.
    threshold: of the filter.
    tries: videos drawn until one passed, this one included.
    seed: of the video that passed.
    """

    similarity: float
    threshold: float
    tries: int
    seed: int

    def to_json(self) -> dict[str, float | int]:
        """Return the fields by name."""
        return asdict(self)


class Private(WholeVideoWrapper):
    """Wrapper that drops a video whose similarity to a training clip is above the threshold, and draws another.

    The tries draw with the seeds seed, seed + 1, ...; the first video that passes is given.
    """

    whole_because = "A private generator judges whole clips"

    def __init__(self, generator: VideoGenerator, filter: Filter, tries: int = 8) -> None:
        """Wrap a generator; tries: most videos drawn for one that passes. Raises `InputError` for less than one try."""
        super().__init__(generator)
        if tries < 1:
            raise InputError(f"A private generator needs at least one try, not {tries}.")
        self.filter, self.tries = filter, tries

    def draw(
        self,
        ecg: Ecg | None,
        conditions: Conditions | None = None,
        sampling: Sampling | None = None,
        span: Span | None = None,
        *,
        progress: Progress | None = None,
        **keywords: Any,
    ) -> tuple[Cine, Privacy]:
        """Return the video and the record of its test; arguments and errors as of a call."""
        video, privacy = self._draw(*self._checked("draw", ecg, conditions, sampling, span, keywords), progress)
        return video.cine, privacy

    def make(
        self, ecg: Ecg | None, conditions: Conditions, sampling: Sampling, span: Span, progress: Progress | None = None
    ) -> GeneratedVideo:
        """Make a video that passes the filter, with the note "privacy". Raises `InputError` when no try passes."""
        video, privacy = self._draw(ecg, conditions, sampling, span, progress)
        return replace(video, notes={**video.notes, "privacy": privacy.to_json()})

    def _draw(
        self, ecg: Ecg | None, conditions: Conditions, sampling: Sampling, span: Span, progress: Progress | None
    ) -> tuple[GeneratedVideo, Privacy]:
        similarities = []
        for attempt in range(self.tries):
            seed = sampling.seed + attempt
            video = self.generator.make(ecg, conditions, replace(sampling, seed=seed), span, progress)
            similarities.append(self.filter.similarity(video.cine))
            if similarities[-1] <= self.filter.threshold:
                return video, Privacy(similarities[-1], self.filter.threshold, attempt + 1, seed)
        raise InputError(
            f"All {self.tries} clips that {self.name} drew resemble one that it learned from (similarity at least "
            f"{min(similarities):.3f}, allowed is {self.filter.threshold:.3f}); ask for another seed, EF, view or first frame."
        )
