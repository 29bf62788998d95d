"""How a row of the open benchmark is judged: measurements kept clip by clip, and the figures they make together."""

from __future__ import annotations

import hashlib
import os
import pickle
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import echogen
from echogen.errors import InputError
from echogen.generators.base import hash_weights
from echogen.measurement.beats import SMALLEST_STROKE
from echogen.measurement.matching import MARGIN_S, match_beats
from echogen.metrics.evaluation.clips import Clip, ClipFile
from echogen.metrics.evaluation.collectors import ByClip, Collector, Pair
from echogen.metrics.evaluation.figures import Figure, Row, mean_row, pooled_row
from echogen.metrics.evaluation.run import METRICS
from echogen.metrics.heart import agreement as heart
from echogen.metrics.heart.timing import timing_report
from echogen.metrics.memorisation.bank import BANK_FILE, IdentityBank
from echogen.metrics.memorisation.identity import HeartIdentity
from echogen.metrics.memorisation.similarity import nearest
from echogen.metrics.sets.collectors import SetDistance
from echogen.metrics.sets.features import FeatureNetwork
from echogen.records import Beat, ByteArray
from phantom_bench_cases import Case
from phantom_bench_rows import Generated, Truth, Work
from phantom_bench_rows import Row as Videos

Floats = NDArray[np.float64]
States = dict[str, dict[str, Any]]

_PACKAGE = Path(echogen.__file__).parent
#: What measuring took, beside the states of metrics.
_COST = "cost"
#: Metrics that say something of truth clips against themselves: of their errors against what is known of the heart.
_OF_TRUTH = ("ed", "es")


@lru_cache(maxsize=1)
def _measured() -> str:
    """The folder of measurements: other sources or weights of what measures have another one."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for part in ("metrics", "measure"):
        for path in sorted((_PACKAGE / part).glob("*.py")):
            digest.update(path.read_bytes())
    for network in ("segmenter", "ef-regressor", "echo-features", "identity"):
        digest.update(hash_weights(_PACKAGE / "weights" / network).encode())
    return f"measured-{digest.hexdigest()[:8]}"


class KeptClip(Clip):
    """A clip whose masks and features are read from a folder, or put there."""

    def __init__(self, file: ClipFile, kept: Path) -> None:
        super().__init__(file)
        self.kept = kept

    @property
    def rhythm(self) -> str:
        return str(self._facts["rhythm"])

    @property
    def kinds(self) -> list[str]:
        """The kind of each true beat."""
        return [str(beat["kind"]) for beat in self._facts["beats"]]

    @cached_property
    def masks(self) -> ByteArray:
        found = self._read("masks")
        if found is None:
            found = super().masks
            self._write("masks", found)
        return found

    def features(self, network: FeatureNetwork, *, at_random: bool) -> NDArray[np.float32] | None:
        name = f"{network.name}-{network.frames}{'-anywhere' if at_random else ''}"
        found = self._read(name)
        if found is None:
            found = super().features(network, at_random=at_random)
            if found is not None:
                self._write(name, found)
        return found

    @cached_property
    def identity(self) -> NDArray[np.float32]:
        """(dims,) whose heart it shows."""
        found = self._read("identity")
        if found is None:
            found = _identity()(replace(self.cine, frames=self.canonical))
            self._write("identity", found)
        return found

    def _read(self, name: str) -> NDArray[Any] | None:
        path = self.kept / f"{name}.npz"
        if not path.is_file():
            return None
        with np.load(path) as stored:
            values: NDArray[Any] = stored["values"]
        return values

    def _write(self, name: str, values: NDArray[Any]) -> None:
        self.kept.mkdir(parents=True, exist_ok=True)
        unfinished = self.kept / f".{name}.{os.getpid()}"
        with unfinished.open("wb") as file:
            np.savez_compressed(file, values=values)
        unfinished.replace(self.kept / f"{name}.npz")


@lru_cache(maxsize=1)
def _identity() -> HeartIdentity:
    return HeartIdentity()


def clip_of(work: Work, row: Videos, case: Case) -> KeptClip | None:
    """The video of a row for a case, to be judged against the truth of that case; None where there is none."""
    video = row.video(work, case)
    if not video.is_file():
        return None
    return KeptClip(ClipFile(case.name, video, work.truth(case) / "truth.json"), work.root / _measured() / row.source(case))


def _expected(clip: Clip) -> list[Beat]:
    """The true beats that a video must show: those whose ED and whose ES with a margin lie inside it."""
    start, end = float(clip.cine.times_s[0]), float(clip.cine.times_s[-1])
    return [beat for beat in clip.true_beats if beat.ed_s >= start and start + MARGIN_S <= beat.es_s <= end - MARGIN_S]


def _stroke_ml(beat: Beat) -> float:
    return float("nan") if beat.edv_ml is None or beat.esv_ml is None else beat.edv_ml - beat.esv_ml


class Ejecting(ByClip):
    """The share that is matched of those true beats that eject enough of a usual stroke to be told on a volume curve.

    An early beat of a heart that has hardly filled contracts without ejecting: it has an end-systole, but nothing shows it.
    """

    def add(self, pair: Pair) -> None:
        clip = pair.generated
        if clip is None:
            return
        expected = _expected(clip)
        if not expected:
            return
        usual = float(np.median([_stroke_ml(beat) for beat in clip.true_beats]))
        matched = {true for _, true in match_beats([beat.es_s for beat in clip.beats], [beat.es_s for beat in expected]).pairs}
        ejects = [i for i, beat in enumerate(expected) if _stroke_ml(beat) >= SMALLEST_STROKE * usual]
        if ejects:
            self.keep(pair, "matched", np.array([float(i in matched) for i in ejects]))

    def figures(self) -> dict[str, Figure]:
        return {"timing_ejecting": Figure(pooled_row(lambda values: float(values.mean()), self.kept("matched")), "1")}


class Drift(ByClip):
    """Drift of the end-systolic error within a clip, the median over clips; and all errors of end-systole, for plots."""

    def add(self, pair: Pair) -> None:
        clip = pair.generated
        if clip is None:
            return
        expected = [beat.es_s for beat in _expected(clip)]
        self.keep(pair, "drift", timing_report([beat.es_s for beat in clip.beats], expected).drift_ms_per_s)
        self.keep(pair, "es_ms", 1000.0 * heart.phase_differences(clip.beats, clip.true_beats)[1])

    def figures(self) -> dict[str, Figure]:
        known = [np.array([value]) for value in self.kept("drift") if np.isfinite(value)]
        return {"drift_ms_per_s": Figure(pooled_row(_median, known), "ms/s")}


class Ectopic(ByClip):
    """Stroke volume of premature beats over that of the clip's normal beats, and in atrial fibrillation that after each RR."""

    def add(self, pair: Pair) -> None:
        clip = pair.generated
        if not isinstance(clip, KeptClip) or clip.r_s is None:
            return
        if clip.rhythm == "af":
            self.keep(pair, "af", np.stack(heart.strokes_and_rr(clip.beats, clip.r_s), axis=1))
        elif clip.rhythm == "pvc":
            strokes: dict[bool, list[float]] = {True: [], False: []}
            for own, true in heart.beat_pairs(clip.beats, clip.true_beats):
                beat = clip.beats[own]
                if beat.edv_ml is not None and beat.esv_ml is not None:
                    strokes[clip.kinds[true] == "pvc"].append(beat.edv_ml - beat.esv_ml)
            if strokes[True] and strokes[False]:
                self.keep(pair, "pvc", np.array(strokes[True]) / np.median(strokes[False]))

    def figures(self) -> dict[str, Figure]:
        def together(pairs: Floats) -> float:
            return heart.correlation(pairs[:, 0], pairs[:, 1]).value

        return {
            "pvc_stroke": Figure(pooled_row(lambda values: float(values.mean()), self.kept("pvc")), "1"),
            "af_stroke_rr": Figure(pooled_row(together, self.kept("af")), "1"),
        }


