"""An ECG as ST-MEM and the published ECHOPulse code take it, and the published crop of a clip."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal as dsp

from echogen.cine.published_crop import first_lit_row, resize_linear, ultrasound_crop
from echogen.ecg.leads import STANDARD_LEADS
from echogen.ecg.st_mem_input import notebook_input, published_input, st_mem_input, z_normalise
from echogen.errors import InputError
from echogen.phantom.electrical import make_ecg
from echogen.phantom.rhythm import make_rhythm
from echogen.records import Ecg


@pytest.fixture(scope="module")
def ecg():
    rng = np.random.default_rng(4)
    return make_ecg(make_rhythm("sinus", 70, 0.0, 14.0, rng), 0.0, 14.0, rng, rate_hz=500.0)


def test_standardised_over_all_leads_together(ecg):
    found = st_mem_input(ecg)
    assert found.signal.shape == (12, 2250)
    assert found.signal.dtype == np.float32
    assert found.leads == tuple(range(12))
    assert found.signal.mean() == pytest.approx(0, abs=1e-4)
    assert found.signal.std() == pytest.approx(1, abs=1e-3)
    spread = found.signal.std(axis=1)
    assert spread.max() > 1.5 * spread.min()  # a small lead stays small


def test_the_recipe_is_two_butterworth_filters_forward_and_backward():
    rng = np.random.default_rng(0)
    at_rate = Ecg(rng.standard_normal((2, 2250)), 250.0, ("I", "V1"))
    expected = at_rate.signal_mv.astype(np.float64)
    for kind, edge in (("highpass", 0.67), ("lowpass", 40)):
        expected = dsp.sosfiltfilt(dsp.butter(5, edge, kind, fs=250, output="sos"), expected)
    expected = (expected - expected.mean()) / expected.std()
    found = st_mem_input(at_rate)
    assert found.leads == (0, 6)
    np.testing.assert_allclose(found.signal, expected, atol=1e-5)


@pytest.mark.parametrize("rate_hz", [128.0, 250.0, 360.0, 513.625, 1000.0])
def test_a_peak_keeps_its_time_at_any_rate(rate_hz):
    times = np.arange(round(12 * rate_hz)) / rate_hz
    peaks = np.exp(-0.5 * ((times - 2.3) / 0.02) ** 2) + np.exp(-0.5 * ((times - 6.05) / 0.02) ** 2)
    found = st_mem_input(Ecg(peaks[None], rate_hz, ("MLII",), start_s=10.0), 11.0)
    assert found.leads == (1,)
    assert found.start_s == pytest.approx(11.0, abs=1 / rate_hz)
    half = 1125
    for part, time in ((slice(0, half), 12.3), (slice(half, None), 16.05)):
        at = (np.argmax(found.signal[0, part]) + (part.start or 0)) / 250 + found.start_s
        assert at == pytest.approx(time, abs=0.004)


def test_only_the_window_is_looked_at(ecg):
    whole = st_mem_input(ecg, 2.0, leads=("II", "v1"))
    assert whole.leads == (1, 6)
    part = st_mem_input(ecg.between(2.0, 11.5), 2.0, leads=("II", "v1"))
    np.testing.assert_allclose(whole.signal, part.signal, atol=1e-5)


def test_exactly_the_window_is_enough(ecg):
    assert st_mem_input(ecg.between(0.0, 9.0)).signal.shape == (12, 2250)
    short = Ecg(ecg.signal_mv[:, : round(9 * 333.0)], 333.0, ecg.lead_names)
    assert st_mem_input(short).signal.shape == (12, 2250)


def test_leads_that_are_not_standard_are_left_out(ecg):
    mixed = Ecg(ecg.signal_mv[:3], ecg.rate_hz, ("Vx", "aVF", "II"))
    assert st_mem_input(mixed).leads == (5, 1)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ({}, {"start_s": 6.0}, "9 s from 6.00 s on"),
        ({}, {"start_s": -0.5}, "0.00 to"),
        ({}, {"leads": ("V9",)}, "'V9'"),
        ({}, {"leads": ()}, "at least one lead"),
        ({"signal_mv": np.ones((1, 7000)), "lead_names": ("II",)}, {"leads": ("V1",)}, "no lead 'V1'"),
        ({"signal_mv": np.ones((1, 7000)), "lead_names": ("ECG",)}, {}, "which lead"),
        ({"signal_mv": np.full((1, 7000), 0.3), "lead_names": ("II",)}, {}, "flat"),
    ],
)
def test_an_ecg_that_cannot_be_used_is_one_sentence(ecg, change, arguments, message):
    values = {"signal_mv": ecg.signal_mv, "rate_hz": ecg.rate_hz, "lead_names": ecg.lead_names} | change
    with pytest.raises(InputError, match=message) as error:
        st_mem_input(Ecg(**values), **arguments)
    assert str(error.value).count(". ") == 0


def test_the_standard_leads_are_those_of_the_phantom(ecg):
    assert ecg.lead_names == STANDARD_LEADS


@given(st.integers(2, 400), st.integers(17, 500), st.integers(0, 10_000))
def test_the_published_form_repeats_the_beat_sixteen_times(length, samples, seed):
    beat = np.random.default_rng(seed).normal(30, 8, length)
    found = published_input(beat, samples)
    assert found.shape == (12, samples)
    assert not found[[0, *range(2, 12)]].any()
    assert found[1, 0] == pytest.approx(z_normalise(beat)[0], rel=1e-5, abs=1e-6)
    assert found[1, -1] == pytest.approx(z_normalise(beat)[-1], rel=1e-5, abs=1e-6)
    # Heart rate and unit are lost.
    np.testing.assert_allclose(published_input(3 * beat - 7, samples), found, atol=1e-4)
    whole = notebook_input(beat, samples)
    assert whole.mean() == pytest.approx(0, abs=1e-4)
    assert whole.std() == pytest.approx(1, abs=1e-3)
    assert len(np.unique(whole[[0, *range(2, 12)]])) == 1


def test_the_published_form_is_periodic():
    beat = np.sin(np.arange(100) / 100 * 2 * np.pi)
    found = published_input(beat, 1600)[1]
    np.testing.assert_allclose(found, np.tile(z_normalise(beat), 16), atol=1e-6)


@pytest.mark.parametrize("make", [z_normalise, published_input, notebook_input])
@pytest.mark.parametrize("trace", [np.full(100, 12.3), np.zeros(50), [1.0], [1.0, np.nan, 2.0], np.ones((2, 9))])
def test_a_flat_or_broken_trace_is_one_sentence(make, trace):
    with pytest.raises(InputError, match=r"flat|finite"):
        make(trace)


def fan(height, width, top):
    picture = np.zeros((height, width))
    picture[top:, width // 2] = 0.8
    picture[top + 3 :, width // 2 - 1 : width // 2 + 2] = 0.5
    return picture


@given(st.integers(8, 40), st.integers(5, 40), st.integers(1, 4))
def test_the_crop_starts_at_the_first_lit_row(height, width, top):
    picture = fan(height, width, top)
    assert first_lit_row(picture) == top
    cropped = ultrasound_crop(np.stack([picture, picture])[None])
    assert cropped.shape == (1, 2, height, width)
    assert (cropped[0, 0, 0, width // 2]) == pytest.approx(0.8, abs=1e-6)
    np.testing.assert_array_equal(cropped[0, 0], cropped[0, 1])
    assert cropped.max() <= 0.8 + 1e-6


def test_frames_and_channels_are_cropped_each_by_itself():
    clip = np.stack([np.stack([fan(20, 11, 2), fan(20, 11, 5)])] * 3)
    clip[1, 0] = fan(20, 11, 4)
    found = ultrasound_crop(clip, (24, 16))
    assert found.shape == (3, 2, 24, 16)
    assert not np.allclose(found[0, 0], found[1, 0])
    np.testing.assert_array_equal(found[0, 1], found[2, 1])


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.integers(1, 30))
def test_resizing_agrees_with_torch(rows, columns, height, width):
    import torch

    frame = np.random.default_rng(rows).random((rows, columns), dtype=np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(frame)[None, None], (height, width), mode="bilinear")[0, 0]
    np.testing.assert_allclose(resize_linear(frame, height, width), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("clip", [np.zeros((1, 1, 8, 8)), np.ones((1, 1, 8, 8)), np.zeros((8, 8)), np.zeros((1, 0, 8, 8))])
def test_a_clip_that_cannot_be_cropped_is_one_sentence(clip):
    with pytest.raises(InputError, match="crop"):
        ultrasound_crop(clip)
