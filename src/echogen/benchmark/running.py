"""A run of the open benchmark: rows are made, measured and judged, and their tables and pictures written.

Everything made and measured is kept in the work folder, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from echogen.benchmark.cases import VERSION, Case, cases, list_hash, phantom_hash
from echogen.benchmark.markdown import write_section
from echogen.benchmark.rows import Added, Generated, MeanHeart, Row, Shuffled, Still, Truth, Work, generated_rows
from echogen.benchmark.scores import measure, score
from echogen.benchmark.table import section
from echogen.errors import InputError
from echogen.files import write_json

Job = tuple[Work, Row, Case]

#: Name of the document with the tables.
DOCUMENT = "benchmark.md"


@dataclass(frozen=True)
class Plan:
    """Settings of a run.

    hearts: number of cases; a tier or, for a trial, fewer.
    generators: names of shipped generators, or folders.
    added: (name, folder) of videos of others.
    only: conditions of the rows of generators that are wanted, as "ef_percent+reference"; all rows where empty.
    best_of: number of videos of which one is chosen by EF, in a further row of systems without an ECG; 1 for no such row.
    baselines: whether there are rows of a still frame, a mean heart and another heart's truth.
    device: cpu, cuda or auto.
    workers: processes, each with one thread.
    command: that is written above the tables.
    """

    hearts: int
    generators: tuple[str, ...]
    added: tuple[tuple[str, str], ...] = ()
    only: tuple[str, ...] = ()
    best_of: int = 1
    baselines: bool = True
    device: str = "cpu"
    workers: int = 1
    command: str = "echogen benchmark"


def rows_for(
    listed: Sequence[Case],
    generators: Sequence[str],
    added: Sequence[tuple[str, str]],
    device: str = "cpu",
    best_of: int = 1,
    only: Sequence[str] = (),
    baselines: bool = True,
) -> list[Row]:
    """List the rows: truth, every generator with all that it takes, the videos of others, the shuffled control, baselines.

    added: (name, folder) of videos of others. only: conditions beside the ECG and the view, such as "ef_percent+reference"; other
    rows of generators are left out; empty for all of them. Raises `InputError` where a generator has none of these.
    """
    rows: list[Row] = [Truth()]
    for index, model in enumerate(generators):
        made = [row for row in generated_rows(model, device, best_of) if not only or "+".join(row.given) in only]
        if not made:
            raise InputError(
                f"{model} has no row that is given just {' or '.join(only)}; name one, such as --row ef_percent+reference."
            )
        rows += made
        if index == 0:
            most = [row for row in made if row.best_of == 1][-1]
            rows.append(Shuffled(f"{most.title}; shuffled", most, tuple(listed)))
    rows += [Added.read(name, folder, list(listed)) for name, folder in added]
    if baselines:
        rows += [Still(), MeanHeart(), Shuffled("another heart's truth", Truth(), tuple(listed))]
    return rows


def _one_thread() -> None:
    torch.set_num_threads(1)


def _make(job: Job) -> None:
    work, row, case = job
    row.make(work, case)
    measure(work, row, case)


def _score(job: tuple[Work, Row, list[Case], Generated | None]) -> dict[str, Any]:
    return score(*job)


@contextmanager
def _workers(count: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Provide a map of a function over jobs, in order, by so many processes, or by this one."""
    if count <= 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_one_thread) as pool:
        yield pool.map


def score_rows(
    work: Work,
    listed: list[Case],
    rows: Sequence[Row],
    *,
    workers: int = 1,
    progress: Callable[[float, float], None] | None = None,
) -> list[dict[str, Any]]:
    """Make, measure and judge all rows; return the result of `score` for each."""
    # Shuffled rows need the videos of their row, and all rows need the truth.
    stages: list[list[Row]] = [
        [row for row in rows if isinstance(row, Truth)],
        [row for row in rows if not isinstance(row, Truth | Shuffled)],
        [row for row in rows if isinstance(row, Shuffled)],
    ]
    learned = next((row for row in rows if isinstance(row, Generated)), None)
    results: list[dict[str, Any]] = []
    done, total = 0, len(rows) * (len(listed) + 1)
    with _workers(workers) as each:
        for stage in stages:
            for _ in each(_make, [(work, row, case) for row in stage for case in listed]):
                done += 1
                if progress:
                    progress(done, total)
        for result in each(_score, [(work, row, listed, learned) for row in rows]):
            results.append(result)
            if progress:
                progress(done + len(results), total)
    return results


def cpu_seconds(scored: Sequence[dict[str, Any]]) -> float:
    """Sum over all rows of the CPU seconds to make and to measure the video of a heart; medians over hearts."""
    parts = [row["figures"][name]["value"] for row in scored for name in ("cpu_seconds", "measuring_cpu_seconds")]
    return float(np.nansum(parts))


def run(
    plan: Plan,
    work_folder: str | Path,
    output: str | Path | None = None,
    *,
    plots: bool = True,
    progress: Callable[[float, float], None] | None = None,
) -> str:
    """Run the benchmark and write its section of `DOCUMENT`, and its pictures; return the section.

    work_folder: for everything made and measured, and for the figures as results-N.json. output: for the document; the work
    folder of this version and phantom unless given. Raises `InputError` for a plan that cannot be carried out.
    """
    listed = cases(plan.hearts)
    work = Work.below(work_folder)
    threads = torch.get_num_threads()
    _one_thread()
    try:
        rows = rows_for(listed, plan.generators, plan.added, plan.device, plan.best_of, plan.only, plan.baselines)
        scored = score_rows(work, listed, rows, workers=plan.workers, progress=progress)
    finally:
        torch.set_num_threads(threads)
    results = {
        "version": VERSION,
        "hearts": len(listed),
        "cases_hash": list_hash(listed),
        "phantom": phantom_hash(),
        "command": plan.command,
        "cpu_seconds_per_heart": cpu_seconds(scored),
        "device": plan.device,
        "cores": os.cpu_count(),
        "rows": scored,
    }
    write_json(work.root / f"results-{len(listed)}.json", results)
    place = work.root if output is None else Path(output)
    pictures: list[tuple[str, str]] = []
    if plots:
        from echogen.benchmark.plots import plot

        pictures = plot(work, listed, rows, scored, place / "images")
    text = section(results, pictures)
    write_section(place / DOCUMENT, f"{len(listed)} hearts", text)
    return text
