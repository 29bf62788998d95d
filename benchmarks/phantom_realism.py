"""How the phantom's pictures compare with real cines: python benchmarks/phantom_realism.py -> docs/phantom.md.

Real: the cine inside pydicom and, where $ECHOGEN_TEST_DATA is set, a second cine and two CAMUS stills. All in the canonical
128 x 128 geometry; every figure is taken with the same rule on both sides.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.data import get_testdata_file
from scipy import ndimage

from common import DOCS
from echogen.benchmark.markdown import table, write_section
from echogen.cine.reading import read_cine
from echogen.cine.sector import find_sector, to_sector
from echogen.datasets.clip_store import FPS, draw_recording
from echogen.metrics.pictures.speckle import grey_percentiles, local_mean, speckle_widths
from echogen.phantom.looks import HELD_OUT_MACHINES, MACHINES, PLAIN, VARIED
from echogen.phantom.simulate import render
from echogen.phantom.ultrasound import APEX_ROW, RADIUS
from echogen.records import STRUCTURES

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
#: Hand-set outlines (column, row): what is cavity in every frame, and the cavity at its largest.
PYDICOM_ALWAYS = ((64, 44), (72, 42), (76, 48), (77, 58), (77, 66), (68, 67), (61, 66), (61, 55))
PYDICOM_EVER = ((60, 42), (70, 36), (80, 42), (85, 55), (86, 68), (83, 78), (72, 78), (57, 77), (56, 60))
VIDEO_ALWAYS = ((62, 31), (71, 31), (73, 40), (72, 58), (68, 62), (62, 60), (60, 45))
VIDEO_EVER = ((58, 22), (66, 19), (75, 22), (80, 30), (83, 45), (84, 60), (82, 74), (70, 79), (57, 77), (56, 50))
STEP_S = 0.050
MOMENTS = 4
FIGURES = (
    "cavity, grey P10",
    "cavity, grey P50",
    "cavity, grey P90",
    "outside the cavity, grey P10",
    "outside the cavity, grey P50",
    "outside the cavity, grey P90",
    "speckle width along the beam, px",
    "speckle width across the beam, px",
    "correlation of frames 50 ms apart, grey",
    "correlation of frames 50 ms apart, speckle",
)


@dataclass(frozen=True)
class Clip:
    """Canonical frames with their times (s), the pixels that are cavity in every frame, and those outside it in every frame."""

    name: str
    frames: Bytes
    times_s: NDArray[np.float64]
    cavity: Mask
    outside: Mask


def fan(left: float, right: float) -> Mask:
    """The sector without its two outermost pixels."""
    down, across = np.indices((128, 128)) - np.array([APEX_ROW, 63.5])[:, None, None]
    angle, radius = np.arctan2(across, down), np.hypot(down, across)
    margin = 2.0 / np.maximum(radius, 1.0)
    return (radius > 8) & (radius < RADIUS - 2) & (angle > margin - left) & (angle < right - margin)


def polygon(corners: tuple[tuple[int, int], ...]) -> Mask:
    picture = Image.new("1", (128, 128))
    ImageDraw.Draw(picture).polygon(corners, fill=1)
    return np.asarray(picture)


def inner(mask: Mask) -> Mask:
    return ndimage.binary_erosion(mask, iterations=2)


def triples(times_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Three frames in a row at four moments of a clip; all of a still."""
    if len(times_s) < 12:
        return np.arange(len(times_s))
    step = len(times_s) // MOMENTS
    return (np.arange(MOMENTS)[:, None] * step + np.arange(3)).ravel()


def real_clips() -> list[Clip]:
    """The real recordings at hand."""
    found = [real_cine("pydicom", Path(str(get_testdata_file("examples_ybr_color.dcm"))), PYDICOM_ALWAYS, PYDICOM_EVER)]
    folder = os.environ.get("ECHOGEN_TEST_DATA")
    if folder:
        video = Path(folder) / "echo_video/echotracker_input.mp4"
        found.append(real_cine("video", video, VIDEO_ALWAYS, VIDEO_EVER))
        found += [camus_still(Path(folder) / f"echo_camus/patient0213_4CH_{phase}.nii") for phase in ("ED", "ES")]
    return found


