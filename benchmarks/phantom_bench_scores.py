"""How a row of the open benchmark is judged: measurements kept clip by clip, and the figures they make together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import echogen
from echogen.commands.common import write_json
from echogen.errors import InputError
from echogen.generators.base import hash_weights
from echogen.measure.matching import MARGIN_S
from echogen.metrics import heart
from echogen.metrics.clips import Clip, ClipFile
from echogen.metrics.collectors import Collector, Pair
from echogen.metrics.evaluation import METRICS
from echogen.metrics.features import EchoClipFeatures, features_of
from echogen.metrics.figures import Figure, Row, mean_row, pooled_row
from echogen.metrics.frechet import bias_note, frechet_distance, frechet_interval
from echogen.metrics.heart_collectors import _seen_and_known
from echogen.metrics.timing import timing_report
from echogen.records import ByteArray
from phantom_bench_cases import Case
from phantom_bench_rows import Generated, Truth, Work
from phantom_bench_rows import Row as Videos

Floats = NDArray[np.float64]

_WEIGHTS = Path(echogen.__file__).parent / "weights"
#: Metrics that are means over clips: their values are kept for each clip.
PER_CLIP = ("mse", "mae", "ssim", "lpips", "speckle")
#: Judged from kept features.
DISTANCE = "echo"


class KeptClip(Clip):
    """A clip whose masks are read from a folder, or put there."""

    def __init__(self, file: ClipFile, kept: Path) -> None:
        super().__init__(file)
        self.kept = kept

    @cached_property
    def masks(self) -> ByteArray:
        path = self.kept / "masks.npz"
        if not path.is_file():
            _keep(path, "masks", super().masks)
        with np.load(path) as stored:
            masks: ByteArray = stored["masks"]
        return masks

    @property
    def rhythm(self) -> str:
        return str(self._facts["rhythm"])

    @property
    def kinds(self) -> list[str]:
        """The kind of each true beat."""
        return [str(beat["kind"]) for beat in self._facts["beats"]]


def _keep(path: Path, name: str, values: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **{name: values})
    unfinished.replace(path)


@lru_cache
def _stamp(network: str) -> str:
    """What tells the weights of a shipped network apart."""
    return hash_weights(_WEIGHTS / network)[:8]


def clip_of(work: Work, row: Videos, case: Case) -> KeptClip | None:
    """The video of a row for a case, judged against the truth of that case; None where there is none."""
    video = row.video(work, case)
    if not video.is_file():
        return None
    kept = work.root / f"measured-{_stamp('segmenter')}" / row.source(case)
    return KeptClip(ClipFile(case.name, video, work.truth(case) / "truth.json"), kept)


@lru_cache(maxsize=1)
def feature_network() -> EchoClipFeatures | None:
    """The network of the Fréchet echo distance; None where its weights are not there."""
    try:
        return EchoClipFeatures()
    except InputError:
        return None


def features(clip: KeptClip) -> NDArray[np.float32] | None:
    """(dims,) of the beginning of a clip; None of one that is too short, and where there is no network."""
    network = feature_network()
    if network is None:
        return None
    path = clip.kept / f"echo-{_stamp('echo-features')}.npz"
    if not path.is_file():
        try:
            _keep(path, "features", features_of(network, [replace(clip.cine, frames=clip.canonical)])[0])
        except InputError:  # too short
            return None
    with np.load(path) as stored:
        values: NDArray[np.float32] = stored["features"]
    return values


def _collectors(names: Sequence[str]) -> tuple[dict[str, Collector], dict[str, str]]:
    """Those of the metrics that can be had, and why the others cannot."""
    made: dict[str, Collector] = {}
    missing: dict[str, str] = {}
    for name in names:
        try:
            made[name] = METRICS[name].make()
        except InputError as error:
            missing[name] = str(error)
    return made, missing


def measure(work: Work, row: Videos, case: Case) -> dict[str, float | None]:
    """Keep what is measured of one video: masks, features, and its own figures (by name), which are returned."""
    clip = clip_of(work, row, case)
    if clip is None:
        return {}
    path = clip.kept / f"against-{case.name}.json"
    if path.is_file():
        values: dict[str, float | None] = json.loads(path.read_text(encoding="utf-8"))
        return values
    truth = clip_of(work, Truth(), case)
    values = {}
    for name, collector in _collectors(PER_CLIP)[0].items():
        collector.add(Pair(truth if METRICS[name].paired else None, clip))
        values |= {key: figure.generated.to_json()["value"] for key, figure in collector.figures().items()}
    features(clip)
    clip.kept.mkdir(parents=True, exist_ok=True)
    write_json(path, values)
    return values


class Drift:
    """Drift of the end-systolic error within a clip; the median over clips."""

    def __init__(self) -> None:
        self._values: list[float] = []

    def add(self, pair: Pair) -> None:
        clip = pair.generated
        if clip is None:
            return
        start, end = float(clip.cine.times_s[0]) + MARGIN_S, float(clip.cine.times_s[-1]) - MARGIN_S
        expected = [beat.es_s for beat in clip.true_beats if beat.ed_s >= start - MARGIN_S and start <= beat.es_s <= end]
        self._values.append(timing_report([beat.es_s for beat in clip.beats], expected).drift_ms_per_s)

    def figures(self) -> dict[str, Figure]:
        known = [np.array([value]) for value in self._values if np.isfinite(value)]
        return {"drift_ms_per_s": Figure(pooled_row(_median, known), "ms/s")}


class Ectopic:
    """Stroke volume of premature beats over that of the clip's normal beats, and in atrial fibrillation that after each RR."""

    def __init__(self) -> None:
        self._premature: list[Floats] = []
        self._irregular: list[Floats] = []

    def add(self, pair: Pair) -> None:
        clip = pair.generated
        if not isinstance(clip, KeptClip) or clip.r_s is None:
            return
        if clip.rhythm == "af":
            self._irregular.append(np.stack(heart.strokes_and_rr(clip.beats, clip.r_s), axis=1))
        if clip.rhythm != "pvc" or clip.reading is None:
            return
        strokes: dict[bool, list[float]] = {True: [], False: []}
        for own, true in heart.beat_pairs(clip.beats, clip.true_beats):
            beat = clip.beats[own]
            if beat.edv_ml is not None and beat.esv_ml is not None:
                strokes[clip.kinds[true] == "pvc"].append(beat.edv_ml - beat.esv_ml)
        if strokes[True] and strokes[False]:
            self._premature.append(np.array(strokes[True]) / np.median(strokes[False]))

    def figures(self) -> dict[str, Figure]:
        def slope(pairs: Floats) -> float:
            return heart.correlation(pairs[:, 0], pairs[:, 1]).value

        return {
            "pvc_stroke": Figure(pooled_row(lambda values: float(values.mean()), self._premature), "1"),
            "af_stroke_rr": Figure(pooled_row(slope, self._irregular), "1"),
        }


