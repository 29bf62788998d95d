"""What a generator learns from an ECG: one clean lead, and for every latent frame where in which beat it lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from echogen import ecg as ecg_module
from echogen.arrays import Floats
from echogen.physiology import BeatClock, Filling, beat_clock, beat_volumes, volume_curve
from echogen.records import Ecg

ECG_RATE_HZ = 128.0
ECG_BEFORE_S, ECG_AFTER_S = 1.5, 0.5
#: Numbers per frame that `frame_features` gives.
FEATURES = 23
#: Cells of a token's patch in which a transformer says how much is cavity: 4 frames of 4 x 4 cells.
CAVITY_CELLS = 64
#: How far ahead `frame_features` looks for what changes: about one frame.
SOON_S = 0.03
#: Length and width in pixels (width: area over length) of the cavity in the picture, at times in s.
Outline = Callable[[Floats], tuple[Floats, Floats]]
#: How much of its length a ventricle with an EF of 100 % would lose in systole.
SHORTENING = 0.25
USUAL_LENGTH_PX, USUAL_WIDTH_PX = 55.0, 23.0
#: A ventricle's length over the SD of its points along it; the share of its area that is read; the least area that is one.
LENGTH_PER_SPREAD, READ_AREA, LEAST_AREA_PX2 = 3.80, 0.975, 200.0


@dataclass(frozen=True)
class Beats:
    """The beats of an ECG as a generator sees them, in s: R peaks, QRS onsets, P onsets (nan where there is none), wide QRS."""

    r_s: Floats
    qrs_onset_s: Floats
    p_onset_s: Floats
    wide_qrs: NDArray[np.bool_]

    def clock(self, sex: str | None = None, ef_percent: float | None = None) -> BeatClock:
        """When each beat's mechanical events are due."""
        return beat_clock(self.qrs_onset_s, self.p_onset_s, sex=sex, ef_percent=ef_percent, wide_qrs=self.wide_qrs)

    def extended(self, start_s: float, end_s: float) -> Beats:
        """With beats at the median interval added before and after, so that start to end is covered with a beat to spare."""
        interval = float(np.median(np.diff(self.r_s))) if len(self.r_s) > 1 else 0.85
        before = max(0, int(np.ceil((self.r_s[0] - start_s) / interval)) + 1)
        after = max(0, int(np.ceil((end_s - self.r_s[-1]) / interval)) + 1)

        def both(values: Floats) -> Floats:
            early = values[0] - interval * np.arange(before, 0, -1)
            late = values[-1] + interval * np.arange(1, after + 1)
            return np.concatenate([early, values, late])

        offset = self.p_onset_s - self.r_s
        usual = float(np.nanmedian(offset)) if np.isfinite(offset).mean() > 0.5 else float("nan")
        r = both(self.r_s)
        p = np.concatenate([r[:before] + usual, self.p_onset_s, r[len(r) - after :] + usual])
        wide = np.concatenate([np.repeat(self.wide_qrs[:1], before), self.wide_qrs, np.repeat(self.wide_qrs[-1:], after)])
        return Beats(r, both(self.qrs_onset_s), p, wide)


def find_beats(ecg: Ecg) -> Beats:
    """The beats of an ECG by its landmarks. Raises `InputError` where there is no QRS complex."""
    found = ecg_module.find_landmarks(ecg)
    return Beats(found.r_s, found.qrs_onset_s, found.p_onset_s, found.wide_qrs)


def expected_outline(
    beats: Beats, sex: str | None, ef_percent: float, length_px: float, width_px: float, filling: Filling | None = None
) -> Outline:
    """How long and wide the heart's clock expects a cavity to be that has this length and width at end-diastole.

    The volume follows the clock, filling as it is told or as `Filling` has it; the base comes to the apex; the rest is the
    single-plane area-length formula.
    """

    def outline(times_s: Floats) -> tuple[Floats, Floats]:
        near = beats.extended(float(times_s.min()) - 1.0, float(times_s.max()) + 1.0)
        volume = _volume_share(times_s, near.clock(sex, ef_percent), ef_percent, filling or Filling())
        length = 1.0 - SHORTENING * np.clip(1.0 - volume, -0.3, 1.0)
        return length_px * length, width_px * np.sqrt(volume / length)

    return outline


