"""Settings of one run of a generator beside its conditions: sampling, the span of time, and keywords for all of them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from echogen.errors import InputError
from echogen.records import Conditions

#: Longest video that one call may ask for, in s: a day, far above any recording, so that a slip of units is noticed.
LONGEST_SPAN_S = 24 * 3600


@dataclass(frozen=True)
class Sampling:
    """Settings of the sampler; None takes the generator's own default.

    guidance: guidance scale, 0..20; 1 is no guidance.
    steps: decoding steps, 1..1000.
    seed: the same seed makes the same video; 0 to 2^63 - 1.
    live: make short parts along with an ECG that is being recorded; see `LiveTiming`.
    Raises `InputError` for values out of range.
    """

    guidance: float | None = None
    steps: int | None = None
    seed: int = 0
    live: bool = False

    def __post_init__(self) -> None:
        if self.guidance is not None and not 0 <= self.guidance <= 20:
            raise InputError(f"The guidance scale must lie between 0 and 20, not {self.guidance}.")
        if self.steps is not None and not 1 <= self.steps <= 1000:
            raise InputError(f"The number of steps must lie between 1 and 1000, not {self.steps}.")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"The seed must be a number from 0 to 2^63 - 1, not {self.seed}.")


@dataclass(frozen=True)
class Span:
    """Time that a video covers, on the clock of its ECG.

    start_s: time of the first frame in s; None: where the ECG begins, or 0 without one.
    seconds: length of the video in s; None: to the end of the ECG.
    Raises `InputError` for a length that is not above 0 or longer than a day.
    """

    start_s: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None and not 0 < self.seconds <= LONGEST_SPAN_S:
            raise InputError(f"The length must be between 0 and {LONGEST_SPAN_S} seconds, not {self.seconds}.")


@dataclass(frozen=True)
class LiveTiming:
    """Timing of a video that follows an ECG that is being recorded.

    first_s: video in the first part, in s.
    part_s: video in each further part, in s.
    future_s: ECG after a part that must be there before the part is made, in s.
    lead_in_s: ECG that must be there before the first part is made, in s.
    """

    first_s: float
    part_s: float
    future_s: float
    lead_in_s: float

    @property
    def delay_s(self) -> float:
        """Longest time by which a frame lies behind the ECG when its part can be made, in s, the making not included."""
        return self.part_s + self.future_s


def with_keywords(
    function: str, conditions: Conditions | None, sampling: Sampling | None, span: Span | None, keywords: Mapping[str, Any]
) -> tuple[Conditions, Sampling, Span]:
    """Return the three records with each keyword put into the record that has a field of its name.

    function: name for the TypeError that a keyword raises that no record has.
    """
    records: list[Any] = [conditions or Conditions(), sampling or Sampling(), span or Span()]
    known = {each.name: index for index, record in enumerate(records) for each in fields(record) if each.name != "ecg"}
    for name in keywords:
        if name not in known:
            close = [each for each in known if each.startswith(name)] or difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"the keywords are {', '.join(known)}"
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}; {hint}")
    for index, record in enumerate(records):
        changes = {name: value for name, value in keywords.items() if known[name] == index}
        records[index] = replace(record, **changes) if changes else record
    return records[0], records[1], records[2]
