"""Quality against steps, and of live video: python benchmarks/few_steps.py -> docs/live.md.

Every clip is judged once and kept in --cache, so that a run that was stopped (--minutes) goes on where it was.
"""

from __future__ import annotations

import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import echogen
from common import DOCS, arguments
from echogen.benchmark.markdown import table, write_section
from echogen.generators import EchoPulse
from echogen.generators.echopulse.config import EchoPulseConfig, FirstFrame, LivePace
from echogen.training.teacher import SamplingSchedule
from variants import QUALITY, Cache, Variant, judged_by, note, quality_rows

STEPS = (10, 8, 6, 4, 2, 1)
FIRST_STEPS = (8, 4, 2, 1)


def taught_by(config: EchoPulseConfig) -> EchoPulseConfig:
    """The settings of the teacher of a generator's student."""
    way = SamplingSchedule()
    return replace(config, **{entry.name: getattr(way, entry.name) for entry in fields(way)})


def by_steps(config: EchoPulseConfig) -> list[Variant]:
    """Steps of the teacher in both orders, and of the student."""
    found = []
    for name, changed, lacking, counts in (
        ("teacher", taught_by(config), ("student",), STEPS),
        ("student", config, (), tuple(steps for steps in STEPS if steps <= 4)),
    ):
        for order in ("confidence", "halton"):
            for steps in counts:
                cells = (name, str(steps), order)
                found.append(Variant(cells, replace(changed, steps=steps, order=order), without=lacking))
    return found


def by_first_steps(config: EchoPulseConfig) -> list[Variant]:
    """Steps of a first frame, guided by its view and not; what follows as the generator guesses it."""
    usual = config.first or FirstFrame()
    found = []
    for first in (usual, replace(usual, guidance=1.0)):
        for steps in FIRST_STEPS:
            changed = replace(config, first=replace(first, steps=steps))
            found.append(Variant((str(steps), "no" if first.guidance == 1.0 else "yes"), changed))
    return found


def live_paces(pace: LivePace) -> list[LivePace]:
    """The pace of the generator, and others that differ in one thing."""
    changes: list[dict[str, Any]] = [{}]
    changes += [{"latents": latents} for latents in (1, 4)]
    changes += [{"steps": steps} for steps in (1, 2, 4, 8)]
    changes += [{"prefix": prefix} for prefix in (2, 8)]
    changes += [{"ahead": ahead} for ahead in (0, 2, 7)]
    changes += [{"future_s": future} for future in (0.1, 0.5, 1.0)]
    firsts = [{"steps": steps} for steps in (4, 6, 12)] + [{"latents": latents} for latents in (1, 5, 9)]
    changes += [{"first": replace(pace.first, **first)} for first in firsts]
    paces = [replace(pace, **change) for change in changes]
    return list(dict.fromkeys(paces))


def by_pace(config: EchoPulseConfig) -> list[Variant]:
    """The video that is not live, and the paces."""
    found = [Variant(("not live", "", "", "", "", "", "", ""), config)]
    for pace in live_paces(config.live):
        told = (
            pace.latents,
            pace.steps,
            pace.prefix,
            pace.ahead,
            f"{1000 * pace.future_s:.0f}",
            pace.first.steps,
            pace.first.latents,
        )
        name = "live, as shipped" if pace == config.live else "live"
        found.append(Variant((name, *map(str, told)), replace(config, live=pace), live=True))
    return found


def main() -> None:
    """--only steps, first or live: one of the tables. --minutes: stop after them; 0 goes on to the end."""
    options = arguments(__doc__ or "", hearts=24, minutes=0, only="", workers=2, cache="runs/few_steps")
    heart = echogen.Generator.from_pretrained(options.model, "cpu")
    assert isinstance(heart, EchoPulse)
    cache = Cache(Path(options.cache) / f"{heart.weights_hash}.jsonl")
    until = time.time() + 60 * options.minutes if options.minutes else float("inf")
    tables = {
        "steps": ("Quality against steps", ["guessed by", "steps", "order"], by_steps(heart.config)),
        "first": ("Quality against steps of the first frame", ["steps", "guided"], by_first_steps(heart.config)),
        "live": (
            "Quality of live video",
            ["video", "new latents", "steps", "kept", "ahead", "future ECG, ms", "first frame: steps", "latents seen"],
            by_pace(heart.config),
        ),
    }
    for name, (title, header, variants) in tables.items():
        if options.only not in ("", name):
            continue
        found = judged_by(options.model, [None, *variants], options.hearts, cache, until, options.workers)
        text = table(header + QUALITY, quality_rows(found, variants))
        print(text)
        if all(len(clips) == options.hearts for clips in found.values()):
            command = f"`python benchmarks/few_steps.py --only {name} --hearts {options.hearts}`"
            write_section(DOCS / "live.md", title, f"{note(heart, options.hearts)}Command: {command}.\n\n{text}")


if __name__ == "__main__":
    main()
