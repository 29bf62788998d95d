"""Faults and rarities of an ECG or a first frame, each one pure function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from echogen.phantom.rhythm import Rhythm, make_rhythm
from echogen.records import ByteArray, Ecg

Floats = NDArray[np.float64]
Random = np.random.Generator


def moved_times(times_s: Floats, from_s: float, to_s: float, shift_s: float) -> Floats:
    """Where each time comes to lie when the stretch from from_s to to_s gets longer by shift_s; all after it moves along.

    A negative shift shortens the stretch and must be smaller than it. nan stays nan.
    """
    return np.asarray(times_s + shift_s * np.clip((times_s - from_s) / (to_s - from_s), 0.0, 1.0))


def moved_ecg(ecg: Ecg, from_s: float, to_s: float, shift_s: float) -> Ecg:
    """The ECG with its time stretched as in `moved_times`; it begins as before and ends no later.

    Shifts of whole samples leave what lies after to_s as it was, sample for sample.
    """
    old = moved_times(ecg.times_s, from_s, to_s + shift_s, -shift_s)
    old = old[old <= ecg.times_s[-1] + 1e-9]
    return replace(ecg, signal_mv=np.stack([np.interp(old, ecg.times_s, lead) for lead in ecg.signal_mv]))


def moved_rhythm(rhythm: Rhythm, from_s: float, to_s: float, shift_s: float) -> Rhythm:
    """The beats with their time stretched as in `moved_times`."""
    r, p, onset = (moved_times(t, from_s, to_s, shift_s) for t in (rhythm.r_s, rhythm.p_onset_s, rhythm.qrs_onset_s))
    return replace(rhythm, r_s=r, p_onset_s=p, qrs_onset_s=onset)


def quiet_before(rhythm: Rhythm, beat: int) -> tuple[float, float]:
    """From the middle of the RR interval before a beat to 20 ms before its QRS: the stretch that a shift changes."""
    before, onset = float(rhythm.r_s[beat - 1]), float(rhythm.qrs_onset_s[beat])
    return 0.5 * (before + float(rhythm.r_s[beat])), onset - 0.020


def shifted_from(ecg: Ecg, rhythm: Rhythm, beat: int, shift_s: float) -> tuple[Ecg, Rhythm]:
    """QRS and T of a beat, and all that follows, come later by shift_s (earlier where it is negative)."""
    stretch = quiet_before(rhythm, beat)
    return moved_ecg(ecg, *stretch, shift_s), moved_rhythm(rhythm, *stretch, shift_s)


def beat_shifted(ecg: Ecg, rhythm: Rhythm, beat: int, shift_s: float) -> tuple[Ecg, Rhythm]:
    """QRS and T of one beat alone come later or earlier by shift_s; the beat after it stays where it was."""
    return shifted_from(*shifted_from(ecg, rhythm, beat, shift_s), beat + 1, -shift_s)


def bigeminy(rhythm: Rhythm, coupling: float = 0.6) -> Rhythm:
    """Every other beat becomes a ventricular one that comes after `coupling` of the RR interval; the pause is compensatory."""
    r, p, onset, kind = rhythm.r_s.copy(), rhythm.p_onset_s.copy(), rhythm.qrs_onset_s.copy(), rhythm.kind.copy()
    r[1::2] = r[:-1:2] + coupling * (r[1::2] - r[:-1:2])
    p[1::2], kind[1::2], onset[1::2] = np.nan, "pvc", r[1::2] - 0.065
    return Rhythm("bigeminy", r, p, kind, onset)


def _with(ecg: Ecg, signal_mv: NDArray[Any]) -> Ecg:
    return replace(ecg, signal_mv=signal_mv.astype(np.float32))


def flat(ecg: Ecg) -> Ecg:
    """No signal at all."""
    return replace(ecg, signal_mv=np.zeros_like(ecg.signal_mv))


def wandering(ecg: Ecg, millivolts: float = 2.0, hertz: float = 0.3) -> Ecg:
    """A baseline that goes up and down."""
    return _with(ecg, ecg.signal_mv + millivolts * np.sin(2 * np.pi * hertz * ecg.times_s))


def with_mains(ecg: Ecg, millivolts: float = 0.5, hertz: float = 50.0) -> Ecg:
    """Hum of the mains in every lead."""
    return wandering(ecg, millivolts, hertz)


def noisy(ecg: Ecg, random: Random, millivolts: float) -> Ecg:
    """White noise of this SD in every lead, each its own."""
    return _with(ecg, ecg.signal_mv + random.normal(0.0, millivolts, ecg.signal_mv.shape))


def popping(ecg: Ecg, random: Random, millivolts: float = 5.0, every_s: float = 1.0, decay_s: float = 0.1) -> Ecg:
    """Artefacts of a moving electrode in all leads: jumps that decay, at random times."""
    at = random.uniform(ecg.start_s, ecg.end_s, max(1, round(ecg.duration_s / every_s)))
    size = millivolts * random.choice((-1.0, 1.0), len(at))
    since = ecg.times_s[None] - at[:, None]
    jumps = np.where(since >= 0, np.exp(-np.maximum(since, 0.0) / decay_s), 0.0)
    return _with(ecg, ecg.signal_mv + size @ jumps)


def clipped(ecg: Ecg, share: float = 0.3) -> Ecg:
    """Each lead cut off at this share of its largest deflection from its median."""
    middle = np.median(ecg.signal_mv, axis=1, keepdims=True)
    limit = share * np.abs(ecg.signal_mv - middle).max(axis=1, keepdims=True)
    return replace(ecg, signal_mv=middle + np.clip(ecg.signal_mv - middle, -limit, limit))


def inverted(ecg: Ecg) -> Ecg:
    """Every lead upside down, as with exchanged electrodes."""
    return replace(ecg, signal_mv=-ecg.signal_mv)


def lead_off(ecg: Ecg, from_s: float, to_s: float) -> Ecg:
    """All leads at 0 mV for a while."""
    off = (ecg.times_s >= from_s) & (ecg.times_s < to_s)
    return replace(ecg, signal_mv=np.where(off, 0.0, ecg.signal_mv))


def without_qrs(ecg: Ecg, r_s: Floats, half_width_s: float = 0.08) -> Ecg:
    """A straight line in place of the QRS complexes at these R peaks."""
    signal, times = ecg.signal_mv.copy(), ecg.times_s
    for r in r_s:
        gone = np.flatnonzero(np.abs(times - r) <= half_width_s)
        if len(gone):
            ends = signal[:, [gone[0], gone[-1]]]
            signal[:, gone] = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * np.linspace(0.0, 1.0, len(gone))
    return replace(ecg, signal_mv=signal)


def wrong_unit(ecg: Ecg, factor: float = 1000.0) -> Ecg:
    """Microvolts taken for millivolts."""
    return replace(ecg, signal_mv=ecg.signal_mv * np.float32(factor))


@dataclass(frozen=True)
class EcgFault:
    """A named fault of a recording; done: what was done, for a table. apply: (ECG, its R peaks in s, random source) -> ECG."""

    name: str
    done: str
    apply: Callable[[Ecg, Floats, Random], Ecg]


ECG_FAULTS = (
    EcgFault("baseline wander", "2 mV at 0.3 Hz", lambda ecg, r, random: wandering(ecg)),
    EcgFault("mains hum", "0.5 mV at 50 Hz", lambda ecg, r, random: with_mains(ecg)),
    EcgFault("electrode noise", "white, SD 0.2 mV", lambda ecg, r, random: noisy(ecg, random, 0.2)),
    EcgFault("strong noise", "white, SD 1 mV", lambda ecg, r, random: noisy(ecg, random, 1.0)),
    EcgFault("moving electrode", "5 mV jumps, one a second", lambda ecg, r, random: popping(ecg, random)),
    EcgFault("clipped", "at 30 % of each lead's range", lambda ecg, r, random: clipped(ecg)),
    EcgFault("inverted", "every lead", lambda ecg, r, random: inverted(ecg)),
    EcgFault("lead off", "0 mV for 1.5 s of every 5 s", lambda ecg, r, random: _off_and_on(ecg)),
    EcgFault("missing QRS", "of every third beat", lambda ecg, r, random: without_qrs(ecg, r[::3])),
    EcgFault("wrong unit", "µV taken for mV", lambda ecg, r, random: wrong_unit(ecg)),
    EcgFault("noise alone", "no ECG, white, SD 0.3 mV", lambda ecg, r, random: noisy(flat(ecg), random, 0.3)),
)


def _off_and_on(ecg: Ecg) -> Ecg:
    for begin in np.arange(ecg.start_s + 2.0, ecg.end_s, 5.0):
        ecg = lead_off(ecg, begin, begin + 1.5)
    return ecg


@dataclass(frozen=True)
class UnusualRhythm:
    """A named rhythm in which another ECG and truth are simulated. make: (from s, to s, random source) -> beats."""

    name: str
    done: str
    make: Callable[[float, float, Random], Rhythm]


UNUSUAL_RHYTHMS = (
    UnusualRhythm("very fast", "sinus, 180 bpm", lambda a, b, random: make_rhythm("sinus", 180.0, a, b, random)),
    UnusualRhythm("very slow", "sinus, 35 bpm", lambda a, b, random: make_rhythm("sinus", 35.0, a, b, random)),
    UnusualRhythm("atrial fibrillation", "110 bpm", lambda a, b, random: make_rhythm("af", 110.0, a, b, random)),
    UnusualRhythm("bigeminy", "sinus, 75 bpm", lambda a, b, random: bigeminy(make_rhythm("sinus", 75.0, a, b, random))),
)


@dataclass(frozen=True)
class ImageFault:
    """A named fault of a first frame. apply: ((H, W) uint8, random source) -> the same."""

    name: str
    done: str
    apply: Callable[[ByteArray, Random], ByteArray]


def noisy_image(image: ByteArray, random: Random, grey_levels: float = 60.0) -> ByteArray:
    """White noise of this SD in every pixel."""
    return np.clip(image + random.normal(0.0, grey_levels, image.shape), 0, 255).astype(np.uint8)


def blurred_image(image: ByteArray, sigma_px: float = 5.0) -> ByteArray:
    """Out of focus."""
    return np.asarray(gaussian_filter(image.astype(np.float64), sigma_px) + 0.5).astype(np.uint8)


IMAGE_FAULTS = (
    ImageFault("noisy image", "white, SD 60 grey levels", noisy_image),
    ImageFault("dark image", "a fifth of the brightness", lambda image, random: (image // 5).astype(np.uint8)),
    ImageFault("blurred image", "sigma 5 pixels", lambda image, random: blurred_image(image)),
    ImageFault("upside down", "turned by 180 degrees", lambda image, random: np.ascontiguousarray(image[::-1, ::-1])),
    ImageFault("black image", "nothing in it", lambda image, random: np.zeros_like(image)),
)
