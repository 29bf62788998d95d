"""Features per frame: the place of each frame in its beat and in the rhythm, and the expected outline of the cavity."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from echogen.arrays import Floats
from echogen.ecg_window.beats import Beats
from echogen.ecg_window.outline import USUAL_LENGTH_PX, USUAL_WIDTH_PX, Outline, volume_share
from echogen.ecg_window.spec import EcgWindowSpec
from echogen.physiology import Filling

#: Numbers per frame that `frame_features` returns: the length of its list of columns.
FEATURES = 23
#: Cells of a token's patch, in each frame, of which a network says how much is cavity: 4 x 4.
CELLS_PER_FRAME = 16
#: Time in s to the later moment that a change is measured against: about one frame at 32 fps.
SOON_S = 0.03
#: EF in % that the expected contraction is drawn with where the EF is not known: that of a healthy heart.
USUAL_EF_PERCENT = 60.0
#: Time in s to the A wave that stands for "far away" where a beat has none.
NO_A_WAVE_S = 0.5


def frame_features(
    times_s: Floats, beats: Beats, sex: str | None = None, ef_percent: float | None = None, outline: Outline | None = None
) -> NDArray[np.float32]:
    """(len(times_s), FEATURES) float32 of order one: the place of each time in its beat, of the beat in the rhythm.

    Time since the R peak and to the next one, the phase between them, the intervals before and after, the time to
    and from the expected aortic closure, the time to the A wave, if there is one, and the expected contraction
    (0 at end-diastole, 1 at end-systole of an average beat), alone and times the EF, with its change.
    Then length and width of the cavity and their change, where an outline is given.
    """
    beats = beats.extended(float(times_s.min()) - 1.0, float(times_s.max()) + 1.0)
    clock = beats.clock(sex, ef_percent)
    k = np.clip(np.searchsorted(beats.r_s, times_s, side="right") - 1, 1, len(beats.r_s) - 2)
    since, until = times_s - beats.r_s[k], beats.r_s[k + 1] - times_s
    interval, before = beats.r_s[k + 1] - beats.r_s[k], beats.r_s[k] - beats.r_s[k - 1]
    phase = since / interval
    closure = times_s - clock.avc_s[k]
    onset = clock.a_onset_s[k + 1] - times_s
    atrial = np.isfinite(onset)
    onset = np.where(atrial, onset, NO_A_WAVE_S)
    drawn_ef = USUAL_EF_PERCENT if ef_percent is None else ef_percent
    both = np.concatenate([times_s, times_s + SOON_S])
    now, soon = np.split((1.0 - volume_share(both, clock, drawn_ef, Filling())) * 100.0 / drawn_ef, 2)
    length, width = outline(both) if outline else (np.full(len(both), USUAL_LENGTH_PX), np.full(len(both), USUAL_WIDTH_PX))
    (length, next_length), (width, next_width) = np.split(length, 2), np.split(width, 2)
    columns = [
        np.sin(2 * np.pi * phase),
        np.cos(2 * np.pi * phase),
        np.clip(since, -0.2, 1.5),
        np.clip(until, -0.2, 1.5),
        np.exp(-np.clip(since, 0, None) / 0.08),
        np.exp(-np.clip(until, 0, None) / 0.08),
        np.tanh((times_s - clock.avo_s[k]) / 0.06),
        np.tanh(closure / 0.06),
        np.exp(-((closure / 0.10) ** 2)),
        np.clip(interval, 0.2, 2.0),
        np.clip(before, 0.2, 2.0),
        atrial.astype(np.float64),
        np.tanh(onset / 0.06),
        beats.wide_qrs[k].astype(np.float64),
        now,
        3.0 * (soon - now),
        0.02 * (0.0 if ef_percent is None else ef_percent) * now,
        np.full(len(times_s), 0.0 if ef_percent is None else 1.0),
        (length - USUAL_LENGTH_PX) / 6.0,
        (width - USUAL_WIDTH_PX) / 5.0,
        next_length - length,
        next_width - width,
        np.full(len(times_s), 1.0 if outline else 0.0),
    ]
    return np.stack(columns, axis=-1).astype(np.float32)


def latent_features(
    frame_times_s: Floats,
    is_first: bool,
    beats: Beats,
    sex: str | None,
    ef_percent: float | None,
    outline: Outline | None = None,
    frames_per_latent: int = EcgWindowSpec.frames_per_latent,
) -> NDArray[np.float32]:
    """(latents, frames_per_latent FEATURES): the features of each latent's frames, one after the other.

    is_first: the first frame is a latent of its own, and is repeated to fill it.
    """
    each = frame_features(frame_times_s, beats, sex, ef_percent, outline)
    if is_first:
        each = np.concatenate([np.repeat(each[:1], frames_per_latent, axis=0), each[1:]])
    return each.reshape(-1, frames_per_latent * FEATURES)
