"""What a window hears of an ECG, whole or as far as it was recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echogen import Ecg, InputError
from echogen.ecg import find_landmarks
from echogen.ecg_window.analysis import UNSURE_END_S, analyse_ecg, analyse_ecg_so_far, with_expected_beat
from echogen.ecg_window.beats import Beats
from echogen.ecg_window.spec import EcgWindowSpec


def beats(r_s: list[float]) -> Beats:
    r = np.array(r_s)
    return Beats(r, r - 0.04, r - 0.16, np.zeros(len(r), bool))


@given(
    gaps=st.lists(st.floats(0.4, 1.5), min_size=1, max_size=8),
    silence=st.floats(0.001, 3.0),
)
def test_the_next_beat_is_expected_after_the_usual_interval_or_any_moment(gaps: list[float], silence: float) -> None:
    r = np.cumsum(gaps)
    until = float(r[-1]) + UNSURE_END_S + silence
    expected = with_expected_beat(beats(r.tolist()), until)
    assert len(expected.r_s) == len(r) + 1
    usual = float(np.median(np.diff(r))) if len(r) > 1 else 0.85
    assert expected.r_s[-1] == pytest.approx(max(r[-1] + usual, until - UNSURE_END_S))
    assert expected.qrs_onset_s[-1] == pytest.approx(expected.r_s[-1] - 0.04)
    assert expected.p_onset_s[-1] == pytest.approx(expected.r_s[-1] - 0.16)
    assert not expected.wide_qrs[-1]


def test_a_beat_at_the_very_end_is_not_trusted_yet() -> None:
    expected = with_expected_beat(beats([0.0, 1.0, 2.0]), 2.02)
    np.testing.assert_allclose(expected.r_s, [0.0, 1.0, 2.0])
    np.testing.assert_allclose(with_expected_beat(beats([0.0, 1.0, 1.9]), 1.92).r_s, [0.0, 1.0, 2.0])
    with pytest.raises(InputError, match="more of it"):
        with_expected_beat(beats([2.0]), 2.02)


def test_without_p_waves_none_is_expected() -> None:
    fibrillating = replace(beats([0.0, 0.7, 1.5]), p_onset_s=np.array([np.nan, np.nan, 1.3]))
    assert np.isnan(with_expected_beat(fibrillating, 1.8).p_onset_s[-1])


def test_what_was_not_heard_is_left_out_and_where_there_is_none_are_zeros(ecg: Ecg) -> None:
    so_far = ecg.between(0.0, 6.0)
    whole, live = analyse_ecg(so_far), analyse_ecg_so_far(so_far)
    assert whole.window(5.0, 17).shape == (EcgWindowSpec().samples(17),)
    assert not whole.window(5.0, 17)[round(2.6 * 128) :].any()
    seen = live.window(5.0, 17)
    assert len(seen) == int(2.5 * 128) // 16 * 16
    np.testing.assert_array_equal(
        seen, analyse_ecg(Ecg(so_far.lead(live.lead_name)[None], 250.0, ("x",))).window(5.0, 17)[: len(seen)]
    )
    assert len(live.window(5.0, 1)) == min(EcgWindowSpec().samples(1), len(seen))
    assert len(live.window(9.0, 4)) == 16


def test_beats_of_the_past_are_those_that_the_whole_has(ecg: Ecg) -> None:
    true = find_landmarks(ecg).r_s
    live = analyse_ecg_so_far(ecg.between(0.0, 6.0))
    known = true[true < 6.0 - UNSURE_END_S]
    np.testing.assert_allclose(live.beats.r_s[:-1], known, atol=0.01)
    assert live.beats.r_s[-1] >= 6.0 - UNSURE_END_S


def test_a_named_lead_is_listened_to(ecg: Ecg) -> None:
    name = ecg.lead_names[-1]
    assert analyse_ecg_so_far(ecg, name).lead_name == name
    with pytest.raises(InputError):
        analyse_ecg(replace(ecg, signal_mv=0 * ecg.signal_mv))
