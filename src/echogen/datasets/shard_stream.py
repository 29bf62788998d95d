"""A stream of samples out of shards: shuffled, split over hosts and workers, and continued exactly at its last position.

The order is one endless sequence of places, a pure function of (shards, seed): epoch after epoch, each a permutation. Host r of
n takes the places r, r + n, r + 2 n ... of it, so no sample is lost or read twice, and one number is the position of a stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from echogen.datasets.shards import Sample, ShardFolder
from echogen.errors import InputError

#: Number of shards whose samples are mixed with each other: enough to mix well, few enough to keep open.
MIXED_SHARDS = 8


def epoch_parts(
    lengths: Sequence[int], seed: int | None, epoch: int, mixed_shards: int, first: int
) -> Iterator[NDArray[np.int64]]:
    """Generate the order of an epoch part by part, as indices of `ShardFolder`, from place `first` to the last.

    lengths: Number of samples in each shard.
    seed: Seed of the order; None keeps the order of the shards.
    epoch: Number of the epoch, from 0.
    mixed_shards: Number of shards whose samples are shuffled among each other; the shards are shuffled before.
    first: Place in the epoch to begin at, from 0.

    Only one number a shard and one part at a time are in memory.
    """
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    shards = np.arange(len(lengths))
    if seed is not None:
        shards = np.random.default_rng([seed, epoch]).permutation(shards)
    for number, begin in enumerate(range(0, len(shards), mixed_shards)):
        chosen = shards[begin : begin + mixed_shards]
        held = int((starts[chosen + 1] - starts[chosen]).sum())
        if first >= held:
            first -= held
            continue
        places = np.concatenate([np.arange(starts[shard], starts[shard + 1]) for shard in chosen])
        if seed is not None:
            places = np.random.default_rng([seed, epoch, number + 1]).permutation(places)
        yield places[first:]
        first = 0


class _Places:
    """Indices of the samples of one host, from a place of the endless order on."""

    def __init__(self, stream: ShardStream, position: int) -> None:
        self.stream, self.position = stream, position

    def __iter__(self) -> Iterator[int]:
        stream, total = self.stream, len(self.stream.samples)
        wanted = self.position + stream.rank
        for epoch in count(wanted // total):
            if stream.epochs is not None and epoch >= stream.epochs:
                return
            at = max(epoch * total, wanted)
            parts = epoch_parts(stream.samples.lengths, stream.seed, epoch, stream.mixed_shards, at - epoch * total)
            for part in _announced(stream.samples, parts):
                own = part[wanted - at :: stream.world]
                yield from own.tolist()
                wanted, at = wanted + len(own) * stream.world, at + len(part)


def _announced(samples: ShardFolder, parts: Iterator[NDArray[np.int64]]) -> Iterator[NDArray[np.int64]]:
    """Give the parts on, each once the shards of the part after it are on their way from behind a URL."""
    held: list[NDArray[np.int64]] = []
    for part in parts:
        samples.ahead(part)
        yield from held
        held = [part]
    yield from held


class _Transformed(Dataset[Any]):
    """Samples after the transform, which a worker applies."""

    def __init__(self, samples: ShardFolder, transform: Callable[[Sample], Any] | None) -> None:
        self.samples, self.transform = samples, transform

    def __getitem__(self, index: int) -> Any:
        sample = self.samples[index]
        return sample if self.transform is None else self.transform(sample)


class ShardStream:
    """Samples of a folder of shards, one after the other, in constant memory.

    folder: Folder of finished shards, or the URL of one; see `ShardFolder`.
    seed: Seed of the order; None takes the samples in the order of the shards.
    epochs: Number of passes over all samples; None never ends.
    rank: Number of this host (or process of a training), from 0.
    world: Number of hosts (or processes); each gets its own part of every epoch.
    workers: Number of processes that read and transform ahead, without a change of the order; 0 reads in this one.
    transform: Function of a sample whose result is yielded in its place; one of a module where there are workers.
    mixed_shards: Number of shards whose samples are mixed; see `epoch_parts`.

    Iterating goes on at the stream's position, not at the beginning. `state_dict` holds that position, and a stream that loads it
    yields exactly the rest, also with another number of workers, or of hosts if all had come equally far.
    Raises `InputError` for a folder without finished shards, or an impossible rank.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        seed: int | None = 0,
        epochs: int | None = 1,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        transform: Callable[[Sample], Any] | None = None,
        mixed_shards: int = MIXED_SHARDS,
    ) -> None:
        if not 0 <= rank < world:
            raise InputError(f"Of {world} hosts there is no number {rank}; they count from 0.")
        if mixed_shards < 1:
            raise InputError(f"At least one shard must be read at a time, not {mixed_shards}.")
        self.samples = ShardFolder(folder)
        self.seed, self.epochs, self.rank, self.world, self.workers = seed, epochs, rank, world, workers
        self.transform, self.mixed_shards = transform, mixed_shards
        self._position = 0

    def __iter__(self) -> Iterator[Any]:
        made = _Transformed(self.samples, self.transform)
        places = _Places(self, self._position)
        # A separate generator: the loader would draw from torch's global one, which a training seeds for itself.
        own: dict[str, Any] = {"sampler": places, "collate_fn": _as_it_is, "generator": torch.Generator()}
        for sample in DataLoader(made, batch_size=None, num_workers=self.workers, **own):
            self._position += self.world
            yield sample

    def state_dict(self) -> dict[str, Any]:
        """Position of the stream after the last sample, as plain values that are the same on every equally advanced host."""
        return {"position": self._position, **self._order()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to the position of another stream. Raises `InputError` where that stream had other shards or another order."""
        for name, value in self._order().items():
            if state[name] != value:
                raise InputError(
                    f"The stream was left with other {name} ({state[name]}, now {value}); continue it with the same."
                )
        self._position = int(state["position"])

    def _order(self) -> dict[str, Any]:
        lengths = hashlib.sha256(repr(self.samples.lengths).encode()).hexdigest()
        return {"seed": self.seed, "mixed_shards": self.mixed_shards, "shards": lengths}


def _as_it_is(sample: Any) -> Any:
    return sample
