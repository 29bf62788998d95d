"""Times of heart beats: sinus rhythm, atrial fibrillation, premature beats, pauses, pacing, or the beats of a real ECG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from echogen.arrays import Floats
from echogen.errors import InputError
from echogen.physiology import QRS_ONSET_BEFORE_R_S

RHYTHMS = ("sinus", "af", "pvc", "pause", "paced")
#: Kinds of beat; "wide" is a broad complex of unknown cause in a real ECG.
KINDS = ("normal", "pvc", "paced", "wide")
#: Beats exist at least this long before and after the asked interval.
CONTEXT_S = 2.5
SLOWEST_BPM, FASTEST_BPM = 30.0, 220.0
_SHORTEST_RR_S = 0.30
_SHORTEST_PR_S = 0.12
_LONGEST_PR_S = 0.20


@dataclass(frozen=True, eq=False)
class Rhythm:
    """The beats of a heart, one entry a beat, times in s on the clock of the ECG.

    name: one of `RHYTHMS`, or "recorded" for the beats of a real ECG. r_s: R peaks, strictly increasing.
    p_onset_s: nan where no P wave precedes the beat. kind: one of `KINDS`. qrs_onset_s: start of ventricular activation.
    """

    name: str
    r_s: Floats
    p_onset_s: Floats
    kind: NDArray[np.str_]
    qrs_onset_s: Floats

    def __len__(self) -> int:
        return len(self.r_s)

    @property
    def wide_qrs(self) -> NDArray[np.bool_]:
        """(beats,) true where the QRS is broad because the ventricle was not activated by its own conduction system."""
        return np.asarray(self.kind != "normal")

    def between(self, start_s: float, end_s: float) -> Rhythm:
        """The beats whose R peak lies in [start_s, end_s]; there may be none."""
        part = slice(*np.searchsorted(self.r_s, [start_s, np.nextafter(end_s, np.inf)]))
        return Rhythm(self.name, self.r_s[part], self.p_onset_s[part], self.kind[part], self.qrs_onset_s[part])


def make_rhythm(
    name: str,
    heart_rate_bpm: float,
    start_s: float,
    end_s: float,
    rng: np.random.Generator,
    variability: float | None = None,
) -> Rhythm:
    """Beats of a rhythm from at least 2.5 s before start_s to at least 2.5 s after end_s.

    name: one of `RHYTHMS`. heart_rate_bpm: 30..220, the mean rate inside [start_s, end_s]; with pauses, the rate between them.
    variability: SD of the RR interval as a share of its mean, 0..0.4; None draws a physiological one (sinus 1 to 6 %, less at
    high rates; atrial fibrillation 20 to 25 %; pacing none). At least one premature beat or pause lies inside an interval that
    holds three beats. Raises `InputError` for an unknown rhythm, a rate or variability out of range, or an empty interval.
    """
    if name not in RHYTHMS:
        raise InputError(f"The rhythm must be one of {', '.join(RHYTHMS)}, not {name!r}.")
    if not SLOWEST_BPM <= heart_rate_bpm <= FASTEST_BPM:
        raise InputError(f"The heart rate must lie between {SLOWEST_BPM:.0f} and {FASTEST_BPM:.0f} bpm, not {heart_rate_bpm}.")
    if not (np.isfinite(start_s) and np.isfinite(end_s) and end_s > start_s):
        raise InputError(f"A rhythm needs an end after its start, not {start_s} s to {end_s} s.")
    if variability is not None and not 0.0 <= variability <= 0.4:
        raise InputError(f"The variability must lie between 0 and 0.4 of the mean RR interval, not {variability}.")
    mean_rr = 60.0 / heart_rate_bpm
    spread = _draw_variability(name, heart_rate_bpm, rng) if variability is None else variability
    first = start_s - CONTEXT_S - mean_rr * (1.5 + rng.random())
    count = int(np.ceil((end_s + CONTEXT_S - first) / mean_rr * 1.3)) + 12
    draw_intervals = _irregular_intervals if name == "af" else _sinus_intervals
    rr = draw_intervals(mean_rr, spread, count, rng)
    r = _with_mean_rate(first, rr, mean_rr, start_s, end_s)
    kind = np.full(len(r), "normal", dtype="<U6")
    if name == "pvc":
        r, kind = _with_premature_beats(r, kind, start_s, end_s, rng)
    elif name == "pause":
        r = _with_pauses(r, start_s, end_s, rng)
    elif name == "paced":
        kind[:] = "paced"
    has_p = (kind != "pvc") & (name != "af") & ~(name == "paced" and rng.random() < 0.5)
    onset = r - np.where(kind == "normal", QRS_ONSET_BEFORE_R_S, rng.uniform(0.060, 0.070))
    p_onset = np.where(has_p, onset - _pr_intervals(onset, heart_rate_bpm, rng), np.nan)
    keep = slice(max(int(np.sum(r <= start_s - CONTEXT_S)) - 1, 0), int(np.sum(r < end_s + CONTEXT_S)) + 1)
    return Rhythm(name, r[keep], p_onset[keep], kind[keep], onset[keep])


def rhythm_from_landmarks(
    r_s: ArrayLike, qrs_onset_s: ArrayLike | None = None, p_onset_s: ArrayLike | None = None, wide_qrs: ArrayLike | bool = False
) -> Rhythm:
    """The beats of a real ECG as a rhythm.

    r_s: (beats,) strictly increasing, in s. qrs_onset_s: one a beat; None or nan: 40 ms before R (65 ms if wide); an onset that
    lies less than 15 or more than 120 ms before R is moved to that limit. p_onset_s: one a beat, nan or None: no P wave.
    wide_qrs: one a beat or one for all; a broad beat is "pvc" where it comes early without a P wave, else "wide".
    Raises `InputError` if there is no beat, R peaks do not increase, or lengths disagree.
    """
    r = np.asarray(r_s, dtype=np.float64)
    if r.ndim != 1 or r.size == 0:
        raise InputError("A rhythm needs at least one R peak; this ECG has none.")
    if not np.isfinite(r).all() or (np.diff(r) <= 0).any():
        raise InputError("The R peaks of a rhythm must be finite and strictly increasing.")
    wide = np.asarray(wide_qrs, dtype=bool)
    wide = np.full(r.shape, wide) if wide.ndim == 0 else wide
    onset = np.full(r.shape, np.nan) if qrs_onset_s is None else np.asarray(qrs_onset_s, dtype=np.float64)
    p_onset = np.full(r.shape, np.nan) if p_onset_s is None else np.asarray(p_onset_s, dtype=np.float64)
    if not onset.shape == p_onset.shape == wide.shape == r.shape:
        raise InputError(f"A rhythm needs one QRS onset, P onset and QRS width for each of its {r.size} R peaks.")
    lead_in = np.where(np.isfinite(onset), r - onset, np.where(wide, 0.065, QRS_ONSET_BEFORE_R_S))
    onset = r - np.clip(lead_in, 0.015, 0.120)
    rr = np.diff(r, prepend=np.nan)
    early = rr < 0.85 * np.nanmedian(rr) if r.size > 1 else np.zeros(r.shape, dtype=bool)
    p_onset = np.where(p_onset < onset, p_onset, np.nan)
    kind = np.where(wide, np.where(early & np.isnan(p_onset), "pvc", "wide"), "normal")
    return Rhythm("recorded", r, p_onset, kind, onset)


def _draw_variability(name: str, heart_rate_bpm: float, rng: np.random.Generator) -> float:
    if name == "af":
        return float(rng.uniform(0.20, 0.25))
    if name == "paced":
        return 0.0
    usual = np.interp(heart_rate_bpm, [40.0, 60.0, 100.0, 140.0, 180.0], [0.045, 0.040, 0.020, 0.010, 0.006])
    return float(usual * np.exp(rng.normal(0.0, 0.35)))


def _sinus_intervals(mean_rr: float, spread: float, count: int, rng: np.random.Generator) -> Floats:
    """RR intervals with respiratory arrhythmia (0.2..0.32 Hz), a slow wave (about 0.1 Hz), drift and jitter."""
    times = np.arange(count) * mean_rr
    breath = np.sin(2 * np.pi * rng.uniform(0.20, 0.32) * times + rng.uniform(0, 2 * np.pi))
    slow = np.sin(2 * np.pi * rng.uniform(0.08, 0.12) * times + rng.uniform(0, 2 * np.pi))
    drift = np.sin(2 * np.pi * rng.uniform(0.01, 0.04) * times + rng.uniform(0, 2 * np.pi))
    jitter = rng.normal(0.0, 1.0, count).clip(-2.5, 2.5)
    shares = rng.dirichlet([3.0, 1.5, 1.0, 0.7])
    # A sine has a variance of one half.
    change = np.sqrt(2 * shares[0]) * breath + np.sqrt(2 * shares[1]) * slow + np.sqrt(2 * shares[2]) * drift
    return np.asarray(mean_rr * (1.0 + spread * (change + np.sqrt(shares[3]) * jitter)).clip(0.5, 2.0))


def _irregular_intervals(mean_rr: float, spread: float, count: int, rng: np.random.Generator) -> Floats:
    """Independent gamma-distributed RR intervals above a shortest one; at very high rates there is less room to vary."""
    floor = min(_SHORTEST_RR_S, 0.94 * mean_rr)
    deviation = max(min(spread * mean_rr, 0.7 * (mean_rr - floor)), 1e-6)
    shape = ((mean_rr - floor) / deviation) ** 2
    return np.asarray(floor + rng.gamma(shape, (mean_rr - floor) / shape, count))


def _with_mean_rate(first_s: float, rr_s: Floats, mean_rr: float, start_s: float, end_s: float) -> Floats:
    """R peaks from intervals that are stretched, above a lower bound, until their mean in [start_s, end_s] is the asked one."""
    floor = min(_SHORTEST_RR_S, 0.94 * mean_rr)
    r, best_error = first_s + np.concatenate([[0.0], np.cumsum(rr_s)]), np.inf
    candidate = r
    for _ in range(8):
        inside = (candidate[:-1] >= start_s) & (candidate[1:] <= end_s)
        if inside.sum() < 3:
            inside = np.ones(len(rr_s), dtype=bool)
        mean_inside = float(rr_s[inside].mean())
        error = abs(mean_inside / mean_rr - 1.0)
        if error < best_error:
            r, best_error = candidate, error
        rr_s = floor + np.maximum(rr_s - floor, 0.0) * (mean_rr - floor) / max(mean_inside - floor, 1e-6)
        candidate = first_s + np.concatenate([[0.0], np.cumsum(rr_s)])
    return r


def _event_beats(
    r_s: Floats, start_s: float, end_s: float, room_s: float, step: tuple[int, int], rng: np.random.Generator
) -> tuple[int, NDArray[np.int64]]:
    """One beat whose RR interval, if it lasted room_s, lies inside [start_s, end_s], and all beats with an event around it.

    Events are `step` beats apart (inclusive bounds).
    """
    before = r_s[:-1]
    candidates = np.flatnonzero((before >= start_s) & (before + room_s <= end_s)) + 1
    if len(candidates) == 0:
        candidates = np.flatnonzero((before >= start_s) & (r_s[1:] <= end_s)) + 1
    anchor = int(rng.choice(candidates)) if len(candidates) else int(rng.integers(2, len(r_s) - 1))
    forward = anchor + np.cumsum(rng.integers(step[0], step[1] + 1, len(r_s)))
    backward = anchor - np.cumsum(rng.integers(step[0], step[1] + 1, len(r_s)))
    chosen = np.concatenate([backward[::-1], [anchor], forward])
    return anchor, chosen[(chosen >= 1) & (chosen < len(r_s) - 1)]


def _with_premature_beats(
    r_s: Floats, kind: NDArray[np.str_], start_s: float, end_s: float, rng: np.random.Generator
) -> tuple[Floats, NDArray[np.str_]]:
    """Ventricular beats come early; the sinus node goes on undisturbed, so that the pause is fully compensatory."""
    r, kind = r_s.copy(), kind.copy()
    step = (2, 2) if rng.random() < 0.15 else (4, 10)
    _, beats = _event_beats(r_s, start_s, end_s, float(np.diff(r_s).max()), step, rng)
    rr = r_s[beats] - r_s[beats - 1]
    coupling = (rng.uniform(0.45, 0.65) + rng.normal(0.0, 0.01, len(beats))).clip(0.45, 0.65)
    r[beats] = r_s[beats - 1] + np.minimum(np.maximum(coupling * rr, _SHORTEST_RR_S), 0.85 * rr)
    kind[beats] = "pvc"
    pairs = rng.random(len(beats)) < (0.25 if rng.random() < 0.3 else 0.0)
    pairs &= rr > 0.65
    couplets = beats[pairs]
    second = r[couplets] + np.maximum(rng.uniform(0.45, 0.60, len(couplets)) * rr[pairs], _SHORTEST_RR_S)
    return np.insert(r, couplets + 1, second), np.insert(kind, couplets + 1, "pvc")


def _with_pauses(r_s: Floats, start_s: float, end_s: float, rng: np.random.Generator) -> Floats:
    """Some RR intervals last 1.6..2.6 times as long; the beat before one of those inside the interval stays where it was."""
    longest = 2.6
    anchor, beats = _event_beats(r_s, start_s, end_s, longest * float(np.diff(r_s).max()), (6, 16), rng)
    rr = np.diff(r_s)
    rr[beats - 1] *= rng.uniform(1.6, longest, len(beats))
    r = r_s[0] + np.concatenate([[0.0], np.cumsum(rr)])
    return np.asarray(r + r_s[anchor - 1] - r[anchor - 1])


def _pr_intervals(qrs_onset_s: Floats, heart_rate_bpm: float, rng: np.random.Generator) -> Floats:
    """PR intervals of 120..200 ms, shorter at high rates, a little different from beat to beat."""
    usual = rng.normal(0.165, 0.020) - 0.0005 * (heart_rate_bpm - 70.0)
    pr = (usual + rng.normal(0.0, 0.002, len(qrs_onset_s))).clip(_SHORTEST_PR_S, _LONGEST_PR_S)
    rr = np.diff(qrs_onset_s, prepend=qrs_onset_s[0] - 60.0 / heart_rate_bpm)
    # The P wave stays clear of the T wave before it as far as the shortest PR interval allows.
    return np.asarray(np.maximum(np.minimum(pr, 0.45 * rr), _SHORTEST_PR_S))
