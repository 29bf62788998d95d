"""Whether a given first frame is kept over a minute: python benchmarks/stability.py -> docs/stability.md.

--forgotten 0: without the row in which no window sees the first frame again, a third of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import numpy as np
import torch
from scipy import ndimage

import echogen
from common import DOCS, arguments
from echogen.benchmark.markdown import table, write_section
from echogen.datasets.held_out import held_out
from echogen.generators import EchoPulse
from echogen.measurement import load_segmenter, read_masks, segment
from echogen.physiology import Floats
from echogen.records import STRUCTURES, ByteArray, Cine
from picture import sharpness

FIRST_SEED = 40_000
SECONDS, STRETCH_S = 60.0, 10.0


@dataclass(frozen=True)
class Kept:
    """Of one video, stretch by stretch (stretches of 10 s): end-diastolic area over the first frame's, how far the middle of the
    cavity lies at end-diastole from where it lay there, in pixels, and sharpness over that of the first stretch."""

    area: Floats
    away_px: Floats
    sharpness: Floats


def kept(cine: Cine, image: ByteArray) -> Kept:
    """What became of the heart in image (H, W), which the video began with."""
    segmenter = load_segmenter()
    masks = segment(cine.frames, segmenter)
    ventricle = masks == STRUCTURES["lv"]
    first = segment(image[None], segmenter)[0] == STRUCTURES["lv"]
    area = ventricle.sum((1, 2)) / first.sum()
    middle = np.array([ndimage.center_of_mass(mask) if mask.any() else (np.nan, np.nan) for mask in [first, *ventricle]])
    away = np.hypot(*(middle[1:] - middle[0]).T)
    sharp = sharpness(cine.frames)
    since = cine.times_s - cine.times_s[0]
    at_ed = np.array([beat.ed_s for beat in read_masks(masks, cine.times_s).beats]) - cine.times_s[0]
    at = np.clip(np.searchsorted(since, at_ed), 0, len(since) - 1)
    beats = (at_ed // STRETCH_S).astype(int)
    frames = (since // STRETCH_S).astype(int)
    stretches = range(int(SECONDS / STRETCH_S))
    found = np.array(
        [
            (np.median(area[at[beats == s]]), np.median(away[at[beats == s]]), np.median(sharp[frames == s]))
            if (beats == s).any()
            else (np.nan,) * 3
            for s in stretches
        ]
    )
    return Kept(found[:, 0], found[:, 1], found[:, 2] / found[0, 2])


def cells(videos: Sequence[Kept]) -> list[str]:
    """Means over hearts at the beginning and the end, and the worst of any heart at any time."""
    area, away, sharp = (np.array([getattr(video, name) for video in videos]) for name in ("area", "away_px", "sharpness"))
    off = 100 * np.abs(area - 1)
    return [
        str(len(videos)),
        f"{100 * np.nanmean(area[:, 0]):.0f}",
        f"{100 * np.nanmean(area[:, -1]):.0f}",
        f"{np.nanmean(off):.1f}",
        f"{np.nanmax(off):.1f}",
        f"{(np.nanmax(off, axis=1) <= 10).sum()} of {len(videos)}",
        f"{np.nanmean(away[:, 0]):.1f}",
        f"{np.nanmean(away[:, -1]):.1f}",
        f"{100 * np.nanmean(sharp[:, -1]):.0f}",
        f"{100 * np.nanmin(sharp):.0f}..{100 * np.nanmax(sharp):.0f}",
    ]


def judged(model: str, seed: int, forgotten: bool) -> list[Kept]:
    """The true heart, the generated one, and, if asked for, the one that is made where no window sees the first frame again."""
    torch.set_num_threads(1)
    heart = echogen.Generator.from_pretrained(model)
    assert isinstance(heart, EchoPulse)
    case = held_out(seed, SECONDS + 1.0)
    image, start = case.first_ed_frame()
    asked: dict[str, Any] = {"reference": image, "view": case.cine.view, "sex": case.heart.sex, "seed": seed}
    low, high = heart.ef_range
    asked["ef_percent"] = float(np.clip(case.heart.anatomy.ef_percent, low, high))
    shown = (case.cine.times_s >= start) & (case.cine.times_s < start + SECONDS)
    found = [kept(Cine(case.cine.frames[shown], case.cine.times_s[shown]), image.frames[0])]
    for reminded in (True, False) if forgotten else (True,):
        heart.config = replace(heart.config, reminded=reminded)
        found.append(kept(heart(case.ecg, start_s=start, seconds=SECONDS, **asked), image.frames[0]))
    print(seed, case.heart.rhythm.name, *[each.area.round(2) for each in found], found[1].away_px.round(1), flush=True)
    return found


def main() -> None:
    options = arguments(__doc__ or "", hearts=12, workers=2, forgotten=1)
    heart = echogen.Generator.from_pretrained(options.model)
    with ProcessPoolExecutor(options.workers) as pool:
        seeds = range(FIRST_SEED, FIRST_SEED + options.hearts)
        ways = list(zip(*pool.map(judged, repeat(options.model), seeds, repeat(bool(options.forgotten))), strict=True))
    header = ["video", "hearts", "ED area, first 10 s, %", "last 10 s, %", "off, mean, %", "off, worst, %"]
    header += ["hearts within 10 % all the time", "moved, first 10 s, px", "last 10 s, px"]
    header += ["sharpness at the end, % of the first 10 s", "its range, %"]
    names = ("truth", heart.name, f"{heart.name}, the first frame not seen again")
    text = table(header, [[name, *cells(videos)] for name, videos in zip(names[: len(ways)], ways, strict=True)])
    note = (
        f"Generator {heart.name} ({heart.weights_hash}); held-out hearts (seeds {FIRST_SEED}..), their own ECG, EF, view, sex "
        f"and the first end-diastolic frame of their own clip; {SECONDS:.0f} s at {heart.native_fps:g} frames/s. Area of the "
        "left ventricle at end-diastole over that in the given frame, medians over 10 s, both by the segmenter; moved: the "
        "middle of that area; sharpness: mean gradient over mean brightness without speckle. Truth: the simulated heart itself, "
        "which varies, too, where beats do. Command: "
        f"`python benchmarks/stability.py{'' if options.forgotten else ' --forgotten 0'}`.\n\n"
    )
    print(text)
    write_section(DOCS / "stability.md", "A first frame over a minute", note + text)


if __name__ == "__main__":
    main()
