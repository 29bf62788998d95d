"""Beats of a recorded ECG moved to other times: QRS complexes keep their shape, T waves follow the heart's clock."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter1d

from echogen.arrays import Floats
from echogen.ecg.landmarks import Landmarks
from echogen.errors import InputError
from echogen.records import Ecg

#: Time in s before an R peak that is not stretched: it holds the PR interval.
BEFORE_R_S = 0.20
#: Time in s after an R peak that is not stretched: it holds the rest of the QRS complex.
AFTER_R_S = 0.08
#: End of the T wave after the R peak in s where none was found: a QT interval of 0.40 s.
USUAL_T_END_S = 0.36
#: Least time in s from one anchor of the map of times to the next, so that it keeps rising in a fast heart.
LEAST_STEP_S = 0.02
#: Time in s over which the baseline of a beat is taken, before its P wave, and its jumps to the next beat are spread.
BASELINE_S = 0.06


def move_beats(
    ecg: Ecg, landmarks: Landmarks, r_s: Floats, t_end_s: Floats, start_s: float, end_s: float, rate_hz: float, first: int = 0
) -> Ecg:
    """ECG from start_s to end_s with R peaks at r_s, made of the beats of a recording in their order, again and again.

    ecg: The recording.
    landmarks: Its beats, three or more.
    r_s: (beats,) R peaks of the result, in s; they should reach past start_s and end_s.
    t_end_s: (beats,) ends of the T waves of the result, in s: aortic closure, by the heart's clock.
    start_s: Begin of the result in s.
    end_s: End of the result in s.
    rate_hz: Sampling rate of the result in Hz.
    first: Number of the recording's beat that becomes the first one.

    Each beat is mapped piece by piece: 200 ms before the R peak to 80 ms after it unstretched, from there to the end of the T
    wave and on to the next beat linearly. Raises `InputError` for a recording of fewer than three beats.
    """
    if len(landmarks) < 3:
        raise InputError("Fewer than three beats of this ECG were found; take a longer recording.")
    times = start_s + np.arange(max(1, round((end_s - start_s) * rate_hz))) / rate_hz
    result = np.zeros((len(ecg.lead_names), len(times)))
    recorded_s = ecg.start_s + np.arange(ecg.signal_mv.shape[1]) / ecg.rate_hz
    usable = np.flatnonzero(_whole(ecg, landmarks))
    if not len(usable):
        raise InputError("No beat of this ECG lies within the recording with all its waves; take a longer recording.")
    level = uniform_filter1d(ecg.signal_mv.astype(np.float64), max(1, round(BASELINE_S * ecg.rate_hz)), axis=1)
    for number in range(len(r_s) - 1):
        beat = int(usable[(first + number) % len(usable)])
        ours = _anchors(r_s[number], t_end_s[number], r_s[number + 1])
        theirs = _anchors(landmarks.r_s[beat], _t_end(landmarks, beat), landmarks.r_s[beat + 1])
        part = (times >= ours[0]) & (times < ours[-1])
        moments = np.interp(times[part], ours, theirs)
        # The baseline at both ends of the beat is brought to zero, so that neighbours meet whatever beats they come from.
        for row, lead in enumerate(ecg.signal_mv):
            ends = np.interp(theirs[[0, -1]], recorded_s, level[row])
            share = (times[part] - ours[0]) / (ours[-1] - ours[0])
            result[row, part] = np.interp(moments, recorded_s, lead) - ends[0] * (1.0 - share) - ends[1] * share
    return Ecg(result.astype(np.float32), rate_hz, ecg.lead_names, float(times[0]))


def _anchors(r_s: float, t_end_s: float, next_r_s: float) -> Floats:
    """Times in s between which a beat is stretched alike: its begin, R peak, QRS end, T end, and the next beat's begin."""
    end = next_r_s - BEFORE_R_S
    anchors = np.array([r_s - BEFORE_R_S, r_s, r_s + AFTER_R_S, t_end_s, end])
    for index in (2, 3):  # in a fast heart the T wave meets the next P wave
        anchors[index] = min(anchors[index], end - (4 - index) * LEAST_STEP_S)
    return np.maximum.accumulate(anchors + 1e-6 * np.arange(5))


def _t_end(landmarks: Landmarks, beat: int) -> float:
    """End of a beat's T wave in s, as found or as usual."""
    found = float(landmarks.t_end_s[beat])
    return found if np.isfinite(found) else float(landmarks.r_s[beat]) + USUAL_T_END_S


def _whole(ecg: Ecg, landmarks: Landmarks) -> np.ndarray:
    """(beats,) True for beats that lie within a recording up to the next beat, none of them for the last one."""
    within = (landmarks.r_s - BEFORE_R_S >= ecg.start_s) & (landmarks.r_s <= ecg.end_s)
    return within & np.append(np.diff(landmarks.r_s) > BEFORE_R_S + AFTER_R_S + 2 * LEAST_STEP_S, False)
