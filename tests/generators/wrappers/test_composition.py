"""Wrappers are generators: they go around each other in any order."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
import torch

from echogen.errors import InputError
from echogen.generators import EchoPulse, Generator
from echogen.generators.sampling import Sampling, Span
from echogen.generators.video_generator import VideoGenerator
from echogen.generators.wrappers.best_of import BestOf
from echogen.generators.wrappers.private import Private
from echogen.generators.wrappers.refined import Refined, Refiner, RefinerConfig
from echogen.networks.video_unet import VideoUnet, VideoUnetConfig
from echogen.records import Cine, Conditions, Ecg
from echogen.samplers.edm import Edm

NETWORK = VideoUnetConfig(
    channels=4, dim=8, widths=(1, 1), blocks=(0, 1), cross_attention=(False, False), middle_attention=False, lowres=True, heads=1,
    head_dim=4, middle_heads=1, middle_head_dim=4, context=4, ef_latents=1, ef_averages=1, ef_depth=1, stem=(3,), over_time=False,
)  # fmt: skip


class NotDark:
    """A filter that lets out what is brighter than 21."""

    threshold = 0.5

    def similarity(self, cine: Cine) -> float:
        return float(cine.frames.mean() < 21.5)


def best(generator: VideoGenerator) -> VideoGenerator:
    return BestOf(generator, lambda clip: float(clip.frames.mean()), n=2)


def private(generator: VideoGenerator) -> VideoGenerator:
    return Private(generator, NotDark())


def refined(generator: VideoGenerator) -> VideoGenerator:
    torch.manual_seed(0)
    return Refined(generator, Refiner(RefinerConfig("2x-time", Edm(sigma_data=0.06, sigma_max=0.8)), VideoUnet(NETWORK)))


@pytest.mark.parametrize(
    "order", list(permutations([best, private, refined])), ids=lambda order: "-".join(f.__name__ for f in order)
)
def test_every_order_makes_the_same_video(order: tuple[Callable[..., VideoGenerator], ...], greys: Generator) -> None:
    wrapped: VideoGenerator = greys
    for wrap in order:
        wrapped = wrap(wrapped)
    assert wrapped.core is greys
    assert (wrapped.native_fps, wrapped.ecg_past_s, wrapped.takes) == (8.0, greys.ecg_past_s, greys.takes)
    made = wrapped.make(None, Conditions(ef_percent=40.0), Sampling(seed=21), Span(seconds=1.0))
    assert set(made.notes) == {"privacy", "selection", "refined"}
    assert (len(made.unrefined.frames), len(made.cine.frames)) == (4, 7)
    assert 22 <= made.unrefined.frames.mean() <= 23
    called = wrapped(None, ef_percent=40.0, seed=21, seconds=1.0)
    streamed = Cine.join(list(wrapped.stream(None, ef_percent=40.0, seed=21, seconds=1.0)))
    np.testing.assert_array_equal(called.frames, made.cine.frames)
    np.testing.assert_array_equal(streamed.frames, made.cine.frames)
    with pytest.raises(InputError, match="does not take the condition view"):
        wrapped(None, ef_percent=40.0, view="A4C", seconds=1.0)
    with pytest.raises(InputError, match="where one is asked for"):
        wrapped(None, seconds=1.0)


def test_records_and_keywords_ask_for_the_same(tiny: EchoPulse, ecg: Ecg) -> None:
    by_keywords = tiny(ecg, ef_percent=40, seed=2, seconds=0.5, start_s=1.0)
    by_records = tiny(None, Conditions(ecg=ecg, ef_percent=40), Sampling(seed=2), Span(1.0, 0.5))
    np.testing.assert_array_equal(by_records.frames, by_keywords.frames)
    both = tiny(ecg, Conditions(ef_percent=70), Sampling(seed=2), Span(1.0), ef_percent=40, seconds=0.5)
    np.testing.assert_array_equal(both.frames, by_keywords.frames)
    for wrong, hint in (("ef", "did you mean ef_percent"), ("zzz", "the keywords are reference, ef_percent")):
        with pytest.raises(TypeError, match=hint):
            tiny(ecg, **{wrong: 40})
        with pytest.raises(TypeError, match=hint):
            tiny.stream(ecg, **{wrong: 40})
