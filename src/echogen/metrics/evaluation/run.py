"""A folder of generated videos against a folder of real ones: every metric that is known, in one pass over the clips.

A metric gives one figure under its own name and, where one number is not enough, more whose names begin with it or say what they
are. `registry.METRICS` is the list; a metric is added by one line there, or by an installed package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from echogen.errors import InputError
from echogen.metrics.evaluation.clips import Clip, ClipFile, find_clips
from echogen.metrics.evaluation.collectors import Collector, Pair
from echogen.metrics.evaluation.figures import Figure, Row
from echogen.metrics.evaluation.processes import in_processes
from echogen.metrics.evaluation.registry import METRICS

#: An evaluation starts another process for each so many clips.
CLIPS_PER_PROCESS = 16
#: Clips that a process takes at a time.
_BLOCK = 8

Progress = Callable[[float, float], None]
#: Files of the real and the generated clip of one name, and of the real clip before; either may be missing.
Job = tuple[ClipFile | None, ClipFile | None, ClipFile | None]


def chosen_metrics(names: str | Sequence[str]) -> list[str]:
    """List the metrics named in a list, or in a text with commas between them, each once, in the order of `METRICS`.

    Raises `InputError` for an unknown name, with the one that is nearest, and for none.
    """
    given = names.split(",") if isinstance(names, str) else list(names)
    given = [name.strip().lower() for name in given if name.strip()]
    for name in given:
        METRICS.find(name)
    if not given:
        raise InputError(f"No metric is named; known are {', '.join(METRICS)}.")
    return [name for name in METRICS if name in given]


@dataclass(frozen=True)
class Evaluation:
    """figures: by name, every metric's own first. n_real, n_generated, n_paired: clips."""

    figures: dict[str, Figure]
    n_real: int
    n_generated: int
    n_paired: int

    def to_json(self) -> dict[str, Any]:
        """One object per figure (see `Figure.to_json`), and `clips` with the counts."""
        document: dict[str, Any] = {name: figure.to_json() for name, figure in self.figures.items()}
        document["clips"] = {"real": self.n_real, "generated": self.n_generated, "paired": self.n_paired}
        return document


def evaluate(
    real: str | Path,
    generated: str | Path,
    metrics: str | Sequence[str] | None = None,
    progress: Progress | None = None,
    *,
    processes: int = 1,
    fps: float | None = None,
) -> Evaluation:
    """Compare a folder of generated videos with a folder of real ones.

    real, generated: folders as `find_clips` reads them; clips of one name belong together. What was asked of a generated clip is
        read from NAME.json beside it (as `generate` writes it: `settings.ef_percent`, `r_s`, `video_start_s`) or, for simulated
        ones, from truth.json.
    metrics: names in `METRICS` (`echogen list metrics` names all), or a text with commas between them. None is all, of which
        those that cannot be had here (weights missing, no names in common) are given with a note instead of a value.
    progress: called with (done, total).
    processes: at most so many share the clips, fewer where there are under 16 clips for each; the figures are the same. More
        than one needs a script to guard its entry with `if __name__ == "__main__"`, and knows only metrics that are built in or
        installed.
    fps: frames per second of the real clips, instead of what their files state.
    Raises `InputError` for folders without clips, a file that cannot be used, an unknown metric, or one that cannot be had.

    >>> import os, echogen
    >>> for side, seed in (("real", 1), ("generated", 2)):
    ...     os.mkdir(side)
    ...     echogen.write(echogen.simulate(seconds=1.0, seed=seed).cine, f"{side}/heart.npz")
    >>> found = echogen.evaluate("real", "generated", "mae,ssim")
    >>> figure = found.figures["ssim"]
    >>> figure.generated.n, figure.generated.value < 1.0
    (1, True)
    """
    names = list(METRICS) if metrics is None else chosen_metrics(metrics)
    of_real, of_generated = find_clips(real, fps), find_clips(generated)
    common = of_real.keys() & of_generated.keys()
    collectors: dict[str, Collector] = {}
    missing: dict[str, Figure] = {}
    for name in names:
        try:
            if METRICS[name].paired and not common:
                raise InputError(
                    f"{name} compares clips of one name, but {real} and {generated} have no name in common; name them alike "
                    f"(there are {next(iter(of_real))} and {next(iter(of_generated))}), or choose other metrics."
                )
            collectors[name] = METRICS[name].make()
        except InputError as error:
            if metrics is not None:
                raise
            missing[name] = Figure(Row(), "1", note=str(error))
    jobs = _jobs(of_real, of_generated)
    processes = min(processes, len(jobs) // CLIPS_PER_PROCESS)
    done = 0
    if processes > 1:
        blocks = [jobs[start : start + _BLOCK] for start in range(0, len(jobs), _BLOCK)]
        for states, count in in_processes(_states, [(tuple(collectors), block) for block in blocks], processes):
            for name, state in states.items():
                collectors[name].merge_state(state)
            done += count
            if progress is not None:
                progress(done, len(jobs))
    else:
        for done, pair in enumerate(_pairs(jobs), start=1):
            for collector in collectors.values():
                collector.add(pair)
            if progress is not None:
                progress(done, len(jobs))
    figures: dict[str, Figure] = {}
    for name in names:
        figures |= {name: missing[name]} if name in missing else collectors[name].figures()
    return Evaluation(figures, len(of_real), len(of_generated), len(common))


def _jobs(of_real: dict[str, ClipFile], of_generated: dict[str, ClipFile]) -> list[Job]:
    """One for each name that is on either side, in order."""
    jobs: list[Job] = []
    before: ClipFile | None = None
    for name in sorted(of_real.keys() | of_generated.keys()):
        real, generated = of_real.get(name), of_generated.get(name)
        jobs.append((real, generated, before if real and generated else None))
        before = real or before
    return jobs


def _pairs(jobs: Sequence[Job]) -> Iterator[Pair]:
    """The clips of each job; the real clip before is not read again where it has just been there."""
    before: Clip | None = None
    for real, generated, other in jobs:
        if other is not None and (before is None or before.file != other):
            before = Clip(other)
        pair = Pair(Clip(real) if real else None, Clip(generated) if generated else None, before if other else None)
        yield pair
        before = pair.real or before


@lru_cache(maxsize=1)
def _collectors(names: tuple[str, ...]) -> dict[str, Collector]:
    return {name: METRICS[name].make() for name in names}


def _states(names: tuple[str, ...], jobs: Sequence[Job]) -> tuple[dict[str, dict[str, Any]], int]:
    """Collect these metrics' values over the clips of some jobs; returned by metric, with the number of jobs.

    A process keeps its collectors, and with them their networks, for the jobs to come.
    """
    collectors = _collectors(names)
    clips = set[str]()
    for pair in _pairs(jobs):
        clips.add(pair.name)
        for collector in collectors.values():
            collector.add(pair)
    states = {
        name: {clip: kept for clip, kept in collector.state().items() if clip in clips} for name, collector in collectors.items()
    }
    return states, len(jobs)
