"""Frame filters: each one alone can be taken out, and changes what it is there for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from echogen import Ecg
from echogen.generators import EchoPulse
from echogen.generators.echopulse.frame_filters import AddSpeckle, FindCavity, FrameFilter, MoveWall, SharpenWall, default_filters
from echogen.networks.video_tokenizer import VideoTokenizer
from echogen.records import ByteArray

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def seeing(tiny: EchoPulse) -> EchoPulse:
    """The tiny generator with a decoder that says which cells are cavity."""
    tokenizer = VideoTokenizer(replace(tiny.tokenizer.config, cavity_cells=64))
    tokenizer.load_state_dict({**tokenizer.state_dict(), **tiny.tokenizer.state_dict()})
    assert tokenizer.cavity is not None
    torch.manual_seed(2)
    torch.nn.init.normal_(tokenizer.cavity.weight, std=0.3)
    return EchoPulse(tiny.config, tokenizer, tiny.transformer, CPU)


def frames(generator: EchoPulse, ecg: Ecg, filters: list[FrameFilter]) -> ByteArray:
    networks = generator.tokenizer, generator.transformer, generator.device
    made = EchoPulse(generator.config, *networks, filters=filters)(ecg, seconds=2.0, ef_percent=50.0, seed=1)
    assert len(made.frames) == 64
    return made.frames


@pytest.mark.parametrize("kind", [FindCavity, MoveWall, SharpenWall, AddSpeckle])
def test_each_filter_can_be_taken_out_and_changes_the_frames(seeing: EchoPulse, ecg: Ecg, kind: type[FrameFilter]) -> None:
    every = list(default_filters(CPU))
    without = [each for each in every if not isinstance(each, kind)]
    assert len(without) == len(every) - 1
    assert not np.array_equal(frames(seeing, ecg, every), frames(seeing, ecg, without))


def test_without_filters_the_decoder_s_picture_is_left(seeing: EchoPulse, ecg: Ecg) -> None:
    plain = frames(seeing, ecg, [])
    np.testing.assert_array_equal(plain, frames(seeing, ecg, [MoveWall(), SharpenWall()]))  # they need a cavity that was found
    assert not np.array_equal(plain, frames(seeing, ecg, [FindCavity(), MoveWall()]))
    assert not np.array_equal(plain, frames(seeing, ecg, [FindCavity(), SharpenWall()]))


def test_a_filter_of_one_s_own_is_applied(tiny: EchoPulse, ecg: Ecg) -> None:
    class Darken(FrameFilter):
        def __call__(self, drawing, new, state, config):  # type: ignore[no-untyped-def]
            return replace(drawing, picture=drawing.picture * 0.0), state

    assert not frames(tiny, ecg, [AddSpeckle(CPU), Darken()]).any()
