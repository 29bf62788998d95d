"""Stores of a few clips, for tasks that learn from them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from echogen.testing import clip_stores


@pytest.fixture(scope="module")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], Path]:
    """small_store(clips, frames): the folder of a store of one shard with so many clips of so many frames."""
    return lambda clips, frames: clip_stores.small_store(tmp_path_factory.mktemp("clips"), clips, frames)
