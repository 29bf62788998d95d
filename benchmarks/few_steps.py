"""Quality against steps, and of live video: python benchmarks/few_steps.py -> docs/live.md.

Every clip is judged once and kept in --cache, so that a run that was stopped (--minutes) goes on where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

import echogen
from common import DOCS, LEADS, arguments, held_out, table
from echogen.datasets.clip_store import ECG_BEFORE_S, ECG_RATE_HZ, draw_recording
from echogen.errors import InputError
from echogen.generators import EchoPulse
from echogen.generators.echopulse_config import EchoPulseConfig, LivePace
from echogen.measure import load_segmenter, read_masks, segment
from echogen.metrics.ejection import ejection_report
from echogen.metrics.timing import pooled_report, within_video
from echogen.phantom.simulate import Heart
from echogen.records import STRUCTURES, ByteArray, Cine, Ecg
from report import write_section

FIRST_SEED = 50_000
SECONDS = 4.0
STEPS = (10, 8, 6, 4, 2, 1)
#: A chamber that covers fewer pixels of a frame is not seen.
LEAST_CHAMBER_PX = 120

Judged = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """One way to make a video: what it is called in the table, the generator's settings, and whether it is live."""

    cells: tuple[str, ...]
    config: EchoPulseConfig
    live: bool = False


def by_steps(config: EchoPulseConfig) -> list[Variant]:
    """The steps in both orders, with and without guidance of the first frame, whose steps fall with the others."""
    found = []
    for order in ("confidence", "halton"):
        for guided in (True, False):
            for steps in STEPS:
                first = config.first
                if first is not None:
                    fewer = ceil(first.steps * steps / config.steps)
                    first = replace(first, steps=min(fewer, first.steps), guidance=first.guidance if guided else 1.0)
                changed = replace(config, steps=steps, order=order, first=first)
                found.append(Variant((str(steps), order, "yes" if guided else "no"), changed))
    return found


def live_paces(pace: LivePace) -> list[LivePace]:
    """The pace of the generator, and others that differ in one thing."""
    changes: list[dict[str, Any]] = [{}]
    changes += [{"latents": latents} for latents in (1, 4)]
    changes += [{"steps": steps} for steps in (1, 2, 3, 8)]
    changes += [{"prefix": prefix} for prefix in (2, 8)]
    changes += [{"ahead": ahead} for ahead in (0, 2, 7)]
    changes += [{"future_s": future} for future in (0.1, 0.5, 1.0)]
    paces = [replace(pace, **change) for change in changes]
    return list(dict.fromkeys(paces))


def by_pace(config: EchoPulseConfig) -> list[Variant]:
    """The video that is not live, and the paces."""
    found = [Variant(("not live", "", "", "", "", ""), config)]
    for pace in live_paces(config.live):
        told = (pace.latents, pace.steps, pace.prefix, pace.ahead, f"{1000 * pace.future_s:.0f}")
        name = "live, as shipped" if pace == config.live else "live"
        found.append(Variant((name, *map(str, told)), replace(config, live=pace), live=True))
    return found


def whole(masks: ByteArray, view: str | None) -> bool:
    """Whether the first frame shows the chambers of its view."""
    chambers = ("lv", "la", "rv", "ra") if view == "A4C" else ("lv", "la")
    return all((masks[0] == STRUCTURES[name]).sum() >= LEAST_CHAMBER_PX for name in chambers)


def judge(parts: Sequence[Cine], heart: Heart, cpu_s: float) -> Judged:
    """What a clip shows: EF in %, end-systoles that it shows and should show, in s, and how much it changes where parts meet.

    The EF is nan where no beat can be made out.
    """
    frames = np.concatenate([part.frames for part in parts])
    times = np.concatenate([part.times_s for part in parts])
    masks = segment(frames, load_segmenter())
    try:
        reading = read_masks(masks, times)
        ef, es = reading.ef_percent, [beat.es_s for beat in reading.beats]
    except InputError:
        ef, es = None, []
    change = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean((1, 2))
    seams = np.cumsum([len(part.frames) for part in parts])[:-1] - 1
    inside = np.delete(change, seams)
    return {
        "ef": float("nan") if ef is None else float(ef),
        "asked": heart.anatomy.ef_percent,
        "es": es,
        "expected": heart.clock.avc_s[within_video(heart.clock, float(times[0]), float(times[-1]))].tolist(),
        "seam": float(change[seams].mean() / inside.mean()) if len(seams) and inside.size else float("nan"),
        "whole": bool(whole(masks, heart.anatomy.view)),
        "cpu_s": cpu_s * 64 / len(frames),
    }