def outline_of_cells(cells: NDArray[np.float64], cell_px: float) -> tuple[float, float] | None:
    """Length and width in pixels of a cavity from the covered share (0..1) of square cells (rows, columns); None without one.

    The length follows from the spread along the long axis, as in the ventricle of the phantom; the width is area over length.
    """
    area = float(cells.sum()) * cell_px**2
    if area < LEAST_AREA_PX2:
        return None
    points = np.indices(cells.shape).reshape(2, -1) * cell_px
    spread = np.cov(points, aweights=cells.ravel(), bias=True)
    length = LENGTH_PER_SPREAD * float(np.sqrt(np.linalg.eigvalsh(spread)[1]))
    return length, area / (READ_AREA * length)


def _volume_share(times_s: Floats, clock: BeatClock, ef_percent: float, filling: Filling) -> Floats:
    """Left ventricular volume over that of a usual end-diastole."""
    edvs, esvs = beat_volumes(clock, 100.0, 100.0 - ef_percent, filling)
    return volume_curve(times_s, clock, edvs, esvs, filling) / 100.0


def frame_features(
    times_s: Floats, beats: Beats, sex: str | None = None, ef_percent: float | None = None, outline: Outline | None = None
) -> NDArray[np.float32]:
    """(len(times_s), FEATURES) float32 of order one: the place of each time in its beat, of the beat in the rhythm.

    Time since the R peak and to the next one, the phase between them, the intervals before and after, the time to
    and from the aortic closure that the heart's clock expects, the time to the A wave, if there is one, and the contraction
    (0 at end-diastole, 1 at end-systole of a usual beat) that the clock expects, alone and times the EF, with its change.
    Then length and width of the cavity and their change, where an outline tells.
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
    onset = np.where(atrial, onset, 0.5)
    usual = 60.0 if ef_percent is None else ef_percent
    both = np.concatenate([times_s, times_s + SOON_S])
    now, soon = np.split((1.0 - _volume_share(both, clock, usual, Filling())) * 100.0 / usual, 2)
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
    first: bool,
    beats: Beats,
    sex: str | None,
    ef_percent: float | None,
    outline: Outline | None = None,
) -> NDArray[np.float32]:
    """(latents, 4 FEATURES): the features of each latent's four frames; a single-frame latent repeats its frame."""
    each = frame_features(frame_times_s, beats, sex, ef_percent, outline)
    if first:
        each = np.concatenate([np.repeat(each[:1], 4, axis=0), each[1:]])
    return each.reshape(-1, 4 * FEATURES)


def latent_times(frame_times_s: Floats, first: bool) -> Floats:
    """(latents,) the mean time of each latent's frames: one frame for a first latent, four for the others."""
    if first:
        return np.concatenate([frame_times_s[:1], frame_times_s[1:].reshape(-1, 4).mean(1)])
    return np.asarray(frame_times_s.reshape(-1, 4).mean(1))


def normalised_lead(lead_mv: NDArray[np.float32]) -> NDArray[np.float32]:
    """A cleaned lead in units of its own size (its 99th percentile of |x|, at least 0.02 mV)."""
    centred = lead_mv - np.median(lead_mv)
    return (centred / max(float(np.percentile(np.abs(centred), 99)), 0.02)).astype(np.float32)


def lead_window(lead: NDArray[np.float32], lead_start_s: float, start_s: float, samples: int) -> NDArray[np.float32]:
    """`samples` of a lead at `ECG_RATE_HZ` from start_s - ECG_BEFORE_S on; zeros where there is no ECG."""
    first = round((start_s - ECG_BEFORE_S - lead_start_s) * ECG_RATE_HZ)
    window = np.zeros(samples, np.float32)
    here = slice(max(first, 0), min(first + samples, len(lead)))
    if here.stop > here.start:
        window[here.start - first : here.stop - first] = lead[here]
    return window


def window_samples(latents: int, seconds_per_latent: float = 0.125) -> int:
    """How many ECG samples a window of latents looks at, in whole patches of 16."""
    seconds = ECG_BEFORE_S + latents * seconds_per_latent + ECG_AFTER_S
    return int(np.ceil(seconds * ECG_RATE_HZ / 16)) * 16
