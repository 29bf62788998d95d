"""Store of simulated clips for training: plain arrays on disk, memory-mapped, one folder a shard.

STORE/shard_0000/frames.npy        (clips, frames, 128, 128) uint8, with speckle
                 structure.npy     the same without speckle
                 displacement.npy  (clips, frames, 2, 64, 64) int8, quarter pixels: to where tissue was at end-diastole
                 labels.npy        (clips, frames / LABEL_EVERY, 128, 128) uint8
                 cavity.npy        (clips, frames, 32, 32) uint8: share of each 4 x 4 pixels that is cavity, 255 for all
                 ecg.npy           (clips, 12, samples) float32 in mV at ECG_RATE_HZ, from ECG_BEFORE_S before frame 0
                 hearts.json       facts about the heart of each clip
A store of finer clips has as many times as many pixels a side in frames, structure and labels, and a frame rate of its own.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly

from echogen.errors import InputError
from echogen.files import whole_folder
from echogen.phantom.anatomy import cavity_outline
from echogen.phantom.electrical import make_ecg
from echogen.phantom.looks import LOOKS, PLAIN
from echogen.phantom.rhythm import make_rhythm
from echogen.phantom.simulate import Heart, draw_heart, heart_volume_ml, render
from echogen.records import STRUCTURES

#: Frames per second of a clip unless another rate is given.
FPS = 32.0
#: Sampling rate of a clip's ECG in Hz: four samples a frame.
ECG_RATE_HZ = 128.0
#: ECG before the first and after the last frame in s: the context of the windows at both ends.
ECG_BEFORE_S, ECG_AFTER_S = 2.0, 1.0
#: Distance between frames that have labels, in frames: labels of all frames would enlarge the store by a third.
LABEL_EVERY = 8
#: Number of clips in a shard; of 3 s clips it takes 350 MB.
SHARD_CLIPS = 50
#: Names of the arrays in a shard.
ARRAYS = ("frames", "structure", "displacement", "labels", "cavity", "ecg")
#: Lowest seed of a training heart; all seeds below are held out for tests and benchmarks.
FIRST_TRAINING_SEED = 1_000_000


def draw_recording(seed: int, seconds: float, look: str = PLAIN) -> tuple[Heart, NDArray[np.float32]]:
    """Draw a heart over all rhythms, rates, EFs and views, with its ECG (12, samples) in mV.

    seed: Seed of the draw.
    seconds: Length of the video in s; the ECG is longer by `ECG_BEFORE_S` and `ECG_AFTER_S`.
    look: One of `phantom.looks.LOOKS`.
    """
    rng = np.random.default_rng(seed)
    name = str(rng.choice(["sinus", "af", "pvc", "pause", "paced"], p=[0.62, 0.14, 0.12, 0.05, 0.07]))
    rate = float(np.clip(rng.lognormal(np.log(76.0), 0.28), 40, 170))
    rhythm = make_rhythm(name, rate, 0.0, seconds, rng)
    ecg = make_ecg(rhythm, -ECG_BEFORE_S, seconds + ECG_AFTER_S, rng, rate_hz=512.0)
    ef = float(rng.uniform(15, 78)) if rng.random() < 0.75 else float(np.clip(rng.normal(60, 7), 20, 78))
    view = "A4C" if rng.random() < 0.65 else "A2C"
    heart = draw_heart(rhythm, rng, ef_percent=ef, view=view, look=look)
    return heart, resample_poly(ecg.signal_mv, 1, 4, axis=1).astype(np.float32)


def describe(heart: Heart, frames: int, fps: float = FPS) -> dict[str, Any]:
    """Describe a recording in plain values for JSON; nan becomes null.

    The values length_px and width_px are those of the cavity in every frame; the width is area over length.
    """
    length_mm, area_mm2 = cavity_outline(heart.anatomy, heart_volume_ml(heart, np.arange(frames) / fps))

    def plain(values: NDArray[np.float64]) -> list[float | None]:
        return [None if not np.isfinite(v) else round(float(v), 4) for v in values]

    return {
        "rhythm": heart.rhythm.name,
        "view": heart.anatomy.view,
        "sex": heart.sex,
        "ef_percent": heart.anatomy.ef_percent,
        "mm_per_pixel": heart.probe.mm_per_pixel,
        "r_s": plain(heart.rhythm.r_s),
        "p_onset_s": plain(heart.rhythm.p_onset_s),
        "qrs_onset_s": plain(heart.clock.qrs_onset_s),
        "wide_qrs": [bool(w) for w in heart.rhythm.wide_qrs],
        "ed_s": plain(heart.clock.ed_s),
        "es_s": plain(heart.clock.avc_s),
        "edv_ml": plain(heart.edvs_ml),
        "esv_ml": plain(heart.esvs_ml),
        "length_px": plain(length_mm / heart.probe.mm_per_pixel),
        "width_px": plain(area_mm2 / length_mm / heart.probe.mm_per_pixel),
    }


def cavity_cells(cavity: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Share of each cell (frames, 32, 32) that masks (frames, side, side) cover, 255 for all of it."""
    cell = cavity.shape[-1] // 32
    return (cavity.reshape(-1, 32, cell, 32, cell).mean((2, 4)) * 255).astype(np.uint8)