class LateFilling(ByClip):
    """The share of a stroke that flows in during the last 0.16 s before end-diastole, after a diastole long enough to tell.

    In sinus rhythm the atria do that; in atrial fibrillation nothing does. Where another beat of the heart, which ejects too
    little to be seen, interrupts what looks like one long diastole, filling begins anew after it: that is none.
    """

    WINDOW_S, LEAST_DIASTOLE_S, SAME_BEAT_S = 0.16, 0.5, 0.1

    def add(self, pair: Pair) -> None:
        clip = pair.generated
        if not isinstance(clip, KeptClip) or clip.rhythm not in ("af", "sinus") or clip.reading is None:
            return
        times, volume = clip.reading.times_s, clip.reading.volume_ml
        assert volume is not None
        shares = []
        for before, beat in pairwise(clip.beats):
            if beat.ed_s - before.es_s < self.LEAST_DIASTOLE_S:
                continue
            if any(before.es_s + self.SAME_BEAT_S < true.es_s < beat.ed_s for true in clip.true_beats):
                continue
            start, end, least = np.interp([beat.ed_s - self.WINDOW_S, beat.ed_s, before.es_s], times, volume)
            if end > least:
                shares.append((end - start) / (end - least))
        if shares:
            self.keep(pair, clip.rhythm, np.array(shares))

    def figures(self) -> dict[str, Figure]:
        return {f"late_filling_{rhythm}": Figure(pooled_row(_median, self.kept(rhythm)), "1") for rhythm in ("sinus", "af")}


def _median(values: Floats) -> float:
    return float(np.median(values))


def _collectors() -> tuple[dict[str, Collector], dict[str, str]]:
    """One of each metric that can be had, and why the others cannot."""
    made: dict[str, Collector] = {"drift": Drift(), "ejecting": Ejecting(), "ectopic": Ectopic(), "filling": LateFilling()}
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
    """What every metric knows of one video, kept after the first time; empty where there is no video."""
    clip = clip_of(work, row, case)
    if clip is None:
        return {}
    path = clip.kept / f"against-{case.name}.pickle"
    collectors, _ = _collectors()
    if path.is_file():
        states: States = pickle.loads(path.read_bytes())
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
    clip.kept.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(pickle.dumps(states))
    unfinished.replace(path)
    return states


def _copies(work: Work, row: Videos, listed: Sequence[Case], bank: IdentityBank) -> Row:
    """Share of a row's videos that are nearer to a clip that a generator learned from than its threshold for copies."""
    clips = [clip for case in listed if (clip := clip_of(work, row, case)) is not None]
    if not clips:
        return Row()
    similarity, _ = nearest(np.stack([clip.identity for clip in clips]), bank.vectors)
    return mean_row(similarity > bank.threshold)


def bank_of(row: Generated) -> IdentityBank | None:
    """The clips that a generator learned from; None where its folder does not tell."""
    path = row.folder / BANK_FILE
    return IdentityBank.load(path) if path.is_file() else None


def score(work: Work, row: Videos, listed: Sequence[Case], learned: Generated | None = None) -> dict[str, Any]:
    """All figures of a row whose videos are made: title, n videos, figures (by name: value, low, high, n), notes, and per case
    what plots need (EF seen and true in %, end-systolic errors in ms).

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