def real_cine(name: str, path: Path, always: tuple[tuple[int, int], ...], ever: tuple[tuple[int, int], ...]) -> Clip:
    cine = read_cine(path)
    sector = find_sector(cine.frames)
    # A frame that repeats the one before it would count as perfectly steady.
    new = np.array([True, *(cine.frames[1:] != cine.frames[:-1]).any(axis=(1, 2))])
    frames, _ = to_sector(cine.frames[new])
    return Clip(name, frames, cine.times_s[new], polygon(always), fan(sector.left, sector.right) & ~polygon(ever))


def camus_still(path: Path) -> Clip:
    import nibabel

    def load(file: Path) -> NDArray[np.float32]:
        return np.asarray(nibabel.load(file).dataobj, dtype=np.float32).squeeze().T

    picture = load(path).astype(np.uint8)
    cavity = load(path.with_name(path.stem + "_gt.nii")) == 1
    sector = find_sector(picture)
    frames, factor = to_sector(picture[None])
    # The mask goes the same way as the picture: pixel (row, column) of the result lies at apex + factor * offset.
    rows, columns = np.indices((128, 128)) + 0.5
    at = [sector.apex_row + (rows - APEX_ROW) * factor - 0.5, sector.apex_column + (columns - 64) * factor - 0.5]
    mask = ndimage.map_coordinates(cavity.astype(np.float32), at, order=1) > 0.5
    return Clip(path.stem, frames, np.zeros(1), inner(mask), fan(sector.left, sector.right) & ~mask)


def phantom_clip(seed: int, look: str) -> Clip:
    heart = draw_recording(seed, 1.0, look)[0]
    times = np.arange(round(FPS)) / FPS
    drawn = render(heart, times, seed)
    chosen = triples(times)
    cavity = drawn.labels[chosen] == STRUCTURES["lv"]
    sector = fan(heart.probe.half_angle, heart.probe.half_angle)
    return Clip(
        f"{look}, seed {seed}", drawn.frames[chosen], times[chosen], inner(cavity.all(0)) & sector, sector & ~cavity.any(0)
    )


def correlation_after(frames: NDArray[np.float64], times_s: NDArray[np.float64], mask: Mask, step_s: float) -> float:
    """Mean correlation of frames step_s apart, between the nearest steps there are."""
    if len(frames) < 2:
        return float("nan")
    values = frames[:, mask]
    values = values - values.mean(1, keepdims=True)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    by_step: dict[float, list[float]] = {}
    for lag in (1, 2):
        for i in range(len(values) - lag):
            apart = round(float(times_s[i + lag] - times_s[i]), 3)
            if apart < 0.08:
                by_step.setdefault(apart, []).append(float(values[i] @ values[i + lag]))
    steps = sorted(by_step)
    return float(np.interp(step_s, steps, [np.mean(by_step[s]) for s in steps]))


