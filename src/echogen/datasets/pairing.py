"""ECGs for echo that has none: in time with the beats of the video, simulated or of a recording of somebody else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from echogen.arrays import Floats
from echogen.datasets.ecg_folder import EcgFolder
from echogen.datasets.patients import group_of, hash_of, patient_of
from echogen.datasets.registry import DATASETS, open_dataset, recognise
from echogen.datasets.shards import Sample
from echogen.ecg.landmarks import Landmarks, find_landmarks
from echogen.ecg.moved_beats import move_beats
from echogen.errors import InputError
from echogen.phantom.electrical import draw_style, make_ecg
from echogen.phantom.rhythm import rhythm_from_landmarks
from echogen.physiology import MITRAL_CLOSURE_S, QRS_ONSET_BEFORE_R_S, systolic_intervals
from echogen.records import Ecg

#: Name of the ECGs that are simulated.
SIMULATED = "simulated"
#: Label that says by what an ECG and a video of a sample belong together; a recorded pair has none.
LABEL = "paired_by"
#: Value of the label: the beats of both lie at the same times, but they were not recorded together.
BY_TIME = "time"
#: ECG before the first and after the last frame in s, as training windows need it.
BEFORE_S, AFTER_S = 2.5, 1.5
#: Sampling rate of the ECGs in Hz: a usual one of recorders.
RATE_HZ = 500.0
#: Slowest and fastest heart in beats per minute that is believed.
SLOWEST_BPM, FASTEST_BPM = 35.0, 190.0
#: Groups into which patients and recordings are divided: patients who are held out, a share of n / GROUPS of all, never share a
#: recording with others where an archive has recordings in every group.
GROUPS = 20
#: Parts of an archive, as shares of its patients, for samples of a data set's own splits; other names count as the first.
SPLIT_SHARES = {"train": 0.8, "val": 0.1, "test": 0.1}
#: Recordings of a group that are looked at for one patient; the one with the likest rate and rhythm is taken.
LOOKED_AT = 8
#: Longest part of a video in beats that may lie outside its known beats.
FARTHEST_BEATS = 1.5
#: Shortest and longest time in s from end-diastole to end-systole that is believed.
SYSTOLE_S = (0.12, 0.55)
#: Longest systole over the RR interval that is believed; it is 0.6 at 150 beats per minute.
LONGEST_SYSTOLE_SHARE = 0.7
#: Lowest and highest measured EF in % of a video whose beats are believed; outside of it the outlines are wrong.
EF_PERCENT = (5.0, 88.0)


@dataclass(frozen=True)
class Pairing:
    """Source of the ECGs.

    ecg: "simulated", or the folder of an archive of ECGs: a data set that the registry knows, or files of any format.
    seed: Seed of all that is drawn.
    """

    ecg: str = SIMULATED
    seed: int = 0


@dataclass(frozen=True)
class EchoBeats:
    """Beats of a video as its ECG must have them, one entry a beat, with a beat or more beyond both of its ends.

    r_s: R peaks in s.
    es_s: End-systoles in s.
    """

    r_s: Floats
    es_s: Floats

    @property
    def interval_s(self) -> float:
        """Median RR interval in s."""
        return float(np.median(np.diff(self.r_s)))

    @property
    def irregularity(self) -> float:
        """SD of the RR intervals over their mean."""
        intervals = np.diff(self.r_s)
        return float(intervals.std() / intervals.mean())


def with_paired_ecg(sample: Sample, pairing: Pairing) -> Sample:
    """Sample with an ECG whose beats lie at those of its video; one that was recorded with the video stays as it is.

    The label "paired_by" is then "time", and "ecg_of" names the recording, or "simulated". Raises `InputError` for a sample
    without beats, with beats that no heart makes, or whose video reaches too far beyond its beats.
    """
    if sample.cine is None:
        raise InputError(f"{sample.key} holds no echo video.")
    if sample.ecg is not None and sample.labels.get("synchronous", True) is not False:
        return sample
    beats = echo_beats(sample)
    patient = patient_of(sample)
    rng = np.random.default_rng([pairing.seed, hash_of(patient), hash_of(sample.key)])
    start, end = float(sample.cine.times_s[0]) - BEFORE_S, float(sample.cine.times_s[-1]) + AFTER_S
    if pairing.ecg == SIMULATED:
        ecg, name = simulated_on(beats, start, end, rng), SIMULATED
    else:
        split = sample.labels.get("split")
        ecg, name = recorded_on(beats, start, end, pairing, patient, rng, split=None if split is None else str(split))
    labels: dict[str, Any] = {key: value for key, value in sample.labels.items() if key not in ("synchronous", "apart_s")}
    return replace(sample, ecg=ecg, labels=labels | {LABEL: BY_TIME, "ecg_of": name})


def echo_beats(sample: Sample) -> EchoBeats:
    """Beats of a sample's video by its labels, with further ones at the usual interval beyond its ends.

    A video of a single beat gives the interval by the length of its systole (Weissler's regression, see
    `physiology.systolic_intervals`). Raises `InputError` as `with_paired_ecg` does.
    """
    assert sample.cine is not None
    known = sorted((float(beat["ed_s"]), float(beat["es_s"])) for beat in sample.labels.get("beats") or ())
    if not known:
        reason = sample.labels.get("not_measured", "its data set states none; use `echogen prepare --labels measured` first")
        raise InputError(f"The beats of this video are not known: {reason}")
    ed, es = np.array(known).T
    frame_s = float(np.median(np.diff(sample.cine.times_s)))  # ED and ES are known to half a frame each
    for length in es - ed:
        if not SYSTOLE_S[0] - frame_s <= length <= SYSTOLE_S[1] + frame_s:
            raise InputError(f"A systole of {length:.2f} s, as found in this video, is none that a heart has.")
    if "ef_percent" in sample.labels.get("measured", ()) and not EF_PERCENT[0] <= sample.labels["ef_percent"] <= EF_PERCENT[1]:
        raise InputError(f"The EF measured in this video, {sample.labels['ef_percent']:.0f} %, is none that a heart has.")
    onset = ed - MITRAL_CLOSURE_S
    systole = float(np.median(es - onset))
    interval = float(np.median(np.diff(es))) if len(es) > 1 else interval_of_systole(systole)
    if not 60.0 / FASTEST_BPM <= interval <= 60.0 / SLOWEST_BPM:
        raise InputError(f"The beats of this video come {60.0 / interval:.0f} times a minute, which no heart does.")
    if systole > LONGEST_SYSTOLE_SHARE * interval:
        raise InputError(f"Systole takes {systole:.2f} of {interval:.2f} s a beat in this video, which no heart does.")
    if len(es) > 1 and np.diff(es).max() > 2.2 * interval:
        raise InputError("A beat seems to be missing among those of this video.")
    start, end = float(sample.cine.times_s[0]), float(sample.cine.times_s[-1])
    beyond = max(onset[0] - start, end - (onset[-1] + interval)) / interval
    if beyond > FARTHEST_BEATS:
        raise InputError(f"{beyond:.1f} beats of this video lie outside of those that are known; measure them all.")
    before = int(np.ceil((onset[0] - start + BEFORE_S) / interval)) + 2
    after = int(np.ceil((end + AFTER_S - onset[-1]) / interval)) + 2
    r = onset + QRS_ONSET_BEFORE_R_S
    ends = (r[0] - interval * np.arange(before, 0, -1), r[-1] + interval * np.arange(1, after + 1))
    longer = np.concatenate([ends[0], r, ends[1]])
    systoles = np.concatenate([np.full(before, systole), es - onset, np.full(after, systole)])
    return EchoBeats(longer, longer - QRS_ONSET_BEFORE_R_S + systoles)


def interval_of_systole(systole_s: float) -> float:
    """RR interval in s of a heart whose systole, from QRS onset to aortic closure, takes this time."""
    rates = np.linspace(SLOWEST_BPM, FASTEST_BPM, 500)
    pep, lvet = systolic_intervals(rates)
    return float(60.0 / rates[np.abs(pep + lvet - systole_s).argmin()])


def simulated_on(beats: EchoBeats, start_s: float, end_s: float, rng: np.random.Generator) -> Ecg:
    """Simulated 12-lead ECG of these beats, in a style that is drawn, with a QT interval that ends at their end-systole."""
    onset = beats.r_s - QRS_ONSET_BEFORE_R_S
    p_onset = onset - np.clip(0.16 * np.sqrt(np.gradient(beats.r_s)), 0.12, 0.20)
    rhythm = rhythm_from_landmarks(beats.r_s, onset, p_onset)
    qt = float(np.median(beats.es_s - onset)) / np.sqrt(beats.interval_s)
    style = replace(draw_style(rng), qt_s=float(np.clip(qt, 0.32, 0.48)))
    return make_ecg(rhythm, start_s, end_s, rng, rate_hz=RATE_HZ, style=style)


def recorded_on(
    beats: EchoBeats,
    start_s: float,
    end_s: float,
    pairing: Pairing,
    patient: str,
    rng: np.random.Generator,
    *,
    split: str | None = None,
) -> tuple[Ecg, str]:
    """Recording of an archive with its beats moved onto these, and its name; patients of one group share its recordings.

    split: Name of the data set's own split; samples of different splits never share a recording.
    Raises `InputError` where no recording of the group can be used.
    """
    archive = _archive(pairing.ecg)
    group = archive.group(group_of(patient, GROUPS), split)
    order = [group[int(place)] for place in rng.permutation(len(group))]
    usable: list[tuple[float, int, Ecg, Landmarks]] = []
    for index in order:
        found = archive.read(index)
        if found is not None:
            usable.append((_unlikeness(found[1], beats), index, *found))
        if len(usable) == LOOKED_AT:
            break
    if not usable:
        raise InputError(f"No ECG of the archive {pairing.ecg} for this patient's group could be used.")
    _, index, ecg, landmarks = min(usable, key=lambda each: each[:2])
    first = int(rng.integers(len(landmarks)))
    return move_beats(ecg, landmarks, beats.r_s, beats.es_s, start_s, end_s, RATE_HZ, first), archive.names[index]


def _unlikeness(landmarks: Landmarks, beats: EchoBeats) -> float:
    """Distance of a recording to a video in rate and rhythm."""
    intervals = np.diff(landmarks.r_s)
    rate = abs(np.log(float(np.median(intervals)) / beats.interval_s))
    return float(rate + abs(intervals.std() / intervals.mean() - beats.irregularity))


class EcgArchive:
    """ECGs of a data set or of a folder of files, in `GROUPS` groups by a hash of their patient or name.

    Raises `InputError` for a folder that holds no ECG, or fewer than two.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder}; name the folder of an ECG archive, or `simulated`.")
        name = recognise(folder)
        self.records: Any = open_dataset(name, folder) if name and DATASETS.find(name).yields == "Ecg" else EcgFolder(folder)
        self.names: Sequence[str] = self.records.names
        entries = getattr(self.records, "entries", ())
        known = [str(getattr(entry, "patient", "") or own) for entry, own in zip(entries, self.names, strict=False)]
        patients = known or list(self.names)
        split_of = _splits(patients)
        self._groups: dict[str | None, dict[int, list[int]]] = {split: {} for split in (None, *SPLIT_SHARES)}
        for index, patient in enumerate(patients):
            for split in (None, split_of[patient]):
                self._groups[split].setdefault(group_of(patient, GROUPS), []).append(index)

    def group(self, number: int, split: str | None = None) -> list[int]:
        """Indices of the recordings of a group; of the next one that is not empty where an archive is small.

        split: Only recordings that belong to this split. Raises `InputError` where the archive is too small to have any.
        """
        groups = self._groups[None if split is None else _split_name(split)]
        if not groups:
            raise InputError(f"The ECG archive has too few patients to keep some for the split {split}; take a larger one.")
        return next(groups[key] for step in range(GROUPS) if (key := (number + step) % GROUPS) in groups)

    def read(self, index: int) -> tuple[Ecg, Landmarks] | None:
        """A recording and its beats; None where it cannot be read, or shows fewer than four beats."""
        try:
            ecg = self.records[index]
            found = find_landmarks(ecg)
        except InputError:
            return None
        return (ecg, found) if len(found) > 3 else None


def _split_name(name: str) -> str:
    """The split among `SPLIT_SHARES` that a data set means by a name, such as TRAIN or validation."""
    return next((split for split in SPLIT_SHARES if name.lower().startswith(split)), next(iter(SPLIT_SHARES)))


def _splits(patients: Sequence[str]) -> dict[str, str]:
    """Split of each patient of an archive: a share of them by the order of their hashes."""
    order = sorted(set(patients), key=lambda patient: (hash_of(f"split {patient}"), patient))
    ends = np.rint(np.cumsum(list(SPLIT_SHARES.values())) * len(order))
    names = list(SPLIT_SHARES)
    return {patient: names[int(np.searchsorted(ends, place, side="right"))] for place, patient in enumerate(order)}


@lru_cache(maxsize=1)
def _archive(folder: str) -> EcgArchive:
    return EcgArchive(Path(folder))
