"""Ways to make a video, judged on held-out hearts clip by clip and kept, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import echogen
from echogen.datasets.clip_store import ECG_BEFORE_S, ECG_RATE_HZ, draw_recording
from echogen.datasets.held_out import held_out
from echogen.ecg.leads import STANDARD_LEADS
from echogen.errors import InputError
from echogen.generators import EchoPulse
from echogen.generators.echopulse.config import EchoPulseConfig
from echogen.measurement import load_segmenter, read_masks, segment
from echogen.metrics.heart.ejection import ejection_report
from echogen.metrics.heart.timing import pooled_report, within_video
from echogen.phantom.simulate import Heart
from echogen.records import STRUCTURES, ByteArray, Cine, Ecg
from picture import seam_ratio, sharpness, trembling

FIRST_SEED = 50_000
SECONDS = 4.0
#: A chamber that covers fewer pixels of a frame is not seen.
LEAST_CHAMBER_PX = 120
QUALITY = ["n", "EF R2", "MAE, points", "beats matched", "median ES error, ms", "seams", "whole"]
QUALITY += ["sharpness", "trembling", "CPU s per 64 frames"]

Judged = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """One way to make a video: what it is called in the table, the generator's settings, whether it is live, and what it lacks.

    without: "tokens" (of the ECG), "features" (of the clock, per latent), "settling" (of the wall) or "student" (who
    guesses in few steps).
    """

    cells: tuple[str, ...]
    config: EchoPulseConfig
    live: bool = False
    without: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What tells its clips in the cache."""
        lacking = [list(self.without)] if self.without else []
        return json.dumps([asdict(self.config), self.live, *lacking], sort_keys=True)


@contextmanager
def made_by(heart: EchoPulse, variant: Variant) -> Iterator[EchoPulse]:
    """The generator as a variant wants it; its networks are the same, and whole again afterwards."""
    transformer, tokenizer = heart.transformer, heart.tokenizer
    student = None if "student" in variant.without else heart.student
    cavity, condition = tokenizer.cavity, transformer.condition
    dropped = {"tokens": "ecg_keep", "features": "frame_keep"}
    lacking = [dropped[name] for name in variant.without if name in dropped]

    def deaf(rows: int, **told: Any) -> Any:
        return condition(rows, **told | {name: told[name] & False for name in lacking})

    try:
        if "settling" in variant.without:
            tokenizer.cavity = None
        if lacking:
            transformer.condition = deaf  # type: ignore[method-assign, assignment]
        yield EchoPulse(variant.config, tokenizer, transformer, heart.device, heart.critic, student)
    finally:
        tokenizer.cavity = cavity
        transformer.__dict__.pop("condition", None)


def whole(masks: ByteArray, view: str | None) -> bool:
    """Whether the first frame shows the chambers of its view."""
    chambers = ("lv", "la", "rv", "ra") if view == "A4C" else ("lv", "la")
    return all((masks[0] == STRUCTURES[name]).sum() >= LEAST_CHAMBER_PX for name in chambers)


def judge(parts: Sequence[Cine], heart: Heart, cpu_s: float) -> Judged:
    """What a clip shows: EF in %, end-systoles that it shows and should show, in s, and how much it changes where parts meet.

    The EF is nan where no beat can be made out.
    """
    whole_video = Cine.join(parts)
    frames, times = whole_video.frames, whole_video.times_s
    masks = segment(frames, load_segmenter())
    try:
        reading = read_masks(masks, times)
        ef, es = reading.ef_percent, [beat.es_s for beat in reading.beats]
    except InputError:
        ef, es = None, []
    return {
        "ef": float("nan") if ef is None else float(ef),
        "asked": heart.anatomy.ef_percent,
        "es": es,
        "expected": heart.clock.avc_s[within_video(heart.clock, float(times[0]), float(times[-1]))].tolist(),
        "seam": seam_ratio(frames, np.cumsum([len(part.frames) for part in parts])[:-1] - 1),
        "whole": bool(whole(masks, heart.anatomy.view)),
        "sharpness": float(sharpness(frames).mean()),
        "trembling": trembling(frames),
        "cpu_s": cpu_s * 64 / len(frames),
    }


def make(maker: EchoPulse, variant: Variant, seed: int) -> Judged:
    """Make and judge the clip of a held-out heart, which is asked for its own EF and view."""
    heart, leads = draw_recording(seed, SECONDS)
    ecg = Ecg(leads, ECG_RATE_HZ, STANDARD_LEADS, -ECG_BEFORE_S)
    asked: dict[str, Any] = {"ef_percent": heart.anatomy.ef_percent, "view": heart.anatomy.view, "sex": heart.sex}
    low, high = maker.ef_range
    asked["ef_percent"] = float(np.clip(asked["ef_percent"], low, high))
    began = time.process_time()
    parts = list(maker.stream(ecg, start_s=0.0, seconds=SECONDS, seed=seed, live=variant.live, **asked))
    return judge(parts, heart, time.process_time() - began)


