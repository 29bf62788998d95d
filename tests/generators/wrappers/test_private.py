"""A private generator lets no copy out."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from echogen.datasets.clip_store import FIRST_TRAINING_SEED, draw_recording
from echogen.errors import InputError
from echogen.generators import EchoPulse, Generator
from echogen.generators.wrappers.private import Private
from echogen.metrics.memorisation.bank import CopyFilter, copy_filter
from echogen.networks.adapters import Adapter
from echogen.phantom.simulate import render
from echogen.records import Cine, Ecg


class Strict:
    """Finds some clips too similar, by the order in which it sees them."""

    threshold = 0.9

    def __init__(self, *similarities: float) -> None:
        self.left = list(similarities)

    def similarity(self, cine: Cine) -> float:
        return self.left.pop(0)


def heart(seed: int) -> Cine:
    times = np.arange(8) / 4
    return Cine(render(draw_recording(seed, 97 / 32)[0], times, seed).frames, times)


def test_what_is_dropped_is_drawn_with_the_next_seed(greys: Generator) -> None:
    cine, privacy = Private(greys, Strict(0.95, 0.91, 0.4)).draw(None, seed=7, seconds=1.0)
    assert privacy.to_json() == {"similarity": 0.4, "threshold": 0.9, "tries": 3, "seed": 9}
    assert (cine.frames == 9).all()
    assert Private(greys, Strict(0.9)).draw(None, seed=7, seconds=1.0)[1].seed == 7


def test_it_is_called_like_a_generator(tiny: EchoPulse, ecg: Ecg) -> None:
    private = Private(tiny, Strict(0.0, 0.0))
    assert (private.native_fps, private.takes, private.ecg_past_s) == (tiny.native_fps, tiny.takes, tiny.ecg_past_s)
    (part,) = private.stream(ecg, seconds=0.25, seed=1)
    np.testing.assert_array_equal(part.frames, tiny(ecg, seconds=0.25, seed=1).frames)
    with pytest.raises(AttributeError):
        _ = private.nothing_of_this_name


def test_wrong_uses_are_one_sentence(greys: Generator, ecg: Ecg) -> None:
    with pytest.raises(InputError, match=r"All 3 clips .* at least 0\.950, allowed is 0\.900"):
        Private(greys, Strict(0.95, 0.96, 0.99), tries=3)(None, seconds=1.0)
    with pytest.raises(InputError, match="at least one try"):
        Private(greys, Strict(), tries=0)

    def pieces() -> Iterator[Ecg]:
        yield ecg

    with pytest.raises(InputError, match="join the pieces"):
        next(Private(greys, Strict()).stream(pieces()))


def test_it_survives_pickling(tiny: EchoPulse) -> None:
    again = pickle.loads(pickle.dumps(Private(tiny, Strict(0.5))))
    assert again.name == tiny.name


@pytest.fixture(scope="module")
def shipped() -> CopyFilter:
    return copy_filter(Generator.from_pretrained("phantom-128"))


def test_a_planted_copy_is_dropped_and_a_new_heart_let_out(shipped: CopyFilter, shelf_of: Callable[..., Generator]) -> None:
    copy, new = heart(FIRST_TRAINING_SEED + 3), heart(95_000)
    cine, privacy = Private(shelf_of([copy, new], 4.0, (8,)), shipped).draw(None, seconds=2.0)
    np.testing.assert_array_equal(cine.frames, new.frames)
    assert privacy.tries == 2
    assert privacy.similarity <= privacy.threshold < shipped.similarity(copy)
    with pytest.raises(InputError, match="resemble one that it learned from"):
        Private(shelf_of([copy], 4.0, (8,)), shipped, tries=2)(None, seconds=2.0)


def test_without_a_bank_or_with_an_adapter_there_is_no_filter(tiny: EchoPulse, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path / "mine")
    mine = Generator.from_pretrained(tmp_path / "mine")
    with pytest.raises(InputError, match=r"no bank of what it learned from; make it with: python -m .*mine/bank\.npz"):
        copy_filter(mine)
    mine.adapter = Adapter("local", "0", {}, {})
    with pytest.raises(InputError, match="adapter local learned from; leave the adapter out"):
        copy_filter(mine)
