"""Finer video against interpolation where the truth is known: python benchmarks/refinement.py -> docs/refinement.md."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

from common import DOCS
from echogen.benchmark.markdown import table, write_section
from echogen.datasets.clip_store import draw_recording
from echogen.datasets.held_out import held_out
from echogen.generators.base import Generator
from echogen.generators.wrappers.refined import Refiner, RefinerInput, double_size_input, halfway_input
from echogen.measurement import load_segmenter
from echogen.measurement.segmentation import segment
from echogen.metrics.bootstrap import bootstrap_interval
from echogen.metrics.pictures.likeness import psnr, ssim
from echogen.metrics.pictures.speckle import frame_correlation, speckle_statistics
from echogen.phantom.simulate import Rendering, render
from echogen.records import STRUCTURES, Cine

FIRST_SEED = 140_000
STEPS = (1, 2, 4, 8)
#: Frames of a clip: at 64 and at 32 per second.
FRAMES = {"2x-time": 17, "2x-space": 3}
MEASURES = ("PSNR, dB", "SSIM", "LV edge to that of the truth, mm", "LV edge to the phantom's, mm")
SPECKLE = ("speckle along the beam, mm", "across", "contrast", "frame to frame")
Masks = NDArray[np.bool_]
Frames = NDArray[np.uint8]


@dataclass
class Row:
    """What was made of every clip: one list of figures a measure."""

    fidelity: list[list[float]] = field(default_factory=list)
    speckle: list[list[float]] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)


def edge_distance_mm(first: Masks, second: Masks, mm_per_pixel: float) -> float:
    """Mean distance between the outlines of two masks (T, H, W), from either to the other, over frames that show both."""
    found = []
    for a, b in zip(first, second, strict=True):
        if not (a.any() and b.any()):
            continue
        edges = [mask & ~ndimage.binary_erosion(mask) for mask in (a, b)]
        away = [ndimage.distance_transform_edt(~edge) for edge in edges]
        found.append(0.5 * (away[1][edges[0]].mean() + away[0][edges[1]].mean()))
    return mm_per_pixel * float(np.mean(found)) if found else float("nan")


def ventricle(frames: Frames) -> Masks:
    """Where the segmenter sees the left ventricle; frames of 256 x 256 as four of 128 x 128, each shifted by a pixel.

    A pixel of a mask of 256 x 256 stands for the corner that it shares with the next.
    """
    if frames.shape[-1] == 128:
        return np.asarray(segment(frames, load_segmenter()) == STRUCTURES["lv"])
    means = ndimage.uniform_filter(frames.astype(np.float32), (0, 2, 2), origin=(0, -1, -1), mode="nearest")
    masks = np.zeros(frames.shape, dtype=bool)
    for down in (0, 1):
        for right in (0, 1):
            part = np.rint(means[:, down::2, right::2]).astype(np.uint8)
            masks[:, down::2, right::2] = segment(part, load_segmenter()) == STRUCTURES["lv"]
    return masks


def true_ventricle(labels: Frames) -> Masks:
    """The phantom's own left ventricle on the grid of `ventricle`."""
    mask = (labels == STRUCTURES["lv"]).astype(np.float32)
    if labels.shape[-1] == 128:
        return mask > 0
    return np.asarray(ndimage.uniform_filter(mask, (0, 2, 2), origin=(0, -1, -1), mode="nearest") >= 0.5)


def speckle_figures(frames: Frames, tissue: Masks, mm_per_pixel: float) -> list[float]:
    """Widths in mm, contrast and correlation of neighbouring frames, in tissue; of 256 x 256 every second pixel is read."""
    finer = frames.shape[-1] // 128
    part = np.s_[:, ::finer, ::finer]
    found = speckle_statistics(frames[part], tissue[part])
    coarse_mm = mm_per_pixel * finer
    return [found.axial_px * coarse_mm, found.lateral_px * coarse_mm, found.contrast, found.frame_correlation]


