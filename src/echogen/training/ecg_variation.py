"""Variations of an ECG's part of a training window: the lead that is seen, and beats as a detector might find them."""

from __future__ import annotations

import numpy as np

from echogen import ecg as ecg_module
from echogen.ecg.leads import STANDARD_LEADS
from echogen.ecg_window.beats import Beats
from echogen.records import Ecg

#: Share of P waves that are hidden one by one, as a detector misses some.
MISSED_P_SHARE = 0.05
#: Share of windows in which all P waves are hidden, as in an ECG in which none can be seen.
NO_P_SHARE = 0.08
#: SD in s of the error that the onsets of P waves get.
P_JITTER_S = 0.010
#: Share of each of the standard leads in training: the usual rhythm leads, which users have most, come most.
_LEAD_SHARE = dict(zip(STANDARD_LEADS, (3, 6, 1, 0.5, 1, 1, 1, 1, 1, 1.5, 2, 2), strict=True))
#: Share of a lead with another name.
_OTHER_LEAD_SHARE = 1.0


def random_lead(ecg: Ecg, rng: np.random.Generator, rate_hz: float) -> Ecg:
    """A random lead of an ECG, cleaned, at a sampling rate in Hz."""
    shares = np.array([_LEAD_SHARE.get(name, _OTHER_LEAD_SHARE) for name in ecg.lead_names])
    name = ecg.lead_names[int(rng.choice(len(shares), p=shares / shares.sum()))]
    return ecg_module.resample(ecg_module.clean(Ecg(ecg.lead(name)[None], ecg.rate_hz, (name,), ecg.start_s)), rate_hz)


def as_detected(beats: Beats, rng: np.random.Generator, jitter_s: float) -> Beats:
    """Beats as a detector might find them: a little off, now and then without their P wave."""
    off = rng.normal(0.0, jitter_s, len(beats.r_s)) + rng.normal(0.0, jitter_s)
    missed = rng.random(len(beats.r_s)) < MISSED_P_SHARE
    p = np.where(missed, np.nan, beats.p_onset_s + rng.normal(0.0, P_JITTER_S, len(beats.r_s)))
    if rng.random() < NO_P_SHARE:
        p = np.full(len(p), np.nan)
    return Beats(beats.r_s + off, beats.qrs_onset_s + off, p, beats.wide_qrs)
