"""Base of the wrappers that judge whole videos before any part of them is let out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from echogen.errors import InputError
from echogen.generators.sampling import Sampling, Span
from echogen.generators.wrappers.wrapper import Wrapper
from echogen.records import Cine, Conditions, Ecg


class WholeVideoWrapper(Wrapper):
    """Wrapper whose stream has one part, the whole video, so that memory grows with its length.

    whole_because: sentence that says why the ECG must be whole, for the error where it comes in pieces.
    """

    whole_because: ClassVar[str]

    def parts(self, ecg: Ecg | Iterable[Ecg] | None, conditions: Conditions, sampling: Sampling, span: Span) -> Iterator[Cine]:
        """Yield the whole video as one part. Raises `InputError` for an ECG in pieces."""
        if ecg is not None and not isinstance(ecg, Ecg):
            raise InputError(f"{self.whole_because}; join the pieces of the ECG before it is given.")
        yield self.make(ecg, conditions, sampling, span).cine
