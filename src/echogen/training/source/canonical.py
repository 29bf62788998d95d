"""Clips in the canonical picture of their sector, brought there once and kept."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np

from echogen.cine.sector import CANONICAL_SIZE, to_sector
from echogen.datasets.shards import Sample
from echogen.errors import InputError

#: Number of clips in the canonical picture that are kept in memory.
KEPT_CLIPS = 64


class CanonicalPictures:
    """Samples with their cine in the canonical 128 x 128 picture.

    The frames of a clip are kept in memory (the last `KEPT_CLIPS`) and, where a folder is given, as NPY files named by the
    SHA-256 of the recorded frames, so that any later training finds them. The pixel size is not kept.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        self._last: OrderedDict[str, Sample] = OrderedDict()

    def of(self, sample: Sample) -> Sample:
        """The sample in the canonical picture. Raises `InputError` for a cine that shows no sector."""
        cine = sample.cine
        if cine is None or cine.frames.shape[1:] == (CANONICAL_SIZE, CANONICAL_SIZE):
            return sample
        if sample.masks is not None:
            raise InputError(
                f"The masks of {sample.key} are those of a picture of another size; prepare the source with `echogen prepare`."
            )
        digest = hashlib.sha256(repr(cine.frames.shape).encode() + np.ascontiguousarray(cine.frames).data).hexdigest()[:32]
        if digest not in self._last:
            self._last[digest] = replace(sample, cine=replace(cine, frames=self._frames(cine.frames, digest), mm_per_pixel=None))
            if len(self._last) > KEPT_CLIPS:
                self._last.popitem(last=False)
        self._last.move_to_end(digest)
        return self._last[digest]

    def _frames(self, frames: np.ndarray, digest: str) -> np.ndarray:
        """The canonical frames, from the folder where they are there."""
        if self.folder is None:
            return to_sector(frames, CANONICAL_SIZE)[0]
        path = self.folder / f"{digest}.npy"
        if not path.is_file():
            partial = path.with_suffix(f".{os.getpid()}.partial")
            with partial.open("wb") as file:
                np.save(file, to_sector(frames, CANONICAL_SIZE)[0])
            os.replace(partial, path)
        stored: np.ndarray = np.load(path, mmap_mode="r")
        return stored