def figures(clip: Clip) -> list[float]:
    """One number for each of `FIGURES`; speckle is taken in the brighter half of what lies outside the cavity."""
    mean = local_mean(clip.frames.mean(0), clip.outside, 3.0)[0]
    tissue = clip.outside & (mean > np.median(mean[clip.outside]))
    chosen = triples(clip.times_s)
    frames, times = clip.frames[chosen].astype(np.float64), clip.times_s[chosen]
    return [
        *grey_percentiles(frames, clip.cavity),
        *grey_percentiles(frames, clip.outside),
        *speckle_widths(frames[:: max(1, len(frames) // 2)], tissue),
        correlation_after(frames, times, tissue, STEP_S),
        correlation_after(frames - local_mean(frames, tissue), times, tissue, STEP_S) if len(frames) > 1 else float("nan"),
    ]


def comparison(real: NDArray[np.float64], phantoms: list[NDArray[np.float64]]) -> list[list[str]]:
    """Rows of the table: real range, each look's median and spread, and whether that median lies within 25 % of the range."""
    rows = []
    for k, name in enumerate(FIGURES):
        low, high = np.nanmin(real[:, k]), np.nanmax(real[:, k])
        digits = 2 if "correlation" in name or "width" in name else 0
        row = [name, f"{low:.{digits}f} .. {high:.{digits}f}"]
        for phantom in phantoms:
            p10, median, p90 = np.nanpercentile(phantom[:, k], (10, 50, 90))
            inside = 0.75 * low <= median <= 1.25 * high
            row.append(f"{median:.{digits}f} ({p10:.{digits}f} .. {p90:.{digits}f}){'' if inside else ' **out**'}")
        rows.append(row)
    return rows


def sheet(real: Clip, phantoms: list[Clip]) -> Image.Image:
    """Four moments of the real cine, then of phantom clips, two clips a row."""
    clips = [real, *phantoms]
    picture = Image.new("L", (8 * 128 + 8, 142 * ((len(clips) + 1) // 2)))
    draw = ImageDraw.Draw(picture)
    for place, clip in enumerate(clips):
        left, top = (place % 2) * (4 * 128 + 8), (place // 2) * 142
        draw.text((left + 2, top + 1), "real (pydicom)" if place == 0 else clip.name, fill=200)
        moments = np.arange(MOMENTS) * (len(clip.frames) // MOMENTS)
        for k, frame in enumerate(clip.frames[moments]):
            picture.paste(Image.fromarray(frame), (left + 128 * k, top + 14))
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=60, help="held-out phantom clips, seeds from 0")
    parser.add_argument("--output", type=Path, default=DOCS, help="folder of the documents")
    options = parser.parse_args()
    real = real_clips()
    looks = (PLAIN, VARIED, *HELD_OUT_MACHINES)
    phantoms = [[phantom_clip(seed, look) for seed in range(options.clips)] for look in looks]
    measured = [np.array([figures(clip) for clip in clips]) for clips in (real, *phantoms)]
    text = table(["figure", "real", *looks], comparison(measured[0], measured[1:]))
    each = table(
        ["figure", *(clip.name for clip in real)],
        [[n, *(f"{v:.3g}" for v in r)] for n, r in zip(FIGURES, measured[0].T, strict=True)],
    )
    note = (
        f"{options.clips} held-out phantom clips of each look (seeds 0 to {options.clips - 1}, all rhythms, EFs and both views; "
        f"three frames in a row at four moments of one second at {FPS:g} fps) against {len(real)} real recordings "
        f"({', '.join(clip.name for clip in real)}). Grey levels 0 to 255 in the canonical 128 x 128 picture. The cavity is what "
        "lies in the left ventricle in every frame, outside is what never does. Speckle: full width at half maximum of the "
        "autocorrelation and correlations in the brighter half of what lies outside. Looks: the plain phantom, any of the "
        "machines that training sees, and the two that it does not; their median (10th to 90th percentile), **out** where the "
        "median does not lie between 0.75 x the lowest and 1.25 x the highest real value. Command: "
        "`python benchmarks/phantom_realism.py`.\n\n"
    )
    print(note + text + "\n" + each)
    images = options.output / "images"
    images.mkdir(parents=True, exist_ok=True)
    shown = [phantoms[0][0], phantoms[0][5]]
    shown += [phantom_clip(seed, look) for seed, look in zip((0, 5, 7, 12, 14, 9, 21), (VARIED, *MACHINES), strict=True)]
    sheet(real[0], shown).save(images / "phantom_beside_real.png", optimize=True)
    picture = "\n![Real cine and phantom clips](images/phantom_beside_real.png)\n"
    write_section(
        options.output / "phantom.md", "Beside real cines", note + text + "\nThe real recordings one by one:\n\n" + each + picture
    )


if __name__ == "__main__":
    main()