def _median(values: Floats) -> float:
    return float(np.median(values))


def _distance(work: Work, row: Videos, listed: Sequence[Case]) -> tuple[Row, str | None]:
    """Fréchet echo distance of a row's videos to the truth; of the truth's own halves for the truth."""
    if feature_network() is None:
        return Row(), "its weights are not in this version"
    both: list[list[NDArray[np.float32]]] = [[], []]
    for videos, found in ((Truth(), both[0]), (row, both[1])):
        for case in listed:
            clip = clip_of(work, videos, case)
            values = None if clip is None else features(clip)
            if values is not None:
                found.append(values)
    reference, generated = both
    if isinstance(row, Truth):
        reference, generated = reference[::2], reference[1::2]
    n = min(len(reference), len(generated))
    if n < 3:
        return Row(n=n), "fewer than three videos are long enough"
    value = frechet_distance(reference, generated)
    return Row(value, *frechet_interval(reference, generated), n), bias_note(n, len(reference[0]))


def score(work: Work, row: Videos, listed: Sequence[Case]) -> dict[str, Any]:
    """All figures of a row whose videos are made: title, n videos, figures (by name: value, low, high, n), notes, and per case
    what plots need (EF seen and true in %, end-systolic errors in ms)."""
    named = [name for name in METRICS if name not in PER_CLIP and name != DISTANCE]
    collectors, notes = _collectors(named)
    further: dict[str, Collector] = {"drift": Drift(), "ectopic": Ectopic()}
    collectors |= further
    own: dict[str, list[float]] = {}
    seconds: dict[str, list[Floats]] = {"seconds": [], "cpu_seconds": []}
    shown: dict[str, dict[str, Any]] = {}
    errors: list[str] = []
    for case in listed:
        for name, value in measure(work, row, case).items():
            own.setdefault(name, []).append(np.nan if value is None else value)
        clip = clip_of(work, row, case)
        pair = Pair(clip_of(work, Truth(), case), clip)
        for collector in collectors.values():
            collector.add(pair)
        if isinstance(row, Generated):
            facts = row.facts(work, case)
            errors += [facts["error"]] if "error" in facts else []
            for name, found in seconds.items():
                found += [np.array([facts[name]])] if name in facts else []
        if clip is not None:
            es_s = heart.phase_differences(clip.beats, clip.true_beats)[1]
            shown[case.name] = {"ef": _seen_and_known(clip), "es_ms": [round(1000 * float(error), 1) for error in es_s]}
    figures: dict[str, Row] = {name: mean_row(values) for name, values in own.items()}
    for collector in collectors.values():
        for name, figure in collector.figures().items():
            own_truth = isinstance(row, Truth) and name.split("_")[0] in ("ed", "es")
            figures[name] = (figure.truth or Row()) if own_truth else figure.generated
            if figure.note:
                notes[name] = figure.note
    figures |= {name: pooled_row(_median, found) for name, found in seconds.items()}
    figures[DISTANCE], note = _distance(work, row, listed)
    if note:
        notes[DISTANCE] = note
    if errors:
        notes["refused"] = f"{len(errors)} cases; the first: {errors[0]}"
    values = {name: asdict(value) for name, value in figures.items()}
    return {"title": row.title, "n": len(shown), "figures": values, "notes": notes, "cases": shown}
