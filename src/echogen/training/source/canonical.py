"""Clips in the canonical picture of their sector, brought there once and kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from echogen.arrays import ByteArray
from echogen.cine.sector import CANONICAL_SIZE, CanonicalView, canonical_view
from echogen.datasets.canonical_samples import canonical_masks
from echogen.datasets.shards import Sample
from echogen.training.source.recent import Recent

#: Number of clips in the canonical picture that are kept in memory.
KEPT_CLIPS = 64


class CanonicalPictures:
    """Samples with their cine and their masks in the canonical picture.

    size: Side of the picture in pixels; a cine of this size is taken as canonical already.
    folder: Folder in which they are kept, as NPY files named by the SHA-256 of what was recorded, so that any later training
        finds them; None keeps the last `KEPT_CLIPS` in memory only.
    whole: Take all that the file shows, resized, instead of looking for the sector.

    The pixel size is not kept.
    """

    def __init__(self, folder: str | Path | None = None, size: int = CANONICAL_SIZE, *, whole: bool = False) -> None:
        self.size, self.whole = size, whole
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
        self._last: Recent[Sample] = Recent(KEPT_CLIPS)

    def of(self, sample: Sample) -> Sample:
        """The sample in the canonical picture. Raises `InputError` for a cine that shows no sector."""
        cine, masks = sample.cine, sample.masks
        if cine is None or cine.frames.shape[1:] == (self.size, self.size):
            return sample
        digest = f"{_digest(cine.frames)}-{self.size}{'-whole' if self.whole else ''}"
        marks = "" if masks is None else _digest(masks)

        def make() -> Sample:
            found: list[CanonicalView] = []  # at most once, and only where something is not in the folder yet

            def view() -> CanonicalView:
                if not found:
                    found.append(whole_view(cine.frames, self.size) if self.whole else canonical_view(cine.frames, self.size))
                return found[0]

            frames = self._kept(digest, lambda: view().frames(cine.frames))
            shown = None if masks is None else self._kept(f"{digest}-{marks}", lambda: canonical_masks(view(), masks))
            alike = {name: values for name, values in sample.maps.items() if values.shape == cine.frames.shape}
            maps = {**sample.maps, **{name: view().frames(np.asarray(values)) for name, values in alike.items()}}
            return replace(sample, cine=replace(cine, frames=frames, mm_per_pixel=None), masks=shown, maps=maps)

        return self._last.get((sample.key, digest, marks), make)

    def _kept(self, name: str, make: Callable[[], ByteArray]) -> ByteArray:
        """An array from the folder, made and stored where it is not there yet."""
        if self.folder is None:
            return make()
        path = self.folder / f"{name}.npy"
        if not path.is_file():
            made = make()
            partial = path.with_suffix(f".{os.getpid()}.partial")
            with partial.open("wb") as file:
                np.save(file, made)
            os.replace(partial, path)
        stored: ByteArray = np.load(path, mmap_mode="r")
        return stored


def whole_view(frames: ByteArray, size: int) -> CanonicalView:
    """View of all of a picture (..., height, width) in a square of `size` pixels, black beside its longer side."""
    height, width = frames.shape[-2:]
    side = max(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return CanonicalView((left, top, left + side, top + side), np.ones((size, size), bool))


def _digest(values: ByteArray) -> str:
    return hashlib.sha256(repr(values.shape).encode() + np.ascontiguousarray(values).data).hexdigest()[:32]
