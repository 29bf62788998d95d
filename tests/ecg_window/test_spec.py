"""Sizes of ECG windows: the only place that holds them, and the networks and clips that must agree with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echogen import InputError
from echogen.datasets import clip_store
from echogen.ecg_window.spec import EcgWindowSpec, latent_times
from echogen.networks.conditioning import EcgEncoderConfig
from echogen.networks.video_tokenizer import VideoTokenizerConfig

SPEC = EcgWindowSpec()


@given(latents=st.integers(1, 40), is_first=st.booleans(), per_latent=st.integers(1, 8))
def test_frames_and_latents_are_each_other_s_inverse(latents: int, is_first: bool, per_latent: int) -> None:
    spec = EcgWindowSpec(frames_per_latent=per_latent)
    frames = spec.frames(latents, is_first)
    assert spec.latents(frames) == latents
    times = latent_times(np.arange(frames) / 32.0, is_first, per_latent)
    assert times.shape == (latents,)
    assert (np.diff(times) > 0).all()


@given(latents=st.integers(0, 40), before_s=st.floats(0, 4), after_s=st.floats(0, 4))
def test_a_window_s_ecg_is_the_fewest_whole_patches_that_hold_it(latents: int, before_s: float, after_s: float) -> None:
    spec = EcgWindowSpec(before_s=before_s, after_s=after_s)
    needed = (before_s + latents * spec.seconds_per_latent + after_s) * spec.rate_hz
    samples = spec.samples(latents)
    assert samples % spec.patch_samples == 0
    assert needed - 1e-6 <= samples < needed + spec.patch_samples + 1e-6


def test_networks_and_clips_have_the_sizes_of_the_spec() -> None:
    encoder, tokenizer = EcgEncoderConfig(), VideoTokenizerConfig()
    assert (encoder.rate_hz, encoder.patch) == (SPEC.rate_hz, SPEC.patch_samples)
    assert (tokenizer.time_patch, tokenizer.seconds_per_latent) == (SPEC.frames_per_latent, SPEC.seconds_per_latent)
    assert SPEC.rate_hz == clip_store.ECG_RATE_HZ
    assert SPEC.before_s <= clip_store.ECG_BEFORE_S
    assert SPEC.after_s <= clip_store.ECG_AFTER_S
    assert SPEC.frames_per_latent / clip_store.FPS == SPEC.seconds_per_latent


@pytest.mark.parametrize("wrong", ["before_s", "after_s", "rate_hz", "patch_samples", "frames_per_latent", "seconds_per_latent"])
def test_sizes_that_cannot_be_are_one_sentence(wrong: str) -> None:
    with pytest.raises(InputError, match="ECG window"):
        replace(SPEC, **{wrong: -1})
