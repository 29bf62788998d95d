"""A live video: short parts along with an ECG as it is recorded, the same however that arrives, from what is known so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from echogen import Cine, Ecg, InputError
from echogen.ecg_window.stream import EcgStream
from echogen.generators import EchoPulse
from echogen.generators.base import Generator
from echogen.generators.echopulse.config import EchoPulseConfig, LivePace
from echogen.generators.echopulse.frame_renderer import FrameRenderer
from echogen.generators.precision import Precision
from echogen.phantom.speckle import SpeckleLayer

FPS = 32.0


def cut(ecg: Ecg, samples: list[int]) -> Iterator[Ecg]:
    """The ECG in pieces of so many samples, again and again."""
    at = 0
    for index in range(ecg.signal_mv.shape[1]):
        if at >= ecg.signal_mv.shape[1]:
            return
        length = samples[index % len(samples)]
        piece = ecg.signal_mv[:, at : at + length]
        yield replace(ecg, signal_mv=piece, start_s=ecg.start_s + at / ecg.rate_hz)
        at += length


def joined(parts: list[Cine]) -> np.ndarray:
    return np.concatenate([part.frames for part in parts])


@settings(max_examples=4)
@given(samples=st.lists(st.integers(1, 700), min_size=1, max_size=4), seed=st.integers(0, 3))
def test_the_same_video_comes_however_the_ecg_is_cut(tiny: EchoPulse, ecg: Ecg, samples: list[int], seed: int) -> None:
    asked = {"start_s": 3.3, "seconds": 0.6, "seed": seed, "ef_percent": 45.0}
    whole = tiny(ecg, live=True, **asked)
    parts = list(tiny.stream(cut(ecg, samples), live=True, **asked))
    np.testing.assert_array_equal(joined(parts), whole.frames)
    np.testing.assert_array_equal(np.concatenate([part.times_s for part in parts]), whole.times_s)


def test_a_live_video_is_another_one_on_the_same_clock(tiny: EchoPulse, ecg: Ecg) -> None:
    live, usual = (tiny(ecg, start_s=3.0, seconds=2.0, live=how) for how in (True, False))
    np.testing.assert_allclose(live.times_s, usual.times_s, atol=1e-9)
    assert not np.array_equal(live.frames, usual.frames)


def test_each_part_comes_as_soon_as_its_ecg_is_there_and_not_before(tiny: EchoPulse, ecg: Ecg) -> None:
    heard_s = 0.0

    def arriving() -> Iterator[Ecg]:
        nonlocal heard_s
        for piece in cut(ecg, [10]):
            heard_s = piece.end_s
            yield piece

    ends = []
    for part in tiny.stream(arriving(), start_s=4.0, live=True):
        ends.append((len(part.frames), heard_s - float(part.times_s[-1]) - 1 / FPS))
        if len(ends) == 4:
            break
    live = tiny.live_timing
    assert [frames for frames, _ in ends] == [1, *[round(live.part_s * FPS)] * 3]
    assert all(live.future_s - 1e-6 <= ahead <= live.future_s + 2 * 10 / ecg.rate_hz for _, ahead in ends)
    assert live.delay_s < 1.0


def test_ecg_that_is_not_there_yet_does_not_matter(tiny: EchoPulse, ecg: Ecg) -> None:
    live, start, seconds = tiny.live_timing, 4.0, 1.0 / FPS + 0.5
    other = np.array(ecg.signal_mv)
    other[:, int((start + seconds + live.future_s) * ecg.rate_hz) + 1 :] *= -3.0
    shared = {"start_s": start, "seconds": 1.5, "live": True}
    ours, theirs = tiny(ecg, **shared).frames, tiny(replace(ecg, signal_mv=other), **shared).frames
    np.testing.assert_array_equal(ours[:17], theirs[:17])
    assert not np.array_equal(ours, theirs)


def test_it_begins_when_the_rhythm_is_known(tiny: EchoPulse, ecg: Ecg) -> None:
    pieces = cut(ecg, [25])
    first = next(tiny.stream(pieces, live=True))
    assert first.times_s.tolist() == [0.0]
    assert next(pieces).start_s == pytest.approx(tiny.live_timing.lead_in_s, abs=0.11)


def test_a_given_first_frame_begins_it(tiny: EchoPulse, ecg: Ecg) -> None:
    image = Cine(np.random.default_rng(0).integers(0, 255, (1, 128, 128)).astype(np.uint8), np.zeros(1))
    first = next(tiny.stream(ecg, start_s=3.0, live=True, reference=image))
    sector = SpeckleLayer(tiny.config.speckle, 0).scanner.inside.numpy()
    np.testing.assert_allclose(first.frames[0].astype(float), image.frames[0] * sector, atol=1.0)


def test_parts_are_drawn_as_the_whole_would_be(tiny: EchoPulse) -> None:
    ids = torch.randint(0, 25, (1, 5, 16, 1), generator=torch.Generator().manual_seed(0))
    renderer = FrameRenderer(tiny.tokenizer, Precision(tiny.device, torch.float32), ())
    whole = renderer.draw(ids, 5, True)
    parts = [renderer.draw(ids[:, :until], new, True) for until, new in ((1, 1), (3, 2), (5, 2))]
    later = renderer.draw(ids[:, 1:], 1, False)
    assert len(whole.picture) == 17
    torch.testing.assert_close(torch.cat([part.picture for part in parts]), whole.picture, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(torch.cat([part.displacement for part in parts]), whole.displacement, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(later.picture, whole.picture[-4:], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("pace", [LivePace(latents=1, ahead=3), LivePace(latents=4, prefix=2, steps=1), LivePace(prefix=20)])
def test_other_paces_cover_every_frame(tiny: EchoPulse, ecg: Ecg, pace: LivePace) -> None:
    maker = EchoPulse(replace(tiny.config, live=pace, order="halton"), tiny.tokenizer, tiny.transformer, tiny.device)
    made = maker(ecg, start_s=3.0, seconds=1.5, live=True)
    np.testing.assert_allclose(made.times_s, 3.0 + np.arange(48) / FPS, atol=1e-9)


def test_what_it_keeps_does_not_grow_and_a_lost_electrode_is_borne(tiny: EchoPulse, ecg: Ecg) -> None:
    lost = np.array(ecg.signal_mv)
    lost[:, int(4.0 * ecg.rate_hz) :] = 0.0
    made = tiny(replace(ecg, signal_mv=np.concatenate([lost, 0 * lost], axis=1)), start_s=11.0, seconds=2.0, live=True)
    assert len(made.frames) == 2 * FPS
    given: list[int] = []
    networks = tiny.tokenizer, tiny.transformer, tiny.device
    maker = EchoPulse(tiny.config, *networks, observer=lambda guess: given.append(guess.query.given))
    maker(ecg, start_s=3.0, seconds=3.0, live=True)
    assert max(given) == 1 + tiny.config.live.prefix
    assert given[:3] == [0, 1, 3]  # the first frame is guessed alone


@pytest.mark.parametrize("name", ["stream", "call"])
def test_who_cannot_says_so(ecg: Ecg, tiny: EchoPulse, name: str) -> None:
    class Still(EchoPulse):
        live_timing = None  # type: ignore[assignment]

    still = Still(tiny.config, tiny.tokenizer, tiny.transformer, tiny.device)
    with pytest.raises(InputError, match="cannot follow a live ECG"):
        next(still.stream(ecg, live=True)) if name == "stream" else still(ecg, live=True)
    assert Generator.live_timing.fget(still) is None  # type: ignore[attr-defined]


@given(rate=st.sampled_from([250.0, 513.625, 128.0]), samples=st.lists(st.integers(1, 900), min_size=1, max_size=5))
def test_pieces_keep_the_clock_of_the_whole(rate: float, samples: list[int]) -> None:
    whole = Ecg(np.random.default_rng(0).normal(size=(2, 9000)), rate, ("I", "II"), -1.7)
    ours, theirs = EcgStream(whole), EcgStream(cut(whole, samples))
    for start in np.arange(-1.7, whole.end_s - 4.0, 0.73):
        one, other = (source.around(start - 3.0, start + 0.9) for source in (ours, theirs))
        assert one is not None
        assert other is not None
        assert one.start_s == other.start_s
        np.testing.assert_array_equal(one.signal_mv, other.signal_mv)


def test_a_config_of_before_still_loads_and_settings_are_checked() -> None:
    assert EchoPulseConfig().live == LivePace()
    for wrong in ({"latents": 0}, {"steps": 0}, {"prefix": 0}, {"ahead": -1}, {"future_s": -0.1}, {"lead_every": 0}):
        with pytest.raises(InputError, match="live"):
            LivePace(**wrong)  # type: ignore[arg-type]