def clip(kind: str, seed: int) -> tuple[Rendering, float]:
    """A held-out clip as it truly is, from anywhere in a second of the recording, and its mm per pixel."""
    heart, _ = draw_recording(seed, 2.0)
    start, finer = np.random.default_rng(seed).uniform(0.2, 1.2), 2 if kind == "2x-space" else 1
    times = start + np.arange(FRAMES[kind]) / (64.0 if kind == "2x-time" else 32.0)
    return render(heart, times, seed, finer=finer), heart.probe.mm_per_pixel / finer


def seen_of(kind: str, frames: Frames) -> tuple[RefinerInput, torch.Tensor]:
    """What a stage sees when every second frame, or the mean of 2 x 2 pixels, is left; and trilinear interpolation."""
    grey = torch.from_numpy(frames).float()[:, None] / 255.0
    if kind == "2x-time":
        before, after = grey[:-1:2], grey[2::2]
        return halfway_input(before, after), (0.5 * (before + after))[:, :, None]
    seen = double_size_input(torch.round(F.avg_pool2d(grey, 2) * 255.0) / 255.0)
    return seen, seen.lowres


def to_bytes(video: torch.Tensor) -> Frames:
    return np.asarray((video[:, 0, 0] * 255.0 + 0.5).to(torch.uint8).numpy())


def compare(kind: str, refiner: Refiner, clips: int) -> dict[str, Row]:
    """Every way of refining on the same clips; a row's speckle is that of the added frames."""
    rows: dict[str, Row] = {}
    for index in range(clips):
        drawn, mm = clip(kind, FIRST_SEED + index)
        added = np.s_[1::2] if kind == "2x-time" else np.s_[:]
        truth, labels = drawn.frames[added], drawn.labels[added]
        began = time.process_time()
        seen, interpolated = seen_of(kind, drawn.frames)
        looked = time.process_time() - began
        made: dict[str, tuple[Frames, float]] = {"truth": (truth, 0.0), "trilinear": (to_bytes(interpolated), 0.0)}
        if kind == "2x-time":
            made["along the motion, no network"] = to_bytes(seen.lowres), looked
        for steps in STEPS:
            began = time.process_time()
            made[f"stage, {steps} step{'s' * (steps > 1)}"] = (
                to_bytes(refiner.draw(seen, steps, seed=index)),
                looked + time.process_time() - began,
            )
        edges, tissue = ventricle(truth), labels == STRUCTURES["myocardium"]
        for name, (frames, cpu_s) in made.items():
            row, own = rows.setdefault(name, Row()), ventricle(frames)
            away = [edge_distance_mm(own, edges, mm), edge_distance_mm(own, true_ventricle(labels), mm)]
            row.fidelity.append([psnr(frames, truth), ssim(frames, truth), *away])
            row.speckle.append(speckle_figures(frames, tissue, mm))
            row.cpu_s.append(cpu_s / len(frames) * 32.0)
        print(kind, index + 1, "gain in dB", np.round(gain(rows)[:, 0].mean(), 2), flush=True)
    return rows


def gain(rows: dict[str, Row]) -> NDArray[np.float64]:
    """(clips, measures): one step of the stage less trilinear interpolation."""
    return np.array(rows["stage, 1 step"].fidelity) - np.array(rows["trilinear"].fidelity)


