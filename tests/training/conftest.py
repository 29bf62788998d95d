"""Stores of a few clips, for tasks that learn from them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from echogen.datasets import clip_store


@pytest.fixture(scope="module")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int, int], Path]]:
    """small_store(clips, frames): the folder of a store of one shard with so many clips of so many frames."""

    def store(clips: int, frames: int) -> Path:
        patch.setattr(clip_store, "SHARD_CLIPS", clips)
        folder = tmp_path_factory.mktemp("clips")
        clip_store._write_shard((str(folder), 0, clip_store.FIRST_TRAINING_SEED, frames))
        return folder

    with pytest.MonkeyPatch.context() as patch:
        yield store
