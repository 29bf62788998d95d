"""Features of an ECG window: places in the beat, the expected outline, the lead."""

from __future__ import annotations

import numpy as np
import pytest

from echogen.ecg import find_landmarks
from echogen.ecg_window.beats import Beats, find_beats
from echogen.ecg_window.features import FEATURES, frame_features, latent_features
from echogen.ecg_window.lead import lead_window
from echogen.ecg_window.outline import READ_AREA, expected_outline, outline_of_cells
from echogen.ecg_window.spec import EcgWindowSpec, latent_times
from echogen.physiology import Filling, area_length_volume_ml
from echogen.records import Ecg


def regular(rr: float = 0.8, count: int = 10, atria: bool = True) -> Beats:
    r = rr * np.arange(count)
    p = r - 0.16 if atria else np.full(count, np.nan)
    return Beats(r, r - 0.04, p, np.zeros(count, bool))


def test_features_repeat_with_the_beat_and_stay_of_order_one() -> None:
    times = 2.41 + np.arange(0, 0.78, 1 / 32)
    one = frame_features(times, regular(), None, 50.0)
    np.testing.assert_allclose(one, frame_features(times + 0.8, regular(), None, 50.0), atol=1e-5)
    assert one.shape == (len(times), FEATURES)
    assert np.abs(one).max() < 4.0


def test_features_need_no_beat_at_hand() -> None:
    before = frame_features(np.array([-3.0, -2.6]), regular(), None, None)
    after = frame_features(np.array([12.0, 20.0]), regular(), None, None)
    assert np.isfinite(before).all()
    assert np.isfinite(after).all()


def test_the_contraction_is_largest_at_aortic_closure() -> None:
    beats = regular()
    closure = beats.clock().avc_s[4]
    times = beats.r_s[4] + np.arange(0, 0.8, 0.005)
    contraction = frame_features(times, beats, None, 60.0)[:, 14]
    assert times[int(np.argmax(contraction > 0.99 * contraction.max()))] == pytest.approx(closure, abs=0.03)


def test_a_missing_p_wave_is_told() -> None:
    times = np.array([2.5, 2.7])
    assert frame_features(times, regular(), None, None)[:, 11].tolist() == [1.0, 1.0]
    assert frame_features(times, regular(atria=False), None, None)[:, 11].tolist() == [0.0, 0.0]


def test_latents_take_four_frames_each() -> None:
    times = np.arange(33) / 32.0
    features = latent_features(times, True, regular(), None, None)
    assert features.shape == (9, 4 * FEATURES)
    assert latent_times(times, True, 4)[:2].tolist() == [0.0, pytest.approx(2.5 / 32)]
    assert len(latent_times(times[1:], False, 4)) == 8
    assert latent_times(np.arange(5.0), True, 2).tolist() == [0.0, 1.5, 3.5]


def test_lead_window_is_zero_outside_the_ecg() -> None:
    spec, lead = EcgWindowSpec(), np.ones(128, np.float32)
    window = lead_window(lead, 0.0, 0.0, 512, spec)
    assert window[: round(spec.before_s * spec.rate_hz)].sum() == 0
    assert window.sum() == 128


def test_beats_come_from_the_landmarks(ecg: Ecg) -> None:
    beats = find_beats(ecg)
    np.testing.assert_array_equal(beats.r_s, find_landmarks(ecg).r_s)


def test_the_expected_outline_has_the_ejection_fraction_asked_for() -> None:
    beats = regular()
    clock = beats.clock(None, 50.0)
    length, width = expected_outline(beats, None, 50.0, 60.0, 26.0)(np.array([clock.ed_s[4], clock.avc_s[4]]))
    assert (length[0], width[0]) == (pytest.approx(60.0, rel=0.01), pytest.approx(26.0, rel=0.01))
    volume = area_length_volume_ml(length * width, length)
    assert 100 * (1 - volume[1] / volume[0]) == pytest.approx(50.0, abs=1.5)
    assert length[1] < length[0]


def test_a_ventricle_that_fills_late_is_as_large_in_the_end_and_smaller_before() -> None:
    beats = regular()
    clock = beats.clock(None, 50.0)
    times = np.array([clock.ed_s[4], clock.avc_s[4], clock.ed_s[5] - 0.16])
    early, late = (expected_outline(beats, None, 50.0, 60.0, 26.0, Filling(a_share=share))(times) for share in (0.2, 0.45))
    volumes = [area_length_volume_ml(length * width, length) for length, width in (early, late)]
    np.testing.assert_allclose(volumes[0][:2], volumes[1][:2], rtol=0.01)
    assert volumes[1][2] < 0.93 * volumes[0][2]


def test_features_tell_the_outline_where_it_is_known() -> None:
    times = np.array([2.4, 2.7, 2.9])
    plain = frame_features(times, regular(), None, 60.0)
    known = frame_features(times, regular(), None, 60.0, expected_outline(regular(), None, 60.0, 62.0, 26.0))
    np.testing.assert_array_equal(plain[:, :18], known[:, :18])
    assert not plain[:, 18:].any()
    assert known[:, 22].tolist() == [1.0, 1.0, 1.0]
    assert np.abs(known[:, 18:22]).max() < 4.0


@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_the_outline_of_cells_is_that_of_the_cut_ellipse_they_show(angle: float) -> None:
    a, b, cell = 36.0, 15.0, 4.0
    row, column = np.indices((128, 128)) - 64.0
    along, across = column * np.sin(angle) + row * np.cos(angle), column * np.cos(angle) - row * np.sin(angle)
    inside = ((along / a) ** 2 + (across / b) ** 2 < 1) & (along < 0.42 * a)
    cells = inside.reshape(32, 4, 32, 4).mean((1, 3))
    found = outline_of_cells(cells, cell)
    assert found is not None
    assert found[0] == pytest.approx(1.42 * a, rel=0.03)
    assert found[1] == pytest.approx(inside.sum() / (1.42 * a) / READ_AREA, rel=0.05)
    assert outline_of_cells(np.zeros((32, 32)), cell) is None
