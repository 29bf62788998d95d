"""What each part of the shipped generator is worth: python benchmarks/ablations.py -> docs/ablations.md.

One thing at a time is taken away or set otherwise, with the same weights. Every clip is judged once and kept in --cache, so that
a run that was stopped (--minutes) goes on where it was. --also: folders of other generators, with commas between them.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import echogen
from common import DOCS, arguments
from echogen.benchmark.markdown import table, write_section
from echogen.generators import EchoPulse
from echogen.generators.echopulse.config import EchoPulseConfig
from variants import QUALITY, Cache, Variant, judged_by, note, quality_rows


def variants_of(config: EchoPulseConfig) -> list[Variant]:
    """The generator as it ships, then what it lacks or does otherwise."""
    found = [Variant(("as shipped",), config)]
    without: dict[str, tuple[str, ...]] = {
        "ECG tokens alone (no features per latent)": ("features",),
        "features per latent alone (no ECG tokens)": ("tokens",),
        "neither: no ECG": ("tokens", "features"),
        "the wall is not settled": ("settling",),
        "ECG tokens alone, not settled": ("features", "settling"),
        "features alone, not settled": ("tokens", "settling"),
        "neither, not settled": ("tokens", "features", "settling"),
    }
    found += [Variant((name,), config, without=lacking) for name, lacking in without.items()]
    changes: dict[str, dict[str, Any]] = {
        "no outline: neither told how large the cavity is, nor settled": {"usual_cavity": None},
        "EF guided by 1.5": {"guidance": 1.5},
        "EF guided by 2.5": {"guidance": 2.5},
        "prefix of 2 latents": {"prefix": 2},
        "prefix of 8 latents": {"prefix": 8},
        "window of 9 latents": {"latents": 9},
        "first frame guessed with its window": {"first": None},
        "later windows do not see the first frame again": {"reminded": False},
    }
    if config.first is not None:
        firsts: dict[str, dict[str, Any]] = {
            "not guided by its view": {"guidance": 1.0},
            "guided by 2.5": {"guidance": 2.5},
            "taken as it comes": {"candidates": 1},
            "clear by 0.2": {"clear": 0.2},
            "the clearest of 3, in 12 steps seeing 5 latents": {"steps": 12, "latents": 5, "candidates": 3, "clear": 9.0},
            "in 5 steps": {"steps": 5},
            "in 12 steps": {"steps": 12},
            "seeing 1 latent": {"latents": 1},
            "seeing 9 latents": {"latents": 9},
            "warmer (1.0 to 0.5)": {"temperature": 1.0, "temperature_end": 0.5},
        }
        changes |= {f"first frame {name}": {"first": replace(config.first, **change)} for name, change in firsts.items()}
    changes |= {
        "colder tokens (0.6)": {"temperature": 0.6},
        "warmer tokens (1.0 to 0.5)": {"temperature": 1.0, "temperature_end": 0.5},
        "5 steps": {"steps": 5},
        "20 steps": {"steps": 20},
    }
    return found + [Variant((name,), replace(config, **change)) for name, change in changes.items()]


def main() -> None:
    """--minutes: stop after them; 0 goes on to the end."""
    options = arguments(__doc__ or "", hearts=24, minutes=0, workers=2, cache="runs/ablations", also="")
    until = time.time() + 60 * options.minutes if options.minutes else float("inf")
    rows: list[list[str]] = []
    complete, told = True, ""
    for name in [options.model, *filter(None, options.also.split(","))]:
        heart = echogen.Generator.from_pretrained(name, "cpu")
        assert isinstance(heart, EchoPulse)
        cache = Cache(Path(options.cache) / f"{heart.weights_hash}.jsonl")
        own = name == options.model
        variants = variants_of(heart.config) if own else [Variant((Path(name).name,), heart.config)]
        found = judged_by(name, [None, *variants] if own else variants, options.hearts, cache, until, options.workers)
        complete = complete and all(len(clips) == options.hearts for clips in found.values())
        told = told or note(heart, options.hearts)
        rows += quality_rows({"truth": [], **found}, variants)
    text = table(["video", *QUALITY], rows)
    print(text)
    if complete:
        command = f"`python benchmarks/ablations.py --hearts {options.hearts}`"
        write_section(DOCS / "ablations.md", "One thing at a time", f"{told}Command: {command}.\n\n{text}")


if __name__ == "__main__":
    main()