@dataclass(frozen=True)
class _Shard:
    """Shard to render.

    final: Folder of the finished shard.
    first_seed: Seed of its first clip.
    clips: Number of clips.
    frames: Number of frames of a clip.
    fps: Frames per second.
    finer: Number of times 128 pixels a side.
    look: One of `phantom.looks.LOOKS`.
    """

    final: Path
    first_seed: int
    clips: int
    frames: int
    fps: float
    finer: int
    look: str


def _write_shard(job: _Shard) -> None:
    final, frames, fps, finer = job.final, job.frames, job.fps, job.finer
    if final.exists():
        return
    seconds = frames / fps
    columns: dict[str, list[NDArray[Any]]] = {
        name: [] for name in ("frames", "structure", "displacement", "labels", "cavity", "ecg")
    }
    hearts = []
    for seed in range(job.first_seed, job.first_seed + job.clips):
        heart, ecg = draw_recording(seed, seconds, job.look)
        drawn = render(heart, np.arange(frames) / fps, seed, finer=finer)
        moved = drawn.displacement.reshape(frames, 2, 64, 2 * finer, 64, 2 * finer).mean((3, 5)) / finer
        columns["frames"].append(drawn.frames)
        columns["structure"].append(drawn.structure)
        columns["displacement"].append(np.clip(np.round(moved * 4), -127, 127).astype(np.int8))
        columns["labels"].append(drawn.labels[::LABEL_EVERY])
        columns["cavity"].append(cavity_cells(drawn.labels == STRUCTURES["lv"]))
        columns["ecg"].append(ecg)
        hearts.append({"seed": seed, **describe(heart, frames, fps)})
    with whole_folder(final) as unfinished:
        for name, values in columns.items():
            np.save(unfinished / f"{name}.npy", np.stack(values))
        (unfinished / "hearts.json").write_text(json.dumps(hearts))


def _each_written(jobs: Sequence[_Shard], processes: int) -> Iterator[None]:
    """Write the shards, with one thread each, and yield after each."""
    if processes > 1:
        with multiprocessing.get_context("spawn").Pool(processes, torch.set_num_threads, (1,)) as pool:
            yield from pool.imap_unordered(_write_shard, jobs)
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield from map(_write_shard, jobs)
    finally:
        torch.set_num_threads(threads)


