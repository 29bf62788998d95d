"""Preparation of shards on many machines, under Ray Data (the extra `cluster`)."""

from __future__ import annotations

import logging
import os
import platform
import socket
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from echogen.datasets.preparation import Job, prepare_shard
from echogen.errors import InputError

#: Addresses with a meaning of their own: start a Ray on this machine, and join the one that this machine is part of.
LOCAL, HERE = "local", "auto"
#: Longest wait in s for a cluster to answer; Ray itself would try for minutes.
_ANSWER_S = 5.0
#: Memory in bytes for the rows of a local Ray, which are small; Ray demands at least 75 MB.
_OBJECT_STORE_BYTES = 100 << 20


def prepare_on_ray(jobs: Sequence[Job], address: str, workers: int | None = None) -> Iterator[int]:
    """Write a shard for each job under Ray, and yield the number of each shard when it is finished.

    jobs: Shards to write.
    address: "local" starts a Ray here, "auto" joins the one that this machine is part of, HOST:PORT (its head) another.
    workers: Number of shards at a time, each on one processor; None: as many as there are processors.

    A local Ray works at the priority of this process: at the one that Ray would choose, its workers hardly start on a machine
    that does other work.
    Every machine must have echogen, and see the data set and the output under the same paths. Not for a program that has
    already joined a Ray. Raises `InputError` where Ray is not installed or not reached, and as `prepare_shard` does.
    """
    if not jobs:
        return
    # Ray reads this when it starts: no usage statistics are sent.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError("Ray is not installed; install it with: pip install 'echogen[cluster]', or leave --ray out.") from error
    own: dict[str, Any] = {}
    if address == LOCAL:
        own = {
            "num_cpus": min(workers or os.cpu_count() or 1, len(jobs)),
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "_system_config": {"worker_niceness": 0},
        }
    try:
        if address not in (LOCAL, HERE):
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), _ANSWER_S).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise InputError(
            f"No Ray answers at {address!r}; start it there, or name {LOCAL}, {HERE} or the HOST:PORT of its head."
        ) from error
    try:
        yield from _mapped(ray.data, list(jobs), workers)
    finally:
        ray.shutdown()


def _mapped(data: Any, jobs: list[Job], workers: int | None) -> Iterator[int]:
    """Run the jobs by a map of Ray Data, a block and a task for each, nothing reserved; yield the numbers of the shards."""
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.op_resource_reservation_enabled = False
    # Arrow cannot hold a job, so a row holds its index.
    places = data.from_items([{"place": place} for place in range(len(jobs))], override_num_blocks=len(jobs))
    for row in places.map(partial(_written, jobs), num_cpus=1, compute=data.TaskPoolStrategy(workers)).iter_rows():
        if row["error"]:
            raise InputError(row["error"])
        yield int(row["shard"])


def _written(jobs: list[Job], row: dict[str, Any]) -> dict[str, Any]:
    """Write the shard of a row. A user's mistake is returned as a sentence, since Ray would bury it in a message of its own."""
    job = jobs[int(row["place"])]
    try:
        for folder in (job.source.folder, job.output):
            if not folder.is_dir():
                raise InputError(f"{platform.node()} does not see {folder}; every machine must, under this path.")
        prepare_shard(job)
    except InputError as error:
        return {"shard": job.shard, "error": str(error)}
    return {"shard": job.shard, "error": ""}
