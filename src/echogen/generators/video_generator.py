"""The protocol of everything that makes echo video: the systems (`Generator`) and the wrappers around them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from echogen.deprecation import renamed_keyword
from echogen.errors import InputError
from echogen.generators.sampling import LiveTiming, Sampling, Span, with_keywords
from echogen.records import Cine, Conditions, Ecg

if TYPE_CHECKING:
    from echogen.generators.base import Generator

#: An ECG, or pieces of one, or None.
Source = TypeVar("Source", Ecg | None, Ecg | Iterable[Ecg] | None)
#: Called with the seconds of video that are made and those that there will be.
Progress = Callable[[float, float], None]


@dataclass(frozen=True)
class GeneratedVideo:
    """A whole video, with what wrappers did to it.

    cine: the video.
    unrefined: the video before any refinement, in the frame rate and size in which its generator drew it.
    notes: facts for JSON by their key: "privacy" of `Private`, "selection" of `BestOf`, "refined" of `Refined`.
    """

    cine: Cine
    unrefined: Cine
    notes: Mapping[str, Any] = field(default_factory=dict)


class VideoGenerator(ABC):
    """Anything that makes echo video: a system or a wrapper, so that wrappers go around each other in any order.

    A call makes a whole video, `stream` its parts one after the other. Both build `Conditions`, `Sampling` and `Span` from
    keywords; subclasses write `make` and `parts`, which take these records.

    name: of the folder or the system.
    native_fps: frames per second of the video.
    takes: names of the conditions that are taken, as in `Conditions.names`.
    weights_hash: the first 16 hex digits of the SHA-256 over the weights.
    ef_range: lowest and highest ejection fraction that may be asked for, in %.
    ecg_past_s: length of the ECG before a window that the window sees, in s.
    ecg_future_s: length of the ECG after a window that the window sees, in s.
    longest_s: longest video that can be made, in s.
    needs_reference: True if a reference frame is required.
    """

    name: str
    native_fps: float
    takes: frozenset[str]
    weights_hash: str
    ef_range: tuple[float, float]
    ecg_past_s: float
    ecg_future_s: float
    longest_s: float
    needs_reference: bool

    @property
    @abstractmethod
    def core(self) -> Generator:
        """The system itself, without wrappers."""

    @property
    @abstractmethod
    def window_s(self) -> float:
        """Longest time that one window covers, in s."""

    @property
    @abstractmethod
    def live_timing(self) -> LiveTiming | None:
        """Timing along an ECG that is being recorded; None: such an ECG cannot be followed."""

    @abstractmethod
    def parts(self, ecg: Ecg | Iterable[Ecg] | None, conditions: Conditions, sampling: Sampling, span: Span) -> Iterator[Cine]:
        """Yield the parts of a video one after the other; see `stream`."""

    @abstractmethod
    def make(
        self, ecg: Ecg | None, conditions: Conditions, sampling: Sampling, span: Span, progress: Progress | None = None
    ) -> GeneratedVideo:
        """Make a whole video; see `__call__`."""

    @renamed_keyword("frames", "reference")
    def stream(
        self,
        ecg: Ecg | Iterable[Ecg] | None,
        conditions: Conditions | None = None,
        sampling: Sampling | None = None,
        span: Span | None = None,
        **keywords: Any,
    ) -> Iterator[Cine]:
        """Yield parts of a video, one after the other, in constant memory.

        ecg: a whole ECG, consecutive pieces of one as they arrive, or None.
        conditions, sampling, span: None takes the defaults of `Conditions`, `Sampling` and `Span`.
        keywords: fields of these three records by name, such as ef_percent, seed or seconds; they come before the records' own.

        With live=True the parts are short, each made as soon as the ECG that it needs is there (`live_timing`): another video
        than without, but the same one however the ECG is cut into pieces.
        Raises `InputError` for conditions that the generator does not take, and where the ECG is too short.
        """
        return self.parts(*self._checked("stream", ecg, conditions, sampling, span, keywords))

    @renamed_keyword("frames", "reference")
    def __call__(
        self,
        ecg: Ecg | None,
        conditions: Conditions | None = None,
        sampling: Sampling | None = None,
        span: Span | None = None,
        *,
        progress: Progress | None = None,
        **keywords: Any,
    ) -> Cine:
        """Make a whole video from an ECG, or without one (None); arguments as in `stream`.

        progress: called as progress(seconds made, seconds in all) while the video is made.
        Raises `InputError` as `stream` does, and for a video that would be shorter than one frame.

        >>> import numpy as np
        >>> import echogen
        >>> generator = echogen.Generator.from_pretrained("phantom-128", device="cpu")
        >>> cine = generator(None, seconds=0.5, ef_percent=35, seed=1)
        >>> cine.frames.shape, cine.fps
        ((16, 128, 128), 32.0)
        >>> generator(None, seconds=0.5, text="a small heart")
        Traceback (most recent call last):
        echogen.errors.InputError: The generator phantom-128 does not take the condition text; it takes ecg, ef_percent, ...
        """
        return self.make(*self._checked("__call__", ecg, conditions, sampling, span, keywords), progress).cine

    def _checked(
        self,
        function: str,
        ecg: Source,
        conditions: Conditions | None,
        sampling: Sampling | None,
        span: Span | None,
        keywords: Mapping[str, Any],
    ) -> tuple[Source, Conditions, Sampling, Span]:
        """Return an ECG and the records that the keywords complete, once the conditions are checked; see `stream`."""
        conditions, sampling, span = with_keywords(function, conditions, sampling, span, keywords)
        conditions = replace(conditions, ecg=ecg if isinstance(ecg, Ecg) else conditions.ecg if ecg is None else None)
        self.check(conditions)
        source: Any = conditions.ecg if ecg is None else ecg
        return source, conditions, sampling, span

    def check(self, conditions: Conditions) -> None:
        """Raise `InputError` for conditions that this generator does not take, or an ejection fraction out of its range."""
        for name in sorted(conditions.names - self.takes):
            raise InputError(
                f"The generator {self.name} does not take the condition {name}; it takes {', '.join(sorted(self.takes))}."
            )
        low, high = self.ef_range
        if conditions.ef_percent is not None and not low <= conditions.ef_percent <= high:
            raise InputError(
                f"The generator {self.name} knows ejection fractions from {low:g} to {high:g} %, not {conditions.ef_percent:g}."
            )