def make(maker: EchoPulse, variant: Variant, seed: int) -> Judged:
    """Make and judge the clip of a held-out heart, which is asked for its own EF and view."""
    heart, leads = draw_recording(seed, SECONDS)
    ecg = Ecg(leads, ECG_RATE_HZ, LEADS, -ECG_BEFORE_S)
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
        f"{np.mean(cpu):.2f}" if np.isfinite(cpu).all() else "",
    ]


def key(variant: Variant | None) -> str:
    """What tells a variant's clips in the cache."""
    return "truth" if variant is None else json.dumps([asdict(variant.config), variant.live], sort_keys=True)


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


def judged_by(
    heart: EchoPulse, variants: Sequence[Variant | None], hearts: int, cache: Cache, until: float
) -> dict[str, list[Judged]]:
    """The clips of each variant, heart by heart, as far as the time allows."""
    for seed in range(FIRST_SEED, FIRST_SEED + hearts):
        for variant in variants:
            if (key(variant), seed) in cache.found:
                continue
            if time.monotonic() > until:
                break
            if variant is None:
                cache.put("truth", seed, truth(seed))
                continue
            maker = EchoPulse(variant.config, heart.tokenizer, heart.transformer, heart.device, heart.critic)
            cache.put(key(variant), seed, make(maker, variant, seed))
    seeds = range(FIRST_SEED, FIRST_SEED + hearts)
    return {key(v): [cache.found[key(v), s] for s in seeds if (key(v), s) in cache.found] for v in variants}


def main() -> None:
    """--only steps or live: one of the tables. --minutes: stop after them; 0 goes on to the end."""
    options = arguments(__doc__ or "", hearts=24, minutes=0, only="", cache="runs/few_steps")
    heart = echogen.Generator.from_pretrained(options.model, "cpu")
    assert isinstance(heart, EchoPulse)
    cache = Cache(Path(options.cache) / f"{heart.weights_hash}.jsonl")
    until = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    quality = ["n", "EF R2", "MAE, points", "beats matched", "median ES error, ms", "seams", "whole", "CPU s per 64 frames"]
    shared = (
        f"Generator {heart.name} ({heart.weights_hash}); {options.hearts} held-out hearts (seeds {FIRST_SEED}..) of "
        f"{SECONDS:g} s with their own ECG, EF, view and sex; no frame given. EF and end-systole as the segmenter sees them, "
        "against the heart's own; matched: within 80 ms; seams: change between frames where parts meet over that elsewhere; "
        "whole: the first frame shows all chambers of its view. Truth: the simulated heart itself. So few hearts tell large "
        "differences only. CPU seconds of one thread; the machine was not idle. "
    )
    tables = {
        "steps": ("Quality against steps", ["steps", "order", "first frame guided"], by_steps(heart.config)),
        "live": (
            "Quality of live video",
            ["video", "new latents", "steps", "kept", "ahead", "future ECG, ms"],
            by_pace(heart.config),
        ),
    }
    for name, (title, header, variants) in tables.items():
        if options.only not in ("", name):
            continue
        found = judged_by(heart, [None, *variants], options.hearts, cache, until)
        rows = [["truth", *[""] * (len(header) - 1), *row(found["truth"])]] if found["truth"] else []
        rows += [[*variant.cells, *row(found[key(variant)])] for variant in variants if found[key(variant)]]
        text = table(header + quality, rows)
        print(text)
        if all(len(clips) == options.hearts for clips in found.values()):
            command = f"`python benchmarks/few_steps.py --only {name}`"
            write_section(DOCS / "live.md", title, f"{shared}Command: {command}.\n\n{text}")


if __name__ == "__main__":
    main()
