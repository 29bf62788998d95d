"""The one place where networks run: a job at a time, in the order of asking, and off the loop that answers clients."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from echogen.app.serve.clips import clip_file, document
from echogen.app.serve.ecg_sources import Feeds
from echogen.app.serve.limits import RateLimit, Slots
from echogen.app.serve.requests import ClipRequest, clip_ecg, conditions_of
from echogen.app.serve.video_stream import Part, VideoStream
from echogen.errors import InputError
from echogen.generators.base import Generator
from echogen.generators.sampling import Sampling, Span
from echogen.networks.segmenter import Segmenter
from echogen.records import Cine, Ecg

T = TypeVar("T")

#: Memory is given back so long after a stream or another request has ended.
TIDIED_AFTER_S = 2.0


@dataclass(frozen=True)
class Limits:
    """Limits of the service: streams and other requests at a time, live ECGs, requests a minute and at once of one client.

    idle_s: a stream that is not looked at ends. stream_s: and so does one that has been shown for so long.
    """

    streams: int = 4
    requests: int = 4
    feeds: int = 4
    per_minute: float = 120.0
    burst: int = 60
    idle_s: float = 600.0
    stream_s: float = 3600.0


class JobQueue:
    """A generator and a segmenter for all clients. segmenter: None leaves streams without outline and volume."""

    def __init__(self, generator: Generator, segmenter: Segmenter | None, limits: Limits | None = None) -> None:
        if "ecg" not in generator.takes:
            raise InputError(f"The generator {generator.name} takes no ECG; choose one that does with --model.")
        self.generator, self.segmenter, self.limits = generator, segmenter, limits or Limits()
        self.streams = Slots(self.limits.streams, "streams", 15, self._tidy_soon)
        self.requests = Slots(self.limits.requests, "requests", 5, self._tidy_soon)
        self.rate = RateLimit(self.limits.per_minute, self.limits.burst)
        self.feeds = Feeds(self.limits.feeds)
        self._one_at_a_time = ThreadPoolExecutor(1, thread_name_prefix="studio")
        self._tidying, self._tidied_again = False, False

    async def run(self, job: Callable[[], T]) -> T:
        """Do a job when its turn comes; one whose client has gone before that is left out."""
        return await asyncio.get_running_loop().run_in_executor(self._one_at_a_time, job)

    async def next_part(self, beating: VideoStream) -> Part | None:
        """The next part of a stream."""
        return await self.run(beating.next_part)

    async def clip(self, asked: ClipRequest, gone: Callable[[], object] | None = None) -> bytes:
        """A clip as a file, made window by window, so that others get their turns in between."""
        ecg, start = clip_ecg(asked, self.generator)
        stream = self.generator.stream(ecg, conditions_of(asked), Sampling(seed=asked.seed), Span(start, asked.seconds))
        if start + asked.seconds > ecg.end_s + 0.5 / self.generator.native_fps:
            raise InputError(f"The ECG ends at {ecg.end_s:.2f} s; from {start:.2f} s ask for at most {ecg.end_s - start:.2f} s.")
        parts: list[Cine] = []
        while (part := await self.run(lambda: next(stream, None))) is not None:
            parts.append(part)
        if not parts:
            raise InputError("The clip would be shorter than one frame; ask for more seconds.")
        cine = Cine.join(parts)
        facts = await self.run(lambda: document(asked, self.generator, cine, _during(ecg, cine)))
        return await asyncio.to_thread(clip_file, asked, cine, ecg, facts)

    def _tidy_soon(self) -> None:
        """Give memory back when what has just ended has been let go; once for all that end together, and once after them."""
        if self._tidying:
            self._tidied_again = True
            return
        self._tidying = True
        asyncio.get_running_loop().call_later(TIDIED_AFTER_S, self._tidy)

    def _tidy(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has closed
            self._one_at_a_time.submit(give_back_memory)
        again, self._tidying, self._tidied_again = self._tidied_again, False, False
        if again:
            self._tidy_soon()

    def close(self) -> None:
        """End when the job at hand is done; what waits is left out."""
        self._one_at_a_time.shutdown(wait=True, cancel_futures=True)


def give_back_memory() -> None:
    """Return what is not used any more to the system: what only cycles hold, and what the C library keeps for later (glibc only).

    Without it the windows of many streams, whose arrays come and go in changing sizes, leave a heap of holes behind.
    """
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _during(ecg: Ecg, cine: Cine) -> Ecg:
    """The ECG during a clip and a little around it."""
    return ecg.between(float(cine.times_s[0]) - 2.0, float(cine.times_s[-1]) + 1.0)
