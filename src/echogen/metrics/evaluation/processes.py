"""One figure from what many processes have seen: processes that already run together, and a pool that an evaluation starts."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, Protocol

import torch
from torch import distributed


class Streaming(Protocol):
    """A metric or collector whose state others can take in."""

    def state(self) -> Mapping[str, Any]:
        """Return the state for another process."""

    def merge_state(self, state: Any) -> None:
        """Take in what another process has seen."""


def reduce_across_processes(metric: Streaming, group: distributed.ProcessGroup | None = None) -> None:
    """Take in what every other process of a torch.distributed group has seen, in order of their ranks.

    All processes of the group (None: of all) must call it, once, after their last clip; then each has the figure of a single
    process. Where torch.distributed is not in use, nothing changes.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    states: list[Any] = [None] * distributed.get_world_size(group)
    distributed.all_gather_object(states, metric.state(), group=group)
    for rank, state in enumerate(states):
        if rank != distributed.get_rank(group):
            metric.merge_state(state)


def _limit_threads(threads: int) -> None:
    torch.set_num_threads(threads)


def in_processes(task: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], processes: int) -> Iterator[Any]:
    """Yield the result of task(*job) for each job, as each is done, from processes that share the cores.

    task: a function of a module. Errors of a task are raised here, and the jobs that wait are dropped.
    """
    threads = max(1, (os.cpu_count() or 1) // processes)
    pool = ProcessPoolExecutor(
        processes, mp_context=multiprocessing.get_context("spawn"), initializer=_limit_threads, initargs=(threads,)
    )
    try:
        for future in as_completed([pool.submit(task, *job) for job in jobs]):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
