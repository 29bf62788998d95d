"""A training source: windows of one or several sources, each a pure function of (seed, step, process, row)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from echogen.cine.sector import CANONICAL_SIZE
from echogen.datasets.patients import BUCKETS, hash_of, patient_of
from echogen.datasets.shards import Sample
from echogen.errors import InputError
from echogen.training.source.canonical import CanonicalPictures
from echogen.training.source.parts import Needs, lacking_sentence, parts_of
from echogen.training.source.permutation import shuffled_place
from echogen.training.source.samples import Samples, open_samples
from echogen.training.source.settings import SourceEntry, SourceSettings
from echogen.training.source.window import Window, WindowShape, cut_window

#: Number of other samples that are tried in place of one that is of no use, before the source is refused.
TRIES = 200

logger = logging.getLogger("echogen.training")


class TrainingSource:
    """Windows of a mixture of sources.

    The window of a position is the same whatever process asks for it, and positions are never shared by processes of one
    step, so that a training on many processes sees what one process with the same global batch sees, and a resumed training
    goes on exactly. Each source is gone through in shuffled order, epoch after epoch.
    """

    def __init__(
        self,
        settings: SourceSettings,
        needs: Needs,
        shape: WindowShape,
        seed: int,
        *,
        size: int = CANONICAL_SIZE,
        check: Callable[[Window], Any] | None = None,
    ) -> None:
        """Open all sources.

        settings: The sources and how they are read.
        needs: The parts that a window must have, and those that it may have.
        shape: The size of the windows.
        seed: The recipe's seed.
        size: Side in pixels of the picture into which every cine is brought.
        check: Raises `InputError` for a window that is of no use to the task, which is then left out.
        Raises `InputError` for a source that is not there, or whose samples lack a needed part.
        """
        self.settings, self.needs, self.shape, self.seed = settings, needs, shape, seed
        self.entries = settings.entries
        self.samples: tuple[Samples, ...] = tuple(
            open_samples(entry, pictures=shape.frames > 0, window_s=shape.seconds) for entry in self.entries
        )
        weights = np.array([entry.weight for entry in self.entries])
        self.shares = weights / weights.sum()
        self._canonical = CanonicalPictures(settings.cache, size, whole=settings.picture == "whole")
        self._check = check
        self._named: set[str] = set()
        for number in range(len(self.entries)):
            self._find(number, 0, np.random.default_rng([seed, number]))

    def at(self, position: int) -> Window:
        """The window of a place in the endless order of all windows.

        Raises `InputError` where the source has no sample of use near it.
        """
        return self.several(position, 1)[0]

    def several(self, position: int, count: int) -> tuple[Window, ...]:
        """Windows of one sample, that of a place in the endless order of all windows; raises as `at`."""
        rng = np.random.default_rng([self.seed, position])
        number = int(rng.choice(len(self.entries), p=self.shares))
        return self._find(number, position, rng, count)

    def _find(self, number: int, position: int, rng: np.random.Generator, count: int = 1) -> tuple[Window, ...]:
        """Windows of the first sample of use, from the one at this position on."""
        entry, samples = self.entries[number], self.samples[number]
        lacking: frozenset[str] | None = None
        reason = ""
        for attempt in range(TRIES):
            epoch, place = divmod(position, len(samples))
            if attempt:
                place = int(rng.integers(len(samples)))
            index = shuffled_place(place, len(samples), hash_of(f"{self.seed} {number} {epoch}"))
            sample = self._read(entry, samples, index)
            if sample is None or not self._wanted(sample, entry):
                continue
            missing = self.needs.needed - parts_of(sample)
            if missing:
                lacking = missing if lacking is None else lacking & missing
                continue
            try:
                shown = self._canonical.of(sample)
                windows = tuple(cut_window(shown, self.shape, rng) for _ in range(count))
                for window in windows:
                    if self._check is not None:
                        self._check(window)
                return windows
            except InputError as error:
                lacking, reason = frozenset(), str(error)
                self._name(sample.key, reason)
        if lacking:
            raise InputError(lacking_sentence(entry.source, lacking))
        raise InputError(reason or f"The source {entry.source} has no sample of the patients and split that are asked for.")

    def _read(self, entry: SourceEntry, samples: Samples, index: int) -> Sample | None:
        """A sample, or None for a damaged one that is to be skipped."""
        try:
            return samples[index]
        except InputError as error:
            if self.settings.damaged == "refuse":
                raise InputError(f"{error} To leave such samples out, set data.damaged to skip.") from error
            self._name(f"{entry.source} {index}", str(error))
            return None

    def _wanted(self, sample: Sample, entry: SourceEntry) -> bool:
        """True for a sample of the split and of the patients that are asked for."""
        if entry.split is not None and str(sample.labels.get("split", "")).lower() != entry.split.lower():
            return False
        if not self.settings.held_out:
            return True
        bucket = hash_of(patient_of(sample)) % BUCKETS
        return (bucket < self.settings.held_out * BUCKETS) == self.settings.of_held_out

    def _name(self, key: str, reason: str) -> None:
        """Name a sample that is left out, once, in the log."""
        if key not in self._named:
            self._named.add(key)
            logger.warning("Left out %s: %s", key, reason)