def truth(seed: int) -> Judged:
    """The clip of the heart itself."""
    case = held_out(seed, SECONDS)
    return judge([Cine(case.cine.frames, case.cine.times_s)], case.heart, float("nan"))


def row(judged: Sequence[Judged]) -> list[str]:
    """The cells that say how good clips are."""
    ef, asked = (np.array([clip[name] for clip in judged]) for name in ("ef", "asked"))
    known = np.isfinite(ef)
    report = ejection_report(ef[known], asked[known], seed=0) if known.sum() > 2 else None
    timing = pooled_report([(np.array(clip["es"]), np.array(clip["expected"])) for clip in judged])
    seams, cpu = (np.array([clip[name] for clip in judged]) for name in ("seam", "cpu_s"))
    return [
        str(len(judged)),
        "" if report is None else f"{report.r2:.2f}",
        "" if report is None else f"{report.mae:.1f}",
        f"{100 * timing.matched_fraction:.1f} %",
        f"{timing.median_abs_ms:.0f}",
        f"{np.nanmean(seams):.2f}" if np.isfinite(seams).any() else "",
        f"{100 * np.mean([clip['whole'] for clip in judged]):.0f} %",
        f"{100 * np.mean([clip['sharpness'] for clip in judged]):.1f}",
        f"{np.mean([clip['trembling'] for clip in judged]):.2f}",
        f"{np.mean(cpu):.2f}" if np.isfinite(cpu).all() else "",
    ]


def _key(variant: Variant | None) -> str:
    return "truth" if variant is None else variant.key


class Cache:
    """Clips that were judged before, one JSON line each; the file belongs to a generator's weights."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.is_file() else []
        self.found = {(entry["key"], entry["seed"]): entry["judged"] for entry in map(json.loads, lines)}

    def put(self, key: str, seed: int, judged: Judged) -> None:
        self.found[key, seed] = judged
        with self.path.open("a") as file:
            file.write(json.dumps({"key": key, "seed": seed, "judged": judged}) + "\n")


@lru_cache(maxsize=1)
def _generator(model: str) -> EchoPulse:
    torch.set_num_threads(1)
    heart = echogen.Generator.from_pretrained(model, "cpu")
    assert isinstance(heart, EchoPulse)
    return heart


def _judged(model: str, variants: Sequence[Variant | None], seed: int, until: float) -> list[tuple[str, int, Judged]]:
    """(key, seed, what it shows) of a heart's clips, as far as the time allows."""
    heart = _generator(model)
    found = []
    for variant in variants:
        if time.time() > until:
            break
        if variant is None:
            found.append((_key(variant), seed, truth(seed)))
            continue
        with made_by(heart, variant) as maker:
            found.append((_key(variant), seed, make(maker, variant, seed)))
    return found


def judged_by(
    model: str, variants: Sequence[Variant | None], hearts: int, cache: Cache, until: float, workers: int
) -> dict[str, list[Judged]]:
    """The clips of each variant (None: the truth), heart by heart in so many processes, until a time (`time.time`)."""
    seeds = range(FIRST_SEED, FIRST_SEED + hearts)
    missing = [[v for v in variants if (_key(v), seed) not in cache.found] for seed in seeds]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for found in pool.map(_judged, repeat(model), missing, seeds, repeat(until)):
            for clip in found:
                cache.put(*clip)
    return {_key(v): [cache.found[_key(v), s] for s in seeds if (_key(v), s) in cache.found] for v in variants}


def quality_rows(found: dict[str, list[Judged]], variants: Sequence[Variant]) -> list[list[str]]:
    """The truth, and every variant of which clips were judged."""
    rows = [["truth", *[""] * (len(variants[0].cells) - 1), *row(found["truth"])]] if found["truth"] else []
    return rows + [[*variant.cells, *row(found[variant.key])] for variant in variants if found[variant.key]]


def note(heart: EchoPulse, hearts: int) -> str:
    """What was asked, and what the columns say."""
    return (
        f"Generator {heart.name} ({heart.weights_hash}); {hearts} held-out hearts (seeds {FIRST_SEED}..) of "
        f"{SECONDS:g} s with their own ECG, EF, view and sex; no frame given. EF and end-systole as the segmenter sees them, "
        "against the heart's own; matched: within 80 ms; seams: change between frames where parts meet over that elsewhere; "
        "whole: the first frame shows all chambers of its view; sharpness: mean slope a pixel over mean grey, in %, and "
        "trembling: by how many pixels edges jump to and fro, both without speckle, are to be as the truth's. Truth: the "
        "simulated heart itself. So few hearts tell large differences only. CPU seconds of one thread; the machine was not idle. "
    )
