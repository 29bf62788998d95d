"""Refiners double the frame rate or the size of any cine, and of any generator's video."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from echogen.datasets.clip_store import draw_recording
from echogen.errors import InputError
from echogen.generators import EchoPulse
from echogen.generators.sampling import Span
from echogen.generators.video_generator import VideoGenerator
from echogen.generators.wrappers.motion import motion_between, shifted_frames
from echogen.generators.wrappers.refined import Refined, Refiner, RefinerConfig, double_size_input, halfway_input
from echogen.metrics.pictures.likeness import psnr
from echogen.networks.video_unet import VideoUnet, VideoUnetConfig
from echogen.phantom.simulate import render
from echogen.records import Cine, Ecg
from echogen.samplers.edm import Edm

NETWORK = VideoUnetConfig(
    channels=4, dim=8, widths=(1, 1), blocks=(0, 1), cross_attention=(False, False), middle_attention=False, lowres=True, heads=1,
    head_dim=4, middle_heads=1, middle_head_dim=4, context=4, ef_latents=1, ef_averages=1, ef_depth=1, stem=(3,), over_time=False,
)  # fmt: skip
EDM = Edm(sigma_data=0.06, sigma_max=0.8, threshold=None)


def refiner(kind: str) -> Refiner:
    torch.manual_seed(1)
    network = VideoUnet(NETWORK)
    torch.nn.init.normal_(network.out.weight, std=0.3)
    return Refiner(RefinerConfig(kind, EDM), network)


IN_TIME, IN_SPACE = refiner("2x-time"), refiner("2x-space")


def cine(frames: int = 4, height: int = 24, width: int = 20) -> Cine:
    grey = np.random.default_rng(frames).integers(0, 256, (frames, height, width), dtype=np.uint8)
    return Cine(grey, 0.5 + np.arange(frames) ** 1.1 / 32, mm_per_pixel=1.2, view="A2C")


@settings(max_examples=8)
@given(frames=st.integers(1, 4), height=st.integers(12, 25), width=st.integers(12, 25))
def test_any_length_and_size_keep_their_frames_times_and_scale(frames: int, height: int, width: int) -> None:
    coarse = cine(frames, height, width)
    finer = IN_TIME(coarse)
    np.testing.assert_array_equal(finer.frames[::2], coarse.frames)
    np.testing.assert_array_equal(finer.times_s[::2], coarse.times_s)
    np.testing.assert_allclose(finer.times_s[1::2], (coarse.times_s[1:] + coarse.times_s[:-1]) / 2)
    assert (finer.mm_per_pixel, finer.view) == (1.2, "A2C")
    larger = IN_SPACE(coarse)
    assert larger.frames.shape == (frames, 2 * height, 2 * width)
    np.testing.assert_array_equal(larger.times_s, coarse.times_s)
    assert (larger.mm_per_pixel, larger.view) == (0.6, "A2C")
    assert IN_SPACE(replace(coarse, mm_per_pixel=None)).mm_per_pixel is None


@pytest.mark.parametrize("made_by", [IN_TIME, IN_SPACE], ids=["time", "space"])
def test_what_is_added_does_not_depend_on_the_frames_around(made_by: Refiner) -> None:
    whole = cine(5)
    apart = Cine(whole.frames[2:4], whole.times_s[2:4])
    alone = made_by(apart).frames
    first = 4 if made_by is IN_TIME else 2
    np.testing.assert_array_equal(made_by(whole).frames[first : first + len(alone)], alone)


def test_more_steps_draw_by_the_seed_and_one_step_draws_the_mean() -> None:
    coarse = cine(2)
    drawn = [IN_SPACE(coarse, steps=3, seed=seed).frames for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
    np.testing.assert_array_equal(IN_SPACE(coarse, seed=0).frames, IN_SPACE(coarse, seed=1).frames)


@pytest.mark.parametrize("stages", [(IN_TIME,), (IN_SPACE,), (IN_TIME, IN_SPACE)], ids=["time", "space", "both"])
def test_call_and_stream_of_a_refined_generator_agree(
    stages: tuple[Refiner, ...], shelf_of: Callable[..., VideoGenerator]
) -> None:
    refined = shelf_of([cine(7)], 32.0, (3, 1, 3))
    for stage in stages:
        refined = Refined(refined, stage)
    span = Span(0.5, 0.25)
    called, parts = refined(None, seed=3, span=span), list(refined.stream(None, seed=3, span=span))
    assert len(parts) == 3
    np.testing.assert_array_equal(called.frames, np.concatenate([part.frames for part in parts]))
    np.testing.assert_array_equal(called.times_s, np.concatenate([part.times_s for part in parts]))
    assert refined.native_fps == (64.0 if IN_TIME in stages else 32.0)


def test_it_is_called_like_a_generator(tiny: EchoPulse, ecg: Ecg) -> None:
    refined = Refined(tiny, IN_TIME)
    assert (refined.native_fps, refined.takes, refined.window_s) == (2 * tiny.native_fps, tiny.takes, tiny.window_s)
    plain = tiny(ecg, seconds=0.1, seed=3)
    np.testing.assert_array_equal(refined(ecg, seconds=0.1, seed=3).frames[::2], plain.frames)
    assert pickle.loads(pickle.dumps(refined)).native_fps == 2 * tiny.native_fps


def test_progress_ends_at_the_end() -> None:
    seen: list[tuple[float, float]] = []
    IN_TIME(cine(3), progress=lambda done, total: seen.append((done, total)))
    assert len(seen) == 3
    assert seen[-1][0] == pytest.approx(seen[-1][1])


def test_a_folder_holds_a_refiner(tmp_path: Path) -> None:
    IN_SPACE.save_pretrained(tmp_path / "mine")
    again = Refiner.from_pretrained(tmp_path / "mine", "cpu")
    assert again.config == IN_SPACE.config
    assert len(again.weights_hash) == 16
    np.testing.assert_array_equal(again(cine(1)).frames, IN_SPACE(cine(1)).frames)


def test_wrong_uses_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no refiner 'none'; give a folder with refiner\.json or one of"):
        Refiner.from_pretrained("none")
    with pytest.raises(InputError, match="2x-time or 2x-space, not '3x-time'"):
        RefinerConfig("3x-time")
    with pytest.raises(InputError, match="at least one step"):
        RefinerConfig("2x-time", steps=0)
    with pytest.raises(InputError, match="four channels"):
        Refiner(RefinerConfig("2x-time"), VideoUnet(replace(NETWORK, channels=1)))
    (tmp_path / "refiner.json").write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        Refiner.from_pretrained(tmp_path)


def texture(shift_x: float, shift_y: float) -> torch.Tensor:
    """A smooth picture, moved by so many pixels."""
    rows, columns = torch.meshgrid(torch.arange(64.0) - shift_y, torch.arange(64.0) - shift_x, indexing="ij")
    return (0.5 + 0.2 * torch.sin(columns / 3.0) * torch.cos(rows / 4.0) + 0.2 * torch.sin((rows + columns) / 5.0))[None, None]


@settings(max_examples=10)
@given(x=st.floats(-3, 3), y=st.floats(-3, 3))
def test_motion_is_found_and_the_frame_between_lies_half_way(x: float, y: float) -> None:
    before, after = texture(0, 0), texture(x, y)
    inside = (..., slice(12, -12), slice(12, -12))
    motion = motion_between(before, after)
    assert float((motion - torch.tensor([x, y]).view(1, 2, 1, 1)).abs()[inside].mean()) < 0.1 + 0.3 * max(abs(x), abs(y))
    torch.testing.assert_close(shifted_frames(before, torch.zeros_like(motion)), before)
    truth = texture(x / 2, y / 2)
    error = (halfway_input(before, after).lowres[:, :, 0] - truth).square()[inside].mean()
    assert error <= (0.5 * (before + after) - truth).square()[inside].mean() + 1e-5


def test_enlarging_keeps_places() -> None:
    """A plane of grey stays the same plane: pixels are areas, so nothing moves by half a pixel."""
    slope = torch.arange(16.0).expand(1, 1, 16, 16) / 16
    fine = double_size_input(slope).lowres[0, 0, 0, 8, 2:-2]
    torch.testing.assert_close(fine, ((torch.arange(32.0) + 0.5) / 2 - 0.5)[2:-2] / 16)


def test_the_shipped_refiner_is_nearer_to_the_truth_than_interpolation() -> None:
    heart, _ = draw_recording(9, 1.0)
    truth = render(heart, np.array([0.3]), 9, finer=2).frames
    coarse = np.rint(truth.reshape(1, 128, 2, 128, 2).mean((2, 4))).astype(np.uint8)
    plain = double_size_input(torch.from_numpy(coarse)[:, None].float() / 255.0).lowres[:, 0, 0].numpy()
    made = Refiner.from_pretrained("refine-2x-space", "cpu")(Cine(coarse, np.zeros(1))).frames
    assert psnr(made, truth) > psnr(plain, truth) + 2.0
