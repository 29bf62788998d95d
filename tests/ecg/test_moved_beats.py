"""Beats of a recording moved to other times: they are found there again, and their QRS complexes keep their shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import echogen
from echogen.ecg import find_landmarks
from echogen.ecg.landmarks import Landmarks
from echogen.ecg.moved_beats import AFTER_R_S, move_beats
from echogen.errors import InputError
from echogen.records import Ecg


@pytest.fixture(scope="module")
def recording() -> tuple[Ecg, Landmarks]:
    ecg = echogen.simulate(seconds=8.0, heart_rate_bpm=70.0, seed=4).ecg
    assert ecg is not None
    return ecg, find_landmarks(ecg)


@settings(max_examples=15, deadline=None)
@given(interval=st.floats(0.5, 1.3), jitter=st.floats(0.0, 0.1), first=st.integers(0, 20))
def test_moved_beats_are_found_where_they_were_put(
    recording: tuple[Ecg, Landmarks], interval: float, jitter: float, first: int
) -> None:
    ecg, landmarks = recording
    rng = np.random.default_rng(first)
    r = -1.0 + np.cumsum(interval * (1.0 + jitter * rng.uniform(-1, 1, 12)))
    start, end = float(r[0]), float(r[-2])
    moved = move_beats(ecg, landmarks, r, r + 0.45 * np.gradient(r) + 0.05, start, end, 500.0, first)
    assert moved.start_s == pytest.approx(start)
    assert moved.duration_s == pytest.approx(end - start, abs=0.01)
    found = find_landmarks(moved).r_s
    asked = r[(r > start + 0.2) & (r < end - 0.2)]
    assert all(np.abs(found - time).min() < 0.020 for time in asked)
    assert len(found) <= len(asked) + 2


def test_qrs_complexes_are_not_stretched(recording: tuple[Ecg, Landmarks]) -> None:
    ecg, landmarks = recording
    r = np.arange(0.0, 12.0, 1.2)  # slower than the recording
    moved = move_beats(ecg, landmarks, r, r + 0.4, 0.0, 9.0, ecg.rate_hz)
    lead = ecg.lead("II")
    reach = round(0.06 * ecg.rate_hz), round(AFTER_R_S * ecg.rate_hz)

    def around(values: np.ndarray, start_s: float, time_s: float) -> np.ndarray:
        middle = round((time_s - start_s) * ecg.rate_hz)
        part = values[middle - reach[0] : middle + reach[1]]
        return np.asarray(part - part.mean())

    ours = around(moved.lead("II"), moved.start_s, r[3])
    likeness = [np.corrcoef(ours, around(lead, ecg.start_s, time))[0, 1] for time in landmarks.r_s[1:-1]]
    assert max(likeness) > 0.995


def test_t_waves_end_where_they_are_asked_to(recording: tuple[Ecg, Landmarks]) -> None:
    ecg, landmarks = recording
    r = np.arange(0.0, 12.0, 1.0)
    for length in (0.32, 0.44):
        moved = move_beats(ecg, landmarks, r, r + length, 0.0, 10.0, 500.0)
        ends = find_landmarks(moved)
        assert float(np.nanmedian(ends.t_end_s - ends.r_s)) == pytest.approx(length, abs=0.05)


def test_a_recording_of_two_beats_is_refused(recording: tuple[Ecg, Landmarks]) -> None:
    ecg, landmarks = recording
    two = Landmarks(landmarks.lead, *(getattr(landmarks, name)[:2] for name in (
        "r_s", "qrs_onset_s", "qrs_width_s", "p_onset_s", "t_peak_s", "t_end_s")))  # fmt: skip
    with pytest.raises(InputError, match="three beats"):
        move_beats(ecg, two, np.arange(5.0), np.arange(5.0) + 0.4, 0.0, 3.0, 500.0)


def test_recordings_of_patients_can_be_moved(test_data: Path) -> None:
    ecg = echogen.read_ecg(test_data / "ecg_wfdb" / "100.hea")
    part = ecg.between(ecg.start_s, ecg.start_s + 20.0)
    landmarks = find_landmarks(part)
    r = np.arange(0.0, 14.0, 0.7)
    found = find_landmarks(move_beats(part, landmarks, r, r + 0.35, 0.0, 12.0, 500.0)).r_s
    inside = r[(r > 0.2) & (r < 11.8)]
    assert np.mean([np.abs(found - time).min() < 0.020 for time in inside]) > 0.9