def render_clips(
    folder: str | Path,
    clips: int,
    *,
    frames: int = 97,
    first_seed: int = FIRST_TRAINING_SEED,
    processes: int = 2,
    progress: Callable[[int, int], None] | None = None,
    fps: float = FPS,
    finer: int = 1,
    look: str = PLAIN,
    clips_per_shard: int = SHARD_CLIPS,
) -> None:
    """Render clips into a store, in whole shards and in parallel; shards that exist are kept.

    folder: Folder of the store, made if missing.
    clips: Least number of clips; the last shard is filled up.
    frames: Number of frames of each clip.
    first_seed: Seed of the first clip; those of the next clips count on.
    processes: Number of processes; 1 renders in this one.
    progress: Called with the number of clips done and of all clips.
    fps: Frames per second.
    finer: Number of times 128 pixels a side, as in `phantom.simulate.render`.
    look: One of `phantom.looks.LOOKS`.
    clips_per_shard: Number of clips in one shard.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shards = -(-clips // clips_per_shard)
    jobs = [
        _Shard(folder / f"shard_{shard:04d}", first_seed + shard * clips_per_shard, clips_per_shard, frames, fps, finer, look)
        for shard in range(shards)
    ]
    for done, _ in enumerate(_each_written(jobs, processes), start=1):
        if progress:
            progress(done * clips_per_shard, shards * clips_per_shard)


@dataclass(frozen=True)
class Clip:
    """One clip of a store; the arrays are views into the memory map.

    frames: Frames (frames, side, side), with speckle.
    structure: The same frames without speckle.
    displacement: Displacement (frames, 2, 64, 64) in quarter pixels, to the place of the tissue at end-diastole.
    labels: Ids of structures (frames / LABEL_EVERY, side, side).
    cavity: Share of each cell that is cavity (frames, 32, 32), 0..255.
    ecg: ECG (12, samples) in mV at `ECG_RATE_HZ`, from `ECG_BEFORE_S` before frame 0.
    heart: Facts about the heart, of `describe`.
    """

    frames: NDArray[np.uint8]
    structure: NDArray[np.uint8]
    displacement: NDArray[np.int8]
    labels: NDArray[np.uint8]
    cavity: NDArray[np.uint8]
    ecg: NDArray[np.float32]
    heart: dict[str, Any]


def store_shards(folder: str | Path) -> list[Path]:
    """Folders of the shards of a store, or of several stores in one folder; empty without any."""
    found = (p for pattern in ("shard_*", "*/shard_*") for p in Path(folder).glob(pattern))
    return sorted(p for p in found if (p / "hearts.json").is_file() and "." not in p.name)


class ClipStore:
    """Clips of a folder written by `render_clips`, or of several such folders in one, by index.

    Raises `InputError` for a folder without clips.
    """

    def __init__(self, folder: str | Path) -> None:
        shards = store_shards(folder)
        if not shards:
            raise InputError(f"There are no rendered clips in {folder}; make them with: echogen render -o {folder}.")
        self._arrays = [{name: np.load(p / f"{name}.npy", mmap_mode="r") for name in ARRAYS} for p in shards]
        self._hearts = [json.loads((p / "hearts.json").read_text()) for p in shards]
        #: Index after the last clip of each shard.
        self._ends = list(accumulate(map(len, self._hearts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Clip:
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        shard = bisect_right(self._ends, index)
        clip = index - (self._ends[shard - 1] if shard else 0)
        arrays = self._arrays[shard]
        part = {name: values[clip] for name, values in arrays.items()}
        return Clip(**part, heart=self._hearts[shard][clip])


def main() -> None:
    """Older form of `echogen render`: python -m echogen.datasets.clip_store FOLDER [CLIPS] [--look LOOK] [--first-seed SEED]."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("clips", type=int, nargs="?", default=2400)
    parser.add_argument("--look", choices=LOOKS, default=PLAIN)
    parser.add_argument("--first-seed", type=int, default=FIRST_TRAINING_SEED)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    def show_progress(done: int, total: int) -> None:
        logging.info("%d of %d clips", done, total)

    render_clips(options.folder, options.clips, first_seed=options.first_seed, look=options.look, progress=show_progress)


if __name__ == "__main__":
    main()
