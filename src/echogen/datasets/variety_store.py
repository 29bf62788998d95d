"""Maps of varied hearts on disk, as the reader's training takes them: python -m echogen.datasets.variety_store DIR --hearts N.

DIR/shard_0000/maps.npy        (hearts, 3 maps, 3 frames, side, side) uint8: labels, levels, depths of `phantom.variety.Maps`
               moments.npy     (hearts, 3 frames) float32: contraction, 0 at end-diastole .. 1 at end-systole
DIR/pictures_0000/pictures.npy (clips, 2, 3 frames, 128, 128) uint8: frames of the phantom as rendered, with speckle and without
                  labels.npy   (clips, 128, 128) uint8: structures of the middle frame
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from echogen.datasets.clip_store import FIRST_TRAINING_SEED, FPS, draw_recording
from echogen.errors import InputError
from echogen.files import whole_folder
from echogen.phantom.looks import PLAIN, VARIED
from echogen.phantom.simulate import render
from echogen.phantom.variety import draw_variant, map_variant

#: Hearts in one shard of maps, and windows in one shard of pictures: few enough that a stopped run loses little.
SHARD_HEARTS = 250
#: Number of windows of three frames that are cut from one clip of the phantom.
CLIP_WINDOWS = 3


def draw_moments(rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw contraction and openness of the mitral valve, both (3,), in three neighbouring frames; ED and ES come often."""
    kind = rng.choice(["ed", "es", "any"], p=[0.27, 0.33, 0.40])
    middle = {"ed": rng.uniform(-0.03, 0.06), "es": rng.uniform(0.9, 1.03), "any": rng.uniform(0.0, 1.0)}[str(kind)]
    steps = np.minimum(rng.exponential(0.10, 2), 0.45)
    way = rng.choice([-1.0, 1.0])
    if kind == "any":
        contraction = np.array([middle - way * steps[0], middle, middle + way * steps[1]])
    else:
        turn = -1.0 if kind == "es" else 1.0
        contraction = np.array([middle + turn * steps[0], middle, middle + turn * steps[1]])
    contraction = np.clip(contraction, -0.05, 1.05)
    # Leaflets hang into the ventricle while it fills, and a little in many a still that is called end-diastolic or systolic.
    if kind == "any":
        openness = float(rng.uniform(0.2, 1.0)) if way < 0 and 0.12 < middle < 0.93 else 0.0
    else:
        openness = float(rng.uniform(0.0, 0.5)) if rng.random() < 0.45 else 0.0
    return contraction, np.full(3, openness)


def write_maps(folder: Path, shard: int) -> None:
    """Write one shard of maps, unless it exists."""
    final = folder / f"shard_{shard:04d}"
    if final.exists():
        return
    maps, moments = [], []
    for heart in range(SHARD_HEARTS):
        rng = np.random.default_rng([23, shard, heart])
        variant = draw_variant(rng)
        contraction, openness = draw_moments(rng)
        drawn = map_variant(variant, contraction, openness)
        maps.append(np.stack([drawn.labels, drawn.levels, drawn.depths]))
        moments.append(contraction)
    _write(final, maps=np.stack(maps), moments=np.array(moments, np.float32))


def write_pictures(folder: Path, shard: int) -> None:
    """Write one shard of the phantom's own frames, of all looks that training sees, unless it exists."""
    final = folder / f"pictures_{shard:04d}"
    if final.exists():
        return
    pictures, labels = [], []
    for clip in range(SHARD_HEARTS // CLIP_WINDOWS):
        seed = FIRST_TRAINING_SEED + 700_000 + shard * SHARD_HEARTS + clip
        heart, _ = draw_recording(seed, 3.0, PLAIN if clip % 2 else VARIED)
        heart = replace(heart, details=replace(heart.details, persistence=0.0))
        first = np.random.default_rng([24, seed]).integers(1, int(3.0 * FPS) - 2, CLIP_WINDOWS)
        times = (np.sort(first)[:, None] + np.arange(-1, 2)).reshape(-1) / FPS
        drawn = render(heart, times + np.arange(len(times)) * 1e-6, seed)
        for window in range(CLIP_WINDOWS):
            part = slice(3 * window, 3 * window + 3)
            pictures.append(np.stack([drawn.frames[part], drawn.structure[part]]))
            labels.append(drawn.labels[3 * window + 1])
    _write(final, pictures=np.stack(pictures), labels=np.stack(labels))


def _write(final: Path, **arrays: NDArray[np.generic]) -> None:
    with whole_folder(final) as unfinished:
        for name, values in arrays.items():
            np.save(unfinished / f"{name}.npy", values)


class VarietyStore:
    """Shards of varied hearts under a folder, memory-mapped.

    folder: Folder that `python -m echogen.datasets.variety_store` wrote.
    maps: One array a shard, of maps.npy.
    moments: One array a shard, of moments.npy.
    pictures: One array a shard of the phantom's own frames, of pictures.npy.
    labels: One array a shard of the same, of labels.npy.
    Raises `InputError` for a folder without shards of both kinds.
    """

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)

        def held(pattern: str, name: str) -> list[NDArray[np.generic]]:
            return [np.load(path / f"{name}.npy", mmap_mode="r") for path in sorted(folder.glob(pattern)) if path.suffix == ""]

        self.maps, self.moments = held("shard_*", "maps"), held("shard_*", "moments")
        self.pictures, self.labels = held("pictures_*", "pictures"), held("pictures_*", "labels")
        if not (self.maps and self.pictures):
            raise InputError(f"{folder} holds no maps of varied hearts; make them with python -m echogen.datasets.variety_store.")


def main() -> None:
    """Write a store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hearts", type=int, default=10_000)
    parser.add_argument("--windows", type=int, default=1_500, help="windows of the phantom's own frames")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shards, pictures = -(-options.hearts // SHARD_HEARTS), -(-options.windows // SHARD_HEARTS)
    for shard in range(max(shards, pictures)):
        if shard < shards:
            write_maps(options.folder, shard)
        if shard < pictures:
            write_pictures(options.folder, shard)


if __name__ == "__main__":
    main()
