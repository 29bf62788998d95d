"""The open benchmark, on simulated hearts that no training saw: python benchmarks/phantom_bench.py -> docs/benchmark.md.

Everything made and measured is kept in the work folder, so that a run that was stopped goes on where it was.
docs/benchmark.md says how videos of other generators get a row.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import DOCS
from echogen.commands.common import progress_bar, write_json
from echogen.errors import InputError
from phantom_bench_cases import TIERS, VERSION, Case, cases, export, list_hash, phantom_hash
from phantom_bench_rows import Added, Generated, MeanHeart, Row, Shuffled, Still, Truth, Work, generated_rows
from phantom_bench_scores import measure, score
from phantom_bench_table import section
from report import write_section

Job = tuple[Work, Row, Case]


def rows_for(
    listed: Sequence[Case],
    generators: Sequence[str],
    added: Sequence[tuple[str, str]],
    device: str = "cpu",
    best_of: int = 1,
    told: Sequence[str] = (),
    baselines: bool = True,
) -> list[Row]:
    """Truth, every generator with what it takes, the videos of others, the shuffled control, and simple baselines.

    told: only the rows of generators that are given just this beside the ECG and the view, such as "ef_percent+reference"; all
    without. Raises `InputError` where a generator has none of these.
    """
    rows: list[Row] = [Truth()]
    for index, model in enumerate(generators):
        made = [row for row in generated_rows(model, device, best_of) if not told or "+".join(row.given) in told]
        if not made:
            raise InputError(
                f"{model} has no row that is given just {' or '.join(told)}; name one, such as --given ef_percent+reference."
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
    """What maps a function over jobs, in order: so many processes, or this one."""
    if count <= 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_one_thread) as pool:
        yield pool.map


def run(
    work: Work,
    listed: list[Case],
    rows: Sequence[Row],
    *,
    workers: int = 1,
    progress: Callable[[float, float], None] | None = None,
) -> list[dict[str, Any]]:
    """Make, measure and judge all rows; what `score` says of each."""
    # What is shuffled needs the videos of its row, and everything needs the truth.
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
    """CPU seconds that a heart takes in all rows together: medians of making and measuring its videos."""
    parts = [row["figures"][name]["value"] for row in scored for name in ("cpu_seconds", "measuring_cpu_seconds")]
    return float(np.nansum(parts))


def _without_work(given: Sequence[str]) -> list[str]:
    """The arguments but for --work: where things were kept changes no figure."""
    places = [place for place, argument in enumerate(given) if argument == "--work"]
    return [argument for place, argument in enumerate(given) if place not in places and place - 1 not in places]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", type=int, default=TIERS[0], help=f"hearts: {', '.join(map(str, TIERS))}; fewer are a trial")
    parser.add_argument("--generators", default="phantom-128", help="names of shipped generators, with commas between them")
    parser.add_argument("--generator-dir", action="append", default=[], help="folder of a generator; may be given again")
    parser.add_argument("--best-of", type=int, default=1, help="a choice by EF for generators without ECG, too")
    parser.add_argument(
        "--given", action="append", default=[], help="only such rows, as ef_percent+reference; may be given again"
    )
    parser.add_argument("--baselines", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--add", action="append", default=[], metavar="NAME=FOLDER", help="videos of others, named by heart")
    parser.add_argument("--export", metavar="DIR", help="only write what a generator may be told of the hearts")
    parser.add_argument("--work", default="runs/bench", help="where everything made and measured is kept")
    parser.add_argument("--output", help="folder for benchmark.md and images; docs for a tier, the work folder for a trial")
    parser.add_argument("--workers", type=int, default=1, help="processes, each with one thread")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--plots", action=argparse.BooleanOptionalAction, default=True)
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(given)
    try:
        listed = cases(options.tier)
        if options.export:
            export(listed, Path(options.export))
            print(f"Wrote {len(listed)} hearts of {VERSION} ({list_hash(listed)}) to {options.export}.")
            return
        added = [(name, folder) for name, _, folder in (text.partition("=") for text in options.add)]
        if any(not name or not folder for name, folder in added):
            raise InputError("--add takes NAME=FOLDER, such as --add mine=videos/mine.")
        models = [name for name in options.generators.split(",") if name] + options.generator_dir
        _bench(options, given, listed, models, added)
    except InputError as error:
        sys.exit(str(error))


def _bench(options: argparse.Namespace, given: Sequence[str], listed: list[Case], models: list[str], added: list[Any]) -> None:
    _one_thread()
    work = Work.below(options.work)
    told = [parts.replace("frames", "reference") for parts in options.given]
    rows = rows_for(listed, models, added, options.device, options.best_of, told, options.baselines)
    with progress_bar(f"{len(rows)} rows of {len(listed)} hearts") as progress:
        scored = run(work, listed, rows, workers=options.workers, progress=progress)
    results = {
        "version": VERSION,
        "hearts": len(listed),
        "cases_hash": list_hash(listed),
        "phantom": phantom_hash(),
        "command": shlex.join(["python", "benchmarks/phantom_bench.py", *_without_work(given)]),
        "cpu_seconds_per_heart": cpu_seconds(scored),
        "device": options.device,
        "cores": os.cpu_count(),
        "rows": scored,
    }
    write_json(work.root / f"results-{len(listed)}.json", results)
    output = Path(options.output) if options.output else DOCS if len(listed) in TIERS else work.root
    pictures: list[tuple[str, str]] = []
    if options.plots:
        from phantom_bench_plots import plot

        pictures = plot(work, listed, rows, scored, output / "images")
    text = section(results, pictures)
    print(text)
    write_section(output / "benchmark.md", f"{len(listed)} hearts", text)


if __name__ == "__main__":
    main()
