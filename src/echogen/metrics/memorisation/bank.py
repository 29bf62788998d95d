"""Identity vectors of a generator's training clips, by which copies of them are kept from being let out.

python -m echogen.metrics.memorisation.bank TRAINING HELD_OUT -o GENERATOR/bank.npz

TRAINING, HELD_OUT: folders of videos, or stores of rendered clips; the first holds what the generator was trained on, the second
clips of the same kind that it never saw (200 or more), by which the threshold is set. For a generator that learned from the
phantom, --simulated-held-out N draws such hearts.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from echogen.datasets.clip_store import FPS, ClipStore, draw_recording, store_shards
from echogen.errors import InputError
from echogen.files import whole_file
from echogen.generators.base import Generator
from echogen.metrics.evaluation.clips import Clip, find_clips
from echogen.metrics.memorisation.identity import HeartIdentity, Vector
from echogen.metrics.memorisation.similarity import copy_threshold, nearest
from echogen.phantom.simulate import render
from echogen.records import Cine

logger = logging.getLogger(__name__)

BANK_FILE = "bank.npz"
#: Seeds of the simulated hearts that set thresholds; no training and no benchmark uses them.
FIRST_HELD_OUT_SEED = 80_000
Progress = Callable[[int], None]


@dataclass(frozen=True)
class IdentityBank:
    """The clips that a generator learned from.

    vectors: (clips, dims) float32 unit vectors. threshold: a similarity above it is a copy. digest: of the network that made
    them. held_out: how many clips set the threshold.
    """

    vectors: NDArray[np.float32]
    threshold: float
    digest: str
    held_out: int

    def similarity(self, vector: Vector) -> float:
        """The largest similarity (cosine) of a vector (dims,) to those of the bank."""
        return float(nearest(vector[None], self.vectors)[0][0])

    def save(self, path: str | Path) -> None:
        """Write it, vectors in 8-bit steps, whole or not at all."""
        vectors = in_steps(self.vectors)
        with whole_file(path) as unfinished:
            np.savez(unfinished, vectors=vectors, threshold=self.threshold, digest=self.digest, held_out=self.held_out)

    @classmethod
    def load(cls, path: str | Path) -> IdentityBank:
        """The bank of a file. Raises `InputError` where it cannot be read."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                vectors = from_steps(stored["vectors"])
                return cls(vectors, float(stored["threshold"]), str(stored["digest"]), int(stored["held_out"]))
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise InputError(
                f"The bank {path} cannot be read; make it again: python -m echogen.metrics.memorisation.bank."
            ) from error


def in_steps(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Unit vectors (n, dims) as whole numbers, the largest of each row 127; their length is known, so no step is kept."""
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    whole: NDArray[np.int8] = np.round(vectors / np.maximum(largest, 1e-12) * 127.0).astype(np.int8)
    return whole


def from_steps(whole: NDArray[np.int8]) -> NDArray[np.float32]:
    """The unit vectors that `in_steps` stored."""
    vectors = whole.astype(np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


class CopyFilter:
    """Likeness of a clip to a generator's training clips: a filter for `Private`.

    threshold: a similarity above it is a copy.
    """

    def __init__(self, bank: IdentityBank, identity: HeartIdentity | None = None) -> None:
        """identity: the network; None is the shipped one. Raises `InputError` where another one made the bank."""
        self.bank, self.threshold = bank, bank.threshold
        self._identity = identity or HeartIdentity()
        if self._identity.digest != bank.digest:
            raise InputError(
                "The bank was made with another network of re-identification; make it again:"
                " python -m echogen.metrics.memorisation.bank."
            )

    def similarity(self, cine: Cine) -> float:
        """The largest similarity (cosine, -1..1) of a cine to the clips of the bank."""
        return self.bank.similarity(self._identity(cine))


def copy_filter(generator: Generator) -> CopyFilter:
    """The filter of a generator, from the bank in its folder.

    Raises `InputError` where there is none, and for an adapter, which learned from clips that the bank does not hold.
    """
    if generator.adapter is not None:
        raise InputError(
            f"The bank of {generator.name} does not hold what the adapter {generator.adapter.name} learned from; "
            "leave the adapter out."
        )
    path = None if generator.folder is None else generator.folder / BANK_FILE
    if path is None or not path.is_file():
        raise InputError(
            f"The generator {generator.name} has no bank of what it learned from; make it with: "
            f"python -m echogen.metrics.memorisation.bank TRAINING HELD_OUT -o {path or BANK_FILE}."
        )
    return CopyFilter(IdentityBank.load(path))


def clips_in(folder: str | Path, fps: float) -> Iterator[Cine]:
    """The clips of a folder of videos, or of a store of rendered clips (from which only `fps` frames a second are read)."""
    if store_shards(folder):
        store = ClipStore(folder)
        for index in range(len(store)):
            frames = np.asarray(store[index].frames[:: max(1, round(FPS / fps))])
            yield Cine(frames, np.arange(len(frames)) * max(1, round(FPS / fps)) / FPS)
        return
    for file in find_clips(folder).values():
        clip = Clip(file)
        yield replace(clip.cine, frames=clip.canonical)


def held_out_hearts(count: int, fps: float, seconds: float = 3.0) -> Iterator[Cine]:
    """Clips of simulated hearts that no generator learned from."""
    times = np.arange(round(seconds * fps)) / fps
    for seed in range(FIRST_HELD_OUT_SEED, FIRST_HELD_OUT_SEED + count):
        yield Cine(render(draw_recording(seed, seconds)[0], times, seed).frames, times)


def make_bank(
    training: Iterable[Cine], held_out: Iterable[Cine], identity: HeartIdentity | None = None, progress: Progress | None = None
) -> IdentityBank:
    """The bank of these training clips, with the threshold that the held-out clips set.

    progress: called with the number of clips done. Raises `InputError` where either holds no clip.
    """
    identity = identity or HeartIdentity()
    done = 0

    def embedded(clips: Iterable[Cine]) -> NDArray[np.float32]:
        nonlocal done
        vectors = []
        for clip in clips:
            vectors.append(identity(clip))
            done += 1
            if progress:
                progress(done)
        return np.stack(vectors) if vectors else np.zeros((0, identity.dims), np.float32)

    # as they will be stored
    known = from_steps(in_steps(embedded(training)))
    others = nearest(embedded(held_out), known)[0]
    return IdentityBank(known, copy_threshold(others), identity.digest, len(others))


def _say(done: int) -> None:
    if done % 100 == 0:
        logger.info("%d clips", done)


def main() -> None:
    """The command."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("training", type=Path, help="what the generator learned from")
    parser.add_argument("held_out", type=Path, nargs="?", help="clips of the same kind that it never saw")
    parser.add_argument("--simulated-held-out", type=int, metavar="N", help="that many hearts of the phantom instead")
    parser.add_argument("-o", "--output", type=Path, required=True, help=f"{BANK_FILE} in the generator's folder")
    asked = parser.parse_args()
    if (asked.held_out is None) == (asked.simulated_held_out is None):
        parser.exit(2, "Give a folder of held-out clips or --simulated-held-out N, one of both.\n")
    try:
        identity = HeartIdentity()
        fps = identity.config.fps
        held_out = clips_in(asked.held_out, fps) if asked.held_out else held_out_hearts(asked.simulated_held_out, fps)
        make_bank(clips_in(asked.training, fps), held_out, identity, _say).save(asked.output)
    except InputError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
