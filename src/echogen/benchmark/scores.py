"""Judging of a row of the open benchmark: measurements kept clip by clip, and the figures they make together."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from echogen.arrays import Floats
from echogen.benchmark.cases import Case
from echogen.benchmark.kept import States, clip_of, read_states, write_states
from echogen.benchmark.rows import Generated, Truth, Work
from echogen.benchmark.rows import Row as Videos
from echogen.errors import InputError
from echogen.metrics.evaluation.collectors import Collector, Pair
from echogen.metrics.evaluation.figures import Row, mean_row, pooled_row
from echogen.metrics.evaluation.run import METRICS
from echogen.metrics.heart.rhythm_effects import Drift, EjectingBeats, LateFilling, PrematureStroke
from echogen.metrics.memorisation.bank import BANK_FILE, IdentityBank
from echogen.metrics.memorisation.similarity import nearest
from echogen.metrics.sets.collectors import SetDistance

_PACKAGE = Path(__file__).parent.parent
#: Key of the cost of measuring, beside the states of metrics.
_COST = "cost"
#: Paired metrics that judge truth clips, too: by their errors against the known clock of the heart.
_OF_TRUTH = ("ed", "es")


def _collectors() -> tuple[dict[str, Collector], dict[str, str]]:
    """Make one collector of each metric that can be had; return them, and the reasons why the others cannot."""
    made: dict[str, Collector] = {
        "drift": Drift(),
        "ejecting": EjectingBeats(),
        "ectopic": PrematureStroke(),
        "filling": LateFilling(),
    }
    missing: dict[str, str] = {}
    for name, metric in METRICS.items():
        # Copies are sought among the clips of training, not among those of the benchmark.
        if name == "memorisation":
            continue
        try:
            made[name] = metric.make()
        except InputError as error:
            missing[name] = str(error).replace(f"{_PACKAGE.parent}{os.sep}", "")
    return made, missing


def measure(work: Work, row: Videos, case: Case) -> States:
    """Return the state of every metric after one video, kept after the first time; empty where there is no video."""
    clip = clip_of(work, row, case)
    if clip is None:
        return {}
    path = clip.kept / f"against-{case.name}.pickle"
    collectors, _ = _collectors()
    states = read_states(path)
    if states.keys() >= collectors.keys():
        return states
    began = time.process_time()
    truth = clip_of(work, Truth(), case)
    alone, beside = Pair(None, clip), Pair(truth, clip)
    for name, collector in collectors.items():
        paired = name in METRICS and METRICS[name].paired
        if not (paired and isinstance(row, Truth) and name not in _OF_TRUTH):
            collector.add(beside if paired or isinstance(collector, SetDistance) else alone)
    states = {name: collector.state() for name, collector in collectors.items()}
    states[_COST] = {"cpu_seconds": time.process_time() - began}
    write_states(path, states)
    return states


def _median(values: Floats) -> float:
    return float(np.median(values))


def _copies(work: Work, row: Videos, listed: Sequence[Case], bank: IdentityBank) -> Row:
    """Share of a row's videos that are nearer to a clip that a generator learned from than its threshold for copies."""
    clips = [clip for case in listed if (clip := clip_of(work, row, case)) is not None]
    if not clips:
        return Row()
    similarity, _ = nearest(np.stack([clip.identity for clip in clips]), bank.vectors)
    return mean_row(similarity > bank.threshold)


def bank_of(row: Generated) -> IdentityBank | None:
    """Read the bank of clips that a generator learned from; None where its folder has none."""
    path = row.folder / BANK_FILE
    return IdentityBank.load(path) if path.is_file() else None


def score(work: Work, row: Videos, listed: Sequence[Case], learned: Generated | None = None) -> dict[str, Any]:
    """Judge a row whose videos are made: title, n videos, figures (by name: value, low, high, n), notes, and by case the values
    for plots (EF seen and true in %, end-systolic errors in ms).

    learned: the generator among whose training clips copies are sought where the row is of no generator.
    """
    collectors, notes = _collectors()
    n, errors = 0, list[str]()
    costs: dict[str, list[Floats]] = {"seconds": [], "cpu_seconds": [], "measuring_cpu_seconds": []}
    for case in listed:
        states = measure(work, row, case)
        if states:
            n += 1
            costs["measuring_cpu_seconds"].append(np.array([states[_COST]["cpu_seconds"]]))
        for name, state in states.items():
            if name in collectors:
                collectors[name].merge_state(state)
        if isinstance(row, Generated):
            facts = row.facts(work, case)
            errors += [facts["error"]] if "error" in facts else []
            for name in ("seconds", "cpu_seconds"):
                costs[name] += [np.array([facts[name]])] if name in facts else []
    figures = {name: pooled_row(_median, found) for name, found in costs.items()}
    for collector in collectors.values():
        for name, figure in collector.figures().items():
            # A truth clip has no error against itself, but against what is known of its heart, and against other truth clips.
            truth = figure.truth if isinstance(row, Truth) and figure.truth and figure.truth.n else None
            figures[name] = truth or figure.generated
            if figure.note:
                notes[name] = figure.note
    source = row if isinstance(row, Generated) else learned if isinstance(row, Truth) else None
    bank = bank_of(source) if source else None
    if bank:
        figures["memorisation"] = _copies(work, row, listed, bank)
    elif source:
        notes["memorisation"] = f"the folder of {source.name} does not tell what it learned from ({BANK_FILE})"
    if isinstance(row, Generated) and row.best_of > 1:
        figures = {name: figure for name, figure in figures.items() if not name.startswith("ef_regressor")}
    if errors:
        notes["refused"] = f"{len(errors)} cases; the first: {errors[0]}"
    values = {name: asdict(value) for name, value in figures.items()}
    return {"title": row.title, "n": n, "figures": values, "notes": notes, "cases": _by_case(collectors, listed)}


def _by_case(collectors: dict[str, Collector], listed: Sequence[Case]) -> dict[str, dict[str, Any]]:
    ef, drift = collectors["ef"].state(), collectors["drift"].state()
    return {
        case.name: {"ef": ef.get(case.name, {}).get("generated"), "es_ms": list(drift[case.name]["es_ms"])}
        for case in listed
        if case.name in drift
    }