def figure(values: Any, digits: int, sign: str = "") -> str:
    """Mean and 95 % interval over clips."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return "-"
    low, high = bootstrap_interval(np.mean, known)
    return f"{known.mean():{sign}.{digits}f} ({low:{sign}.{digits}f}..{high:{sign}.{digits}f})"


def report(kind: str, rows: dict[str, Row], clips: int) -> str:
    digits = (2, 4, 3, 3)
    lines = []
    for name, row in rows.items():
        values = np.array(row.fidelity)
        cells = [figure(values[:, i], digits[i]) for i in range(len(MEASURES))]
        lines.append([name, *cells, f"{np.mean(row.cpu_s):.1f}" if any(row.cpu_s) else "-"])
    change = gain(rows)
    lines.append(["1 step less trilinear", *(figure(change[:, i], digits[i], "+") for i in range(len(MEASURES))), ""])
    text = table(["", *MEASURES, "CPU s a second of video"], lines)
    speckle = [[name, *(f"{v:.2f}" for v in np.nanmean(row.speckle, axis=0))] for name, row in rows.items()]
    return text + "\n" + table(["", *SPECKLE], speckle)


def on_generated(refiners: dict[str, Refiner], clips: int) -> str:
    """Generated video has no truth: how its speckle looks in the myocardium, refined and interpolated."""
    heart, found = Generator.from_pretrained("phantom-128", "cpu"), {}
    for index in range(clips):
        ecg = held_out(FIRST_SEED + 500 + index, 1.5).ecg
        made = heart(ecg, start_s=0.0, seconds=0.5, ef_percent=55.0, seed=index)
        tissue = segment(made.frames, load_segmenter()) == STRUCTURES["myocardium"]
        doubled = np.repeat(tissue, 2, axis=0)[: 2 * len(tissue) - 1]
        large = np.kron(tissue[:3], np.ones((1, 2, 2), dtype=bool))
        mm = 1.4
        few = Cine(made.frames[:3], made.times_s[:3])
        rows = {
            "phantom-128": (made.frames, tissue, mm),
            "2x-time, trilinear": (middles(made.frames), doubled, mm),
            "2x-time, stage": (refiners["2x-time"](made).frames, doubled, mm),
            "2x-space, trilinear": (to_bytes(seen_large(few.frames).lowres), large, mm / 2),
            "2x-space, stage": (refiners["2x-space"](few).frames, large, mm / 2),
        }
        for name, (frames, where, size) in rows.items():
            grey = frame_correlation(frames, where, None)
            found.setdefault(name, []).append([*speckle_figures(frames, where, size), grey])
        print("generated", index + 1, flush=True)
    lines = [[name, *(f"{v:.2f}" for v in np.nanmean(values, axis=0))] for name, values in found.items()]
    return table(["", *SPECKLE, "grey, frame to frame"], lines)


def middles(frames: Frames) -> Frames:
    """The frames with their means between them."""
    between_them = (frames[:-1].astype(np.uint16) + frames[1:] + 1) // 2
    woven = np.empty((2 * len(frames) - 1, *frames.shape[1:]), dtype=np.uint8)
    woven[::2], woven[1::2] = frames, between_them
    return woven


def seen_large(frames: Frames) -> RefinerInput:
    return double_size_input(torch.from_numpy(frames).float()[:, None] / 255.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time", default="refine-2x-time", help="name or folder of the refiner")
    parser.add_argument("--space", default="refine-2x-space", help="name or folder of the refiner")
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--only", choices=["2x-time", "2x-space", "generated"], help="one section only")
    options = parser.parse_args()
    refiners = {
        "2x-time": Refiner.from_pretrained(options.time, "cpu"),
        "2x-space": Refiner.from_pretrained(options.space, "cpu"),
    }
    what = {
        "2x-time": "The truth runs at 64 frames per second, the coarse video is every second frame; figures are of the 8 frames "
        "between.",
        "2x-space": "The truth has 256 x 256 pixels, the coarse video the mean of each 2 x 2; 3 frames a clip.",
    }
    notes = (
        "The mean over clips and its 95 % bootstrap interval. LV edge: mean distance between outlines; that of each row is the "
        "segmenter's, against the segmenter's on the true clip and against the phantom's own mask. CPU seconds of one thread on "
        "a machine that was not idle. Below: speckle in the myocardium (widths at half maximum; frame to frame is the "
        "correlation of speckle in neighbouring frames of the row)."
    )
    for kind, refiner in refiners.items():
        if options.only not in (None, kind):
            continue
        text = report(kind, compare(kind, refiner, options.clips), options.clips)
        print(text)
        intro = f"{options.clips} held-out simulated clips (seeds {FIRST_SEED}..). {what[kind]} {notes} Command: "
        write_section(DOCS / "refinement.md", f"--refine {kind}", intro + "`python benchmarks/refinement.py`.\n\n" + text)
    if options.only in (None, "generated"):
        text = on_generated(refiners, 8)
        print(text)
        intro = (
            "Eight clips of half a second by `phantom-128`, EF 55 %. There is no truth, so only speckle and smoothness in time "
            "are told, in what the segmenter takes for myocardium, at 1.4 mm a pixel; size on three frames a clip.\n\n"
        )
        write_section(DOCS / "refinement.md", "On generated video", intro + text)


if __name__ == "__main__":
    main()
