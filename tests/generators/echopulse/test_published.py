"""The generator of the released ECHOPulse networks, on tiny networks with random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from echogen import Cine, Ecg, InputError
from echogen.ecg import find_landmarks
from echogen.ecg.st_mem_input import published_input
from echogen.generators import EchoPulsePublished, EchoPulsePublishedConfig, Generator, Sampling
from echogen.generators.base import Context
from echogen.generators.echopulse.published import beat_around
from echogen.networks.published_tokenizer import PublishedTokenizer, PublishedTokenizerConfig
from echogen.networks.published_transformer import PublishedTransformer, PublishedTransformerConfig
from echogen.networks.st_mem import StMem, StMemConfig
from echogen.records import Conditions

SIZE = (16, 24)


def networks(**sizes: int) -> tuple[PublishedTokenizer, PublishedTransformer, StMem]:
    """Tokenizer, transformer and ECG encoder; what is asked for replaces a size of the transformer."""
    torch.manual_seed(0)
    tokenizer = PublishedTokenizer(
        PublishedTokenizerConfig(
            image_size=SIZE, patch=(8, 8), dim=16, heads=2, head_dim=8, feed_forward=24, spatial_depth=1, temporal_depth=1,
            codebook_size=20, codebook_dim=4,
        )
    )  # fmt: skip
    transformer = PublishedTransformerConfig(
        vocabulary=20, max_tokens=40, dim=16, depth=1, heads=2, head_dim=8, feed_forward=24, context_dim=12
    )
    ecg = StMem(StMemConfig(seq_len=150, patch_size=25, width=12, depth=1, heads=2, head_dim=6, mlp_dim=24))
    made = tokenizer, PublishedTransformer(replace(transformer, **sizes)), ecg
    for network in made:
        for weights in network.parameters():
            if weights.ndim > 1:
                torch.nn.init.normal_(weights, std=0.5)
    return made


@pytest.fixture(scope="module")
def generator() -> EchoPulsePublished:
    return EchoPulsePublished(EchoPulsePublishedConfig(steps=4), *networks(), torch.device("cpu"))


@pytest.fixture(scope="module")
def image() -> Cine:
    return Cine(np.random.default_rng(0).integers(0, 255, (1, *SIZE)).astype(np.uint8), np.zeros(1))


def window_of(generator: EchoPulsePublished, ecg: Ecg, context: Context, image: Cine | None = None) -> tuple[Cine, Context]:
    return generator.window(Conditions(ecg=ecg, reference=image), context, Sampling())


def test_frames_follow_each_other_and_prime_frames_come_once(generator: EchoPulsePublished, ecg: Ecg, image: Cine) -> None:
    cine = generator(ecg, start_s=1.0, seconds=1.5, reference=image)
    assert cine.frames.shape == (45, *SIZE)
    np.testing.assert_allclose(cine.times_s, 1.0 + np.arange(45) / 30.0, atol=1e-9)
    first, context = window_of(generator, ecg, Context(0, 1.0), image)
    second, _ = window_of(generator, ecg, context, image)
    assert (len(first.frames), len(second.frames)) == (11, 8)
    np.testing.assert_array_equal(np.concatenate([first.frames, second.frames]), cine.frames[:19])


def test_a_window_begins_with_the_unclipped_last_frames_of_the_one_before(generator: EchoPulsePublished, ecg: Ecg) -> None:
    first, context = window_of(generator, ecg, Context(0, 0.0))
    prime = context.state.prime
    assert prime.shape == (1, 3, 3, *SIZE)
    grey = (prime[0].mean(0).clamp(0, 1) * 255 + 0.5).to(torch.uint8)
    np.testing.assert_array_equal(grey.numpy(), first.frames[-3:])
    assert prime.max() > 1 or prime.min() < 0
    other = replace(context, state=replace(context.state, prime=prime.flip(2)))
    assert not np.array_equal(window_of(generator, ecg, context)[0].frames, window_of(generator, ecg, other)[0].frames)


def test_stream_of_pieces_equals_the_call(generator: EchoPulsePublished, ecg: Ecg) -> None:
    whole = generator(ecg, seconds=2.0, seed=3)
    pieces = [ecg.between(start, start + 0.7) for start in np.arange(0.0, ecg.end_s - 1e-6, 0.7)]
    parts = list(generator.stream(pieces, seconds=2.0, seed=3))
    assert len(parts) > 2
    np.testing.assert_array_equal(np.concatenate([part.frames for part in parts]), whole.frames)
    assert not np.array_equal(generator(ecg, seconds=2.0, seed=4).frames, whole.frames)


def test_the_end_of_the_ecg_is_reached(generator: EchoPulsePublished, ecg: Ecg) -> None:
    cine = generator(ecg)
    assert len(cine.frames) == round(30 * ecg.duration_s)


def test_the_beat_around_a_window_is_taken_from_peak_to_peak(ecg: Ecg) -> None:
    peaks = find_landmarks(ecg).r_s
    for index in (0, 3, len(peaks) - 2):
        beat = beat_around(ecg, float(peaks[index]) + 0.1, None)
        expected = ecg.between(float(peaks[index]), float(peaks[index + 1])).lead("II")
        np.testing.assert_array_equal(beat, expected)
        assert published_input(beat, 150).shape == (12, 150)
    np.testing.assert_array_equal(beat_around(ecg, ecg.end_s, None), beat_around(ecg, float(peaks[-1]) - 0.1, None))


def test_an_ecg_that_loses_its_beats_keeps_the_last_one(generator: EchoPulsePublished, ecg: Ecg) -> None:
    _, context = window_of(generator, ecg, Context(0, 0.0))
    silent = replace(ecg, signal_mv=np.zeros_like(ecg.signal_mv))
    cine, following = window_of(generator, silent, context)
    np.testing.assert_array_equal(following.state.beat, context.state.beat)
    assert len(cine.frames) == 8
    other = replace(context, state=replace(context.state, beat=np.linspace(-1.0, 1.0, 100, dtype=np.float32), encoded_beat=None))
    assert not np.array_equal(window_of(generator, silent, other)[0].frames, cine.frames)
    with pytest.raises(InputError, match="QRS"):
        window_of(generator, silent, Context(0, 0.0))


def test_a_beat_is_encoded_once(generator: EchoPulsePublished, ecg: Ecg) -> None:
    _, context = window_of(generator, ecg, Context(0, 0.0))
    forgotten = replace(context, state=replace(context.state, encoded_beat=None))
    (again, after), (anew, _) = window_of(generator, ecg, context), window_of(generator, ecg, forgotten)
    np.testing.assert_array_equal(again.frames, anew.frames)
    assert after.state.encoded_beat is context.state.encoded_beat


def test_it_computes_in_the_type_asked_for(generator: EchoPulsePublished, ecg: Ecg, image: Cine) -> None:
    exact = EchoPulsePublished(replace(generator.config, dtype="float32"), *networks(), torch.device("cpu"))
    known = exact.tokenizer.tokenize(torch.rand(1, 3, 3, *SIZE)).flatten(1)
    keys = exact.encode_beat(np.sin(np.arange(100, dtype=np.float32)))
    with torch.inference_mode():
        ids = exact.guess_tokens(known, keys, 0, Sampling())
        expected = exact.tokenizer.decode_ids(ids)[0]
        with torch.autocast("cpu", torch.bfloat16):
            coarse = exact.tokenizer.decode_ids(ids)[0]
    assert (coarse - expected).abs().max() < 0.1 * expected.abs().max()
    assert exact(ecg, seconds=0.8, reference=image).frames.shape == (24, *SIZE)
    with pytest.raises(InputError, match="bfloat16 or float32"):
        EchoPulsePublishedConfig(dtype="float16")


def test_what_it_cannot_use_is_one_sentence(generator: EchoPulsePublished, ecg: Ecg) -> None:
    with pytest.raises(InputError, match="cannot do without an ECG"):
        generator(None, seconds=1.0)
    with pytest.raises(InputError, match="16 x 24 pixels"):
        generator(ecg, seconds=1.0, reference=Cine(np.zeros((1, 24, 16), np.uint8), np.zeros(1)))
    with pytest.raises(InputError, match="does not take the condition ef_percent"):
        generator(ecg, seconds=1.0, ef_percent=50)


def test_a_folder_loads_to_the_same_generator(generator: EchoPulsePublished, ecg: Ecg, tmp_path: Path) -> None:
    generator.save_pretrained(tmp_path)
    again = Generator.from_pretrained(tmp_path)
    assert isinstance(again, EchoPulsePublished)
    assert again.config == generator.config
    np.testing.assert_array_equal(again(ecg, seconds=0.8).frames, generator(ecg, seconds=0.8).frames)


@pytest.mark.parametrize(
    ("settings", "sizes", "match"),
    [
        ({}, {"vocabulary": 21}, "20 codes"),
        ({}, {"context_dim": 16}, "width 12"),
        ({}, {"max_tokens": 35}, "36 tokens"),
        ({"prime": 2}, {}, "multiple of 2"),
        ({"frames": 10}, {}, "multiple of 2"),
    ],
)
def test_networks_that_do_not_belong_together_are_refused(settings: dict[str, int], sizes: dict[str, int], match: str) -> None:
    with pytest.raises(InputError, match=match):
        EchoPulsePublished(EchoPulsePublishedConfig(**settings), *networks(**sizes), torch.device("cpu"))
