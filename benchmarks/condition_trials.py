"""Videos of held-out hearts under other ECGs than their own, each with what it should show: what conditions.py is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import echogen
from echogen.datasets.clip_store import ECG_BEFORE_S, ECG_RATE_HZ, draw_recording
from echogen.ecg import find_landmarks, signal_quality
from echogen.ecg.leads import STANDARD_LEADS
from echogen.errors import InputError
from echogen.generators.base import ECG_FUTURE_S, ECG_PAST_S
from echogen.measurement import measure
from echogen.measurement.shipped import load_segmenter
from echogen.metrics.heart.timing import match_beats, within_video
from echogen.phantom.rhythm import Rhythm, rhythm_from_landmarks
from echogen.phantom.simulate import Heart, render
from echogen.physiology import BeatClock, beat_clock, beat_volumes
from echogen.records import Cine, Ecg

Floats = NDArray[np.float64]

#: Beats of the first second, whose phase the first frame alone could tell, are not judged.
SETTLING_S = 1.0
WATCH = ("ecg_2021-12-17_redacted.csv", "ecg_2023-09-26_redacted.csv")


@dataclass(frozen=True)
class Trial:
    """A video to make: the ECG that is given (None: none), the beats that it should show, its start in s, and a first frame."""

    name: str
    ecg: Ecg | None
    rhythm: Rhythm
    start_s: float
    image: Cine | None = None


@dataclass(frozen=True)
class Shown:
    """What a video shows: its end-diastoles and end-systoles in s and its EF; none where no ventricle can be made out."""

    cine: Cine
    ed_s: Floats
    es_s: Floats
    ef_percent: float


@dataclass(frozen=True)
class Result:
    """A trial's expected beats, what the command says to the ECG, the beats it finds in it, the video, and the truth's."""

    trial: Trial
    clock: BeatClock
    expected_s: Floats
    verdict: str
    answer: str
    r_found: float
    made: Shown | None
    truth: Shown | None


def shown(cine: Cine) -> Shown:
    try:
        reading = measure(cine, load_segmenter())
    except InputError:
        return Shown(cine, np.zeros(0), np.zeros(0), float("nan"))
    ef = float("nan") if reading.ef_percent is None else reading.ef_percent
    return Shown(cine, np.array([beat.ed_s for beat in reading.beats]), np.array([beat.es_s for beat in reading.beats]), ef)


def heart_with(heart: Heart, rhythm: Rhythm) -> Heart:
    """The same subject with other beats."""
    anatomy = heart.anatomy
    clock = beat_clock(
        rhythm.qrs_onset_s, rhythm.p_onset_s, sex=heart.sex, ef_percent=anatomy.ef_percent, wide_qrs=rhythm.wide_qrs
    )
    edvs, esvs = beat_volumes(clock, anatomy.edv_ml, anatomy.edv_ml * (1 - anatomy.ef_percent / 100), heart.filling)
    return replace(heart, rhythm=rhythm, clock=clock, edvs_ml=edvs, esvs_ml=esvs)


def first_ed(clock: BeatClock, after_s: float) -> float:
    return float(clock.ed_s[clock.ed_s >= after_s][0])


def answer_to(ecg: Ecg | None) -> tuple[str, str, Floats]:
    """The quality verdict, what `echogen generate` does with such an ECG, and the R peaks it finds."""
    if ecg is None:
        return "flat", "generates", np.zeros(0)
    verdict = signal_quality(ecg).verdict
    try:
        r_s = find_landmarks(ecg).r_s
    except InputError:
        return verdict, "refuses", np.zeros(0)
    return verdict, {"flat": "refuses", "poor": "warns"}.get(verdict, "generates"), r_s


class Case:
    """One held-out heart: its own ECG, its first end-diastolic frame, and the videos made of both, with its EF asked or not."""

    def __init__(self, generator: echogen.Generator, seed: int, seconds: float, video_seed: int, ask_ef: bool = True) -> None:
        self.takes = generator.takes if ask_ef else generator.takes - {"ef_percent"}
        self.generator, self.seed, self.seconds, self.video_seed = generator, seed, seconds, video_seed + seed
        self.heart, leads = draw_recording(seed, seconds + 4.0)
        self.ecg = Ecg(leads, ECG_RATE_HZ, STANDARD_LEADS, -ECG_BEFORE_S)
        self.start_s = first_ed(self.heart.clock, 0.0)
        still = render(self.heart, np.array([self.start_s]), seed).frames
        self.image = Cine(still, np.zeros(1), self.heart.probe.mm_per_pixel, self.heart.anatomy.view)
        low, high = generator.ef_range
        self.ef_percent = float(np.clip(self.heart.anatomy.ef_percent, low, high))

    @property
    def own(self) -> Trial:
        return Trial("own ECG", self.ecg, self.heart.rhythm, self.start_s)

    @property
    def middle_beat(self) -> int:
        """The first beat that comes after two fifths of the video."""
        return int(np.searchsorted(self.heart.rhythm.r_s, self.start_s + 0.4 * self.seconds))

    def shift_s(self, share: float) -> float:
        """That share of the RR interval before the middle beat, in whole ECG samples."""
        r_s = self.heart.rhythm.r_s[self.middle_beat - 1 :]
        return round(share * float(r_s[1] - r_s[0]) * ECG_RATE_HZ) / ECG_RATE_HZ

    def truth(self, trial: Trial) -> Shown:
        times = trial.start_s + np.arange(round(self.seconds * self.generator.native_fps)) / self.generator.native_fps
        heart = heart_with(self.heart, trial.rhythm)
        return shown(Cine(render(heart, times, self.seed).frames, times, heart.probe.mm_per_pixel))

    def run(self, trial: Trial, *, truth: bool = False, seed: int = 0) -> Result:
        """Make a trial's video, unless its ECG is refused, and measure it; with `truth` the simulated one too."""
        end = trial.start_s + self.seconds
        ecg = trial.ecg and trial.ecg.between(trial.start_s - ECG_PAST_S, end + ECG_FUTURE_S)
        verdict, answer, found = answer_to(ecg)
        found = found[(found >= trial.start_s) & (found <= end)]
        true_r = trial.rhythm.between(trial.start_s, end).r_s
        r_found = len(match_beats(found, true_r, 0.05).pairs) / max(len(found), len(true_r), 1)
        anatomy = self.heart.anatomy
        asked: dict[str, Any] = {
            "reference": trial.image or self.image,
            "ef_percent": self.ef_percent,
            "view": anatomy.view,
            "sex": self.heart.sex,
        }
        asked = {name: value for name, value in asked.items() if name in self.takes}
        made = None
        if answer != "refuses":
            try:
                cine = self.generator(ecg, start_s=trial.start_s, seconds=self.seconds, seed=self.video_seed + seed, **asked)
                made = shown(cine)
            except InputError:
                answer = "refuses"
        clock = heart_with(self.heart, trial.rhythm).clock
        expected = clock.avc_s[within_video(clock, trial.start_s + SETTLING_S, end)]
        return Result(trial, clock, expected, verdict, answer, r_found, made, self.truth(trial) if truth else None)


def watch_trial(case: Case, folder: str | None) -> Trial | None:
    """A stretch of a real recording of one lead; every heart takes another."""
    if not folder:
        return None
    ecg = echogen.read_ecg(Path(folder) / "ecg_apple" / WATCH[case.seed % len(WATCH)])
    marks = find_landmarks(ecg)
    rhythm = rhythm_from_landmarks(marks.r_s, marks.qrs_onset_s, marks.p_onset_s, marks.wide_qrs)
    clock = heart_with(case.heart, rhythm).clock
    latest = ecg.end_s - case.seconds - 1.0
    return Trial("Apple Watch", ecg, rhythm, first_ed(clock, float((case.seed % 12) / 12 * (latest - 2.0))))
